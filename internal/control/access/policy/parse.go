package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Versions of the policy language. Variables came with the second.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// MaxBytes is the size of a policy, as IAM's managed policies have it.
const MaxBytes = 6144

const op = "policy: parse"

var actionPattern = regexp.MustCompile(`^(\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+)$`)

// Parse reads a document. What it does not understand it refuses: a rule that is not applied would be
// worse than none.
func Parse(text []byte) (*Document, error) {
	if len(text) > MaxBytes {
		return nil, fault.New(fault.Invalid, op, "the policy has %d bytes, more than %d", len(text), MaxBytes)
	}
	if err := checkNames(text); err != nil {
		return nil, fault.Wrap(op, err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var raw rawDocument
	if err := dec.Decode(&raw); err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	if raw.Version != "" && raw.Version != version2008 && raw.Version != version2012 {
		return nil, fault.New(fault.Invalid, op, "version %q is unknown", raw.Version).WithHint("it is " + version2012)
	}
	if len(raw.Statement) == 0 {
		return nil, fault.New(fault.Invalid, op, "the policy has no Statement")
	}
	d := &Document{}
	for i, r := range raw.Statement {
		st, err := r.parse(raw.Version == version2012)
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "statement %d: %w", i+1, err)
		}
		d.statements = append(d.statements, st)
	}
	return d, nil
}

type rawDocument struct {
	Version   string
	ID        string `json:"Id"`
	Statement oneOrMore[rawStatement]
}

type rawStatement struct {
	SID         string `json:"Sid"`
	Effect      string
	Action      oneOrMore[string]
	NotAction   oneOrMore[string]
	Resource    oneOrMore[string]
	NotResource oneOrMore[string]
	Condition   map[string]map[string]oneOrMore[scalar]
}

// oneOrMore is a value or a list of them.
type oneOrMore[T any] []T

// UnmarshalJSON reads either form.
func (o *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if b[0] == '[' {
		return dec.Decode((*[]T)(o))
	}
	*o = make([]T, 1)
	return dec.Decode(&(*o)[0])
}

// scalar is a condition's value; numbers and booleans are taken as they are written.
type scalar string

// UnmarshalJSON reads a string, a number or a boolean.
func (s *scalar) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, (*string)(s))
	case '{', '[', 'n':
		return errors.New("a condition's value is a string, a number or a boolean")
	}
	*s = scalar(b)
	return nil
}

func (r rawStatement) parse(variables bool) (statement, error) {
	st := statement{deny: r.Effect == "Deny"}
	if !st.deny && r.Effect != "Allow" {
		return st, fault.New(fault.Invalid, "", "Effect is %q, not Allow or Deny", r.Effect)
	}
	if (len(r.Action) == 0) == (len(r.NotAction) == 0) {
		return st, fault.New(fault.Invalid, "", "exactly one of Action and NotAction is needed")
	}
	if (len(r.Resource) == 0) == (len(r.NotResource) == 0) {
		return st, fault.New(fault.Invalid, "", "exactly one of Resource and NotResource is needed")
	}
	var err error
	for _, list := range []struct {
		from  []string
		to    *[]pattern
		parse func(string) (pattern, error)
	}{
		{r.Action, &st.actions, parseAction},
		{r.NotAction, &st.notActions, parseAction},
		{r.Resource, &st.resources, func(s string) (pattern, error) { return parseResource(s, variables) }},
		{r.NotResource, &st.notResources, func(s string) (pattern, error) { return parseResource(s, variables) }},
	} {
		for _, s := range list.from {
			p, err := list.parse(s)
			if err != nil {
				return st, err
			}
			*list.to = append(*list.to, p)
		}
	}
	st.conditions, err = parseConditions(r.Condition, variables)
	return st, err
}

// parseAction reads an action; its case does not count.
func parseAction(s string) (pattern, error) {
	if !actionPattern.MatchString(s) {
		return nil, fault.New(fault.Invalid, "", "action %q does not look like service:Name", s)
	}
	return parsePattern(lower(s), false)
}

// parseResource reads a resource: an ARN with wildcards, or a pattern that begins with one.
func parseResource(s string, variables bool) (pattern, error) {
	if s != Any && (!strings.HasPrefix(s, "arn:") || strings.Count(s, ":") < 5) {
		return nil, fault.New(fault.Invalid, "", "resource %q is neither * nor an ARN", s).
			WithHint("it looks like arn:aws:drs:*:*:source-server/*")
	}
	return parsePattern(s, variables)
}

func parseConditions(raw map[string]map[string]oneOrMore[scalar], variables bool) ([]condition, error) {
	var out []condition
	for operator, keys := range raw {
		for key, values := range keys {
			c, err := parseCondition(operator, key, values, variables)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	// Cheap ones first: a resource's tags must be fetched.
	slices.SortFunc(out, func(a, b condition) int {
		return boolInt(a.key.costly) - boolInt(b.key.costly)
	})
	return out, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkNames refuses an object that has one name twice: JSON readers disagree on which counts.
func checkNames(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := checkValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "", "something follows the policy")
	}
	return nil
}

const maxDepth = 10 // a policy has six levels

func checkValue(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return fault.New(fault.Invalid, "", "the policy is not JSON: %w", err)
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxDepth {
		return fault.New(fault.Invalid, "", "the policy is nested too deeply")
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			name, err := dec.Token()
			if err != nil {
				return fault.New(fault.Invalid, "", "the policy is not JSON: %w", err)
			}
			key := lower(name.(string)) // always a string, or the decoder had refused
			if seen[key] {
				return fault.New(fault.Invalid, "", "%q is there twice", name)
			}
			seen[key] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fault.New(fault.Invalid, "", "the policy is not JSON: %w", err)
	}
	return nil
}
