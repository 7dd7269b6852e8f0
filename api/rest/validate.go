package rest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reasons of a ValidationException.
const (
	ReasonUnknownOperation = "unknownOperation"
	ReasonCannotParse      = "cannotParse"
	ReasonFieldValidation  = "fieldValidationFailed"
	ReasonOther            = "other"
)

// maxProblems bounds the list of bad fields: an answer stays small whatever the request.
const maxProblems = 100

// Field is one bad field of a request.
type Field struct{ Name, Message string }

// problems collects what is wrong with one input.
type problems struct {
	fields   []Field
	texts    []string
	mismatch string // the first value of the wrong JSON type
}

func (p *problems) add(path, value, constraint string) {
	if len(p.fields) >= maxProblems {
		return
	}
	p.fields = append(p.fields, Field{Name: path, Message: constraint})
	p.texts = append(p.texts, fmt.Sprintf("Value %sat '%s' failed to satisfy constraint: %s", value, path, constraint))
}

func (p *problems) missing(path string) { p.add(path, "null ", "Member must not be null") }

func (p *problems) wrongType(path, want string) {
	if p.mismatch == "" {
		p.mismatch = fmt.Sprintf("%s: expected %s", path, want)
	}
}

// detail is the outcome, nil when the input is good.
func (p *problems) detail() *Detail {
	switch {
	case p.mismatch != "":
		return &Detail{Message: "Could not parse request: " + p.mismatch, Reason: ReasonCannotParse}
	case len(p.fields) == 1:
		return &Detail{Message: "1 validation error detected: " + p.texts[0], Reason: ReasonFieldValidation, Fields: p.fields}
	case len(p.fields) > 1:
		text := fmt.Sprintf("%d validation errors detected: %s", len(p.fields), strings.Join(p.texts, "; "))
		return &Detail{Message: text, Reason: ReasonFieldValidation, Fields: p.fields}
	}
	return nil
}

// checkLength checks the number of characters or elements.
func (p *problems) checkLength(path, shown string, b *Bounds, n int) {
	if b == nil {
		return
	}
	if int64(n) < b.Min {
		p.add(path, shown, "Member must have length greater than or equal to "+strconv.FormatInt(b.Min, 10))
	}
	if int64(n) > b.Max {
		p.add(path, shown, "Member must have length less than or equal to "+strconv.FormatInt(b.Max, 10))
	}
}

func (p *problems) checkRange(path, shown string, b *Bounds, n int64) {
	if b == nil {
		return
	}
	if n < b.Min {
		p.add(path, shown, "Member must have value greater than or equal to "+strconv.FormatInt(b.Min, 10))
	}
	if n > b.Max {
		p.add(path, shown, "Member must have value less than or equal to "+strconv.FormatInt(b.Max, 10))
	}
}

func (p *problems) checkText(path, shown string, s *Shape, text string) {
	if s.Enum != nil && !slices.Contains(s.Enum, text) {
		p.add(path, shown, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	if s.Pattern != nil && !s.Pattern.Match(text) {
		p.add(path, shown, "Member must satisfy regular expression pattern: "+s.Pattern.Expr)
	}
}

// show quotes a value for a message, with a space behind it: cut when long, left out when sensitive.
func show(text string, sensitive bool) string {
	const most = 256
	if sensitive {
		return ""
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "..."
	}
	return "'" + text + "' "
}
