// Package sample makes JSON values that fit a shape, for tests that must cover every operation. Only tests
// import it.
package sample

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/understudy-dr/understudy/api/rest"
)

// Maker makes values. The same Maker always makes the same ones.
type Maker struct {
	Seed int
	Full bool // every member and several elements, instead of what is required
}

// Value is a value of the shape as encoding/json would decode it, with int64 for whole numbers.
func (m Maker) Value(s *rest.Shape) any {
	switch s.Kind {
	case rest.Structure:
		return m.structure(s)
	case rest.List:
		list := make([]any, m.count(s.Bounds))
		for i := range list {
			list[i] = Maker{m.Seed + i, m.Full}.Value(s.Elem)
		}
		return list
	case rest.Map:
		obj := map[string]any{}
		for i := range m.count(s.Bounds) {
			obj[Maker{m.Seed + i, m.Full}.text(s.Key)] = m.Value(s.Elem)
		}
		return obj
	case rest.String:
		return m.text(s)
	case rest.Boolean:
		return true
	case rest.Float:
		return 1.5
	case rest.ISOTime:
		return "2026-11-22T10:00:00.123456Z"
	case rest.EpochTime:
		return int64(1795341600)
	}
	return m.number(s.Bounds)
}

func (m Maker) structure(s *rest.Shape) map[string]any {
	obj := map[string]any{}
	for i := range s.Members {
		member := &s.Members[i]
		if member.Required || m.Full || s.Union {
			obj[member.Name] = m.Value(member.Shape)
		}
		if s.Union {
			break // exactly one
		}
	}
	return obj
}

// count is the number of elements: the fewest, or up to three.
func (m Maker) count(b *rest.Bounds) int {
	few, many := int64(0), int64(3)
	if b != nil {
		few, many = max(0, b.Min), min(3, b.Max)
	}
	if m.Full {
		return int(max(few, many))
	}
	return int(few)
}

func (m Maker) number(b *rest.Bounds) int64 {
	switch {
	case b == nil:
		return 7
	case m.Full && b.Max != rest.NoMax:
		return b.Max
	case b.Min != rest.NoMin:
		return b.Min
	}
	return 7
}

// text is a string that matches and is of the right length; of an enum, one of its values.
func (m Maker) text(s *rest.Shape) string {
	if s.Enum != nil {
		return s.Enum[m.Seed%len(s.Enum)]
	}
	if s.Pattern == nil {
		least := int64(1)
		if s.Bounds != nil {
			least = max(min(1, s.Bounds.Max), s.Bounds.Min)
		}
		return fmt.Sprintf("%0*d", least, m.Seed)[:least]
	}
	expr := s.Pattern.RE2
	if expr == "" {
		expr = s.Pattern.Expr
	}
	if t, ok := m.matching(s, expr); ok {
		return t
	}
	if s.Bounds != nil { // long enough by chance never: say the length in the expression
		if t, ok := m.matching(s, "(?:"+expr+"){1,"+strconv.FormatInt(min(s.Bounds.Min, 100), 10)+"}"); ok {
			return t
		}
	}
	return "" // the test that uses it will say so
}

func (m Maker) matching(s *rest.Shape, expr string) (string, bool) {
	gen := rapid.StringMatching(expr)
	for seed := range 2000 {
		t := gen.Example(m.Seed + seed)
		n := int64(utf8.RuneCountInString(t))
		if s.Pattern.Match(t) && (s.Bounds == nil || s.Bounds.Min <= n && n <= s.Bounds.Max) {
			return t, true
		}
	}
	return "", false
}
