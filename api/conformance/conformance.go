// Package conformance makes requests of an operation's shapes, valid ones and ones that break a single
// constraint, and judges answers by the same shapes. Only tests import it: those of any endpoint that
// speaks the services' protocol.
package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/api/rest/sample"
)

// Case is one request of an operation.
type Case struct {
	Name   string
	Values map[string]any // by member of the input
	// Member is the path of the one that breaks its constraint, as a ValidationException names it; empty
	// in a valid request.
	Member string
	// Reason is what the exception must give; empty in a valid request.
	Reason string
}

// Known replaces made-up values, by member or shape name, with those of things that exist. A list of
// which an element is known has that one element.
type Known map[string]any

// Valid are the least and the most that an operation takes.
func Valid(op *rest.Operation, known Known) []Case {
	return []Case{
		{Name: "minimal", Values: values(op, known, false)},
		{Name: "maximal", Values: values(op, known, true)},
	}
}

func values(op *rest.Operation, known Known, full bool) map[string]any {
	made := sample.Maker{Seed: 1, Full: full}.Value(op.Input)
	v, _ := known.into("", op.Input, made).(map[string]any)
	return v
}

// into puts known values into a made-up one.
func (k Known) into(name string, s *rest.Shape, v any) any {
	for _, key := range []string{name, s.Name} {
		if have, ok := k[key]; ok && key != "" {
			return clone(have)
		}
	}
	switch x := v.(type) {
	case []any:
		if _, ok := k[s.Elem.Name]; ok && len(x) > 0 {
			x = x[:1]
		}
		for i := range x {
			x[i] = k.into("", s.Elem, x[i])
		}
		return x
	case map[string]any:
		if s.Kind == rest.Map {
			for key := range x {
				x[key] = k.into("", s.Elem, x[key])
			}
			return x
		}
		for i := range s.Members {
			m := &s.Members[i]
			if have, ok := x[m.Name]; ok {
				x[m.Name] = k.into(m.Name, m.Shape, have)
			}
		}
		return x
	}
	return v
}

// clone copies a JSON value.
func clone(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// HTTP is a case's request line and body.
func HTTP(op *rest.Operation, c Case) (method, path, body string, err error) {
	path, query, members := op.Path, url.Values{}, map[string]any{}
	for i := range op.Input.Members {
		m := &op.Input.Members[i]
		v, ok := c.Values[m.Name]
		switch {
		case !ok:
		case m.In == rest.Label:
			path = strings.Replace(path, "{"+m.Name+"}", url.PathEscape(fmt.Sprint(v)), 1)
		case m.In == rest.Query:
			list, many := v.([]any)
			if !many {
				list = []any{v}
			}
			for _, e := range list {
				query.Add(m.Name, fmt.Sprint(e))
			}
		default:
			members[m.Name] = v
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	raw, err := json.Marshal(members)
	return op.Method, path, string(raw), err
}
