package conformance

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/api/rest"
)

// most bounds how large a value is made to break an upper bound: a request has a largest size of its own.
const most = 600_000

// Broken are all requests that break exactly one constraint of an operation's input.
func Broken(op *rest.Operation) []Case {
	b := breaker{op: op}
	for i := range op.Input.Members {
		m := &op.Input.Members[i]
		full := values(op, nil, true)
		b.in = m.In
		at := func(values map[string]any) place {
			return place{
				get: func() any { return values[m.Name] }, set: func(v any) { values[m.Name] = v },
				drop: func() { delete(values, m.Name) },
			}
		}
		b.member(m, m.Name, func() (map[string]any, place) {
			copied, _ := clone(full).(map[string]any)
			return copied, at(copied)
		})
	}
	return b.cases
}

// place is where a value is in a request.
type place struct {
	get  func() any
	set  func(any)
	drop func()
}

// locate makes a fresh request and finds the value in it.
type locate func() (map[string]any, place)

type breaker struct {
	op    *rest.Operation
	in    rest.Location
	cases []Case
}

func (b *breaker) add(what, member, reason string, at locate, change func(place)) {
	v, p := at()
	change(p)
	b.cases = append(b.cases, Case{Name: member + " " + what, Values: v, Member: member, Reason: reason})
}

// replace adds a case with another value in the place.
func (b *breaker) replace(what, member string, at locate, v any) {
	b.add(what, member, rest.ReasonFieldValidation, at, func(p place) { p.set(v) })
}

func (b *breaker) member(m *rest.Member, path string, at locate) {
	if m.Required && m.In != rest.Label { // without its label a path is another one
		b.add("missing", path, rest.ReasonFieldValidation, at, func(p place) { p.drop() })
	}
	b.value(m.Shape, path, false, at)
}

func (b *breaker) value(s *rest.Shape, path string, hidden bool, at locate) {
	hidden = hidden || s.Sensitive
	if wrong, ok := b.wrongType(s); ok {
		b.add("of the wrong type", path, rest.ReasonCannotParse, at, func(p place) { p.set(wrong) })
	}
	switch s.Kind {
	case rest.Structure:
		b.structure(s, path, hidden, at)
	case rest.List:
		b.list(s, path, hidden, at)
	case rest.Map:
		b.mapping(s, path, hidden, at)
	case rest.String:
		b.text(s, path, at)
	case rest.Integer, rest.Long:
		b.number(s, path, at)
	}
}

// wrongType is a value of another JSON type. A path or query has only text.
func (b *breaker) wrongType(s *rest.Shape) (any, bool) {
	switch {
	case s.Kind == rest.String || s.Kind == rest.ISOTime:
		return int64(7), b.in == rest.Body
	case s.Kind == rest.List && b.in == rest.Query:
		return nil, false
	}
	return "seven", true
}

func (b *breaker) structure(s *rest.Shape, path string, hidden bool, at locate) {
	if s.Union {
		b.replace("without a member", path, at, map[string]any{})
	}
	_, here := at()
	have, _ := here.get().(map[string]any)
	for i := range s.Members {
		m := &s.Members[i]
		if _, ok := have[m.Name]; !ok {
			continue // another member of a union
		}
		inside := func() (map[string]any, place) {
			v, p := at()
			obj, _ := p.get().(map[string]any)
			return v, place{
				get: func() any { return obj[m.Name] }, set: func(v any) { obj[m.Name] = v }, drop: func() { delete(obj, m.Name) },
			}
		}
		if m.Required && !s.Union {
			b.add("missing", path+"."+m.Name, rest.ReasonFieldValidation, inside, func(p place) { p.drop() })
		}
		b.value(m.Shape, path+"."+m.Name, hidden, inside)
	}
}

func (b *breaker) list(s *rest.Shape, path string, hidden bool, at locate) {
	_, here := at()
	have, _ := here.get().([]any)
	if len(have) == 0 {
		return
	}
	if s.Bounds != nil {
		if n := s.Bounds.Min; n > 0 && b.in != rest.Query {
			b.replace("too short", path, at, have[:n-1])
		}
		if n := s.Bounds.Max; n < most/100 {
			b.replace("too long", path, at, slices.Repeat(have[:1], int(n)+1))
		}
	}
	b.value(s.Elem, path+".1.member", hidden, func() (map[string]any, place) {
		v, p := at()
		list, _ := p.get().([]any)
		return v, place{get: func() any { return list[0] }, set: func(v any) { list[0] = v }, drop: func() {}}
	})
}

func (b *breaker) mapping(s *rest.Shape, path string, hidden bool, at locate) {
	_, here := at()
	have, _ := here.get().(map[string]any)
	if len(have) == 0 {
		return
	}
	keys := make([]string, 0, len(have))
	for k := range have {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	key := keys[0]
	if s.Bounds != nil && s.Bounds.Max < most/100 {
		more := map[string]any{}
		for i := range int(s.Bounds.Max) + 1 {
			more["key"+strconv.Itoa(i)] = have[key]
		}
		if s.Key.Pattern == nil || s.Key.Pattern.Match("key0") {
			b.replace("too large", path, at, more)
		}
	}
	for what, text := range badTexts(s.Key) {
		b.replace("with a key "+what, path+".key", at, map[string]any{text: have[key]})
	}
	inner := path + "." + key + ".member"
	if hidden || s.Sensitive {
		inner = path + ".value"
	}
	b.value(s.Elem, inner, hidden || s.Sensitive, func() (map[string]any, place) {
		v, p := at()
		obj, _ := p.get().(map[string]any)
		return v, place{get: func() any { return obj[key] }, set: func(v any) { obj[key] = v }, drop: func() {}}
	})
}

func (b *breaker) text(s *rest.Shape, path string, at locate) {
	bad := badTexts(s)
	what := make([]string, 0, len(bad))
	for w := range bad {
		what = append(what, w)
	}
	sort.Strings(what)
	for _, w := range what {
		if bad[w] == "" && b.in == rest.Label {
			continue
		}
		b.replace(w, path, at, bad[w])
	}
}

// badTexts are strings that a shape forbids, by what is wrong with them.
func badTexts(s *rest.Shape) map[string]string {
	out := map[string]string{}
	good, _ := sampleText(s)
	if s.Bounds != nil {
		if s.Bounds.Min > 0 {
			out["too short"] = cut(good, int(s.Bounds.Min)-1)
		}
		if s.Bounds.Max < most {
			out["too long"] = good + strings.Repeat("a", int(s.Bounds.Max)+1-utf8.RuneCountInString(good))
		}
	}
	if s.Enum != nil {
		out["not in the enumeration"] = "NO_SUCH_VALUE"
	}
	if s.Pattern != nil {
		for _, t := range []string{good + "\n", " " + good, "!" + cut(good, len(good)-1), "\x00", strings.Repeat("!", max(1, len(good)))} {
			if !s.Pattern.Match(t) && withinBounds(s.Bounds, t) {
				out["not of the pattern"] = t
				break
			}
		}
	}
	return out
}

func cut(s string, n int) string {
	return string([]rune(s)[:max(0, min(n, utf8.RuneCountInString(s)))])
}

func withinBounds(b *rest.Bounds, s string) bool {
	n := int64(utf8.RuneCountInString(s))
	return b == nil || b.Min <= n && n <= b.Max
}

func (b *breaker) number(s *rest.Shape, path string, at locate) {
	if s.Bounds == nil {
		return
	}
	if s.Bounds.Min != rest.NoMin {
		b.replace("too small", path, at, s.Bounds.Min-1)
	}
	largest := int64(1<<31 - 1)
	if s.Kind == rest.Long {
		largest = 1<<62 - 1
	}
	if s.Bounds.Max < largest {
		b.replace("too large", path, at, s.Bounds.Max+1)
	}
}

func (c Case) String() string { return fmt.Sprintf("%s %v", c.Name, c.Values) }
