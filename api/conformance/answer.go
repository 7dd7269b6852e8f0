package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/api/rest/sample"
)

func sampleText(s *rest.Shape) (string, bool) {
	t, ok := sample.Maker{Seed: 1, Full: true}.Value(s).(string)
	return t, ok
}

// Answer is what an endpoint said.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Code is the error's code; empty for a success.
func (a Answer) Code() string { return a.Header.Get(rest.HeaderErrorType) }

// Result lists what is wrong with a successful answer.
func Result(op *rest.Operation, a Answer) []string {
	var j judge
	if a.Status != op.Status {
		j.add("", "status is %d, the model has %d: %s", a.Status, op.Status, a.Body)
		return j.wrong
	}
	if op.Output == nil || op.Status == http.StatusNoContent {
		if a.Body != "" {
			j.add("", "has a body: %s", a.Body)
		}
		return j.wrong
	}
	j.body(op.Output, a)
	return j.wrong
}

// Exception lists what is wrong with an answer that is an error of the service.
func Exception(s *rest.Service, a Answer) []string {
	var j judge
	x := s.Exception(a.Code(), rest.Detail{Message: "m", RetryAfter: time.Second})
	if x == nil {
		j.add("", "%q is no exception of the service", a.Code())
		return j.wrong
	}
	if a.Status != x.HTTPStatus() {
		j.add("", "%s has status %d, the model %d", a.Code(), a.Status, x.HTTPStatus())
	}
	j.body(x.ErrorShape(), a)
	if !strings.Contains(a.Body, `"message":"`) {
		j.add("", "%s without a message", a.Code())
	}
	return j.wrong
}

// Fields are the members that a ValidationException names.
func Fields(a Answer) (reason string, names []string) {
	var body struct {
		Reason    string
		FieldList []struct{ Name string }
	}
	if json.Unmarshal([]byte(a.Body), &body) != nil {
		return "", nil
	}
	for _, f := range body.FieldList {
		names = append(names, f.Name)
	}
	return body.Reason, names
}

// judge compares JSON with shapes.
type judge struct{ wrong []string }

func (j *judge) add(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	j.wrong = append(j.wrong, text)
}

func (j *judge) body(s *rest.Shape, a Answer) {
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		j.add("", "content type is %q", got)
	}
	dec := json.NewDecoder(strings.NewReader(a.Body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		j.add("", "no JSON: %v", err)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		j.add("", "more than one JSON value")
	}
	j.value("body", s, v)
}

func (j *judge) value(path string, s *rest.Shape, v any) {
	if v == nil {
		j.add(path, "is null: absent members are left out")
		return
	}
	switch s.Kind {
	case rest.Structure:
		j.structure(path, s, v)
	case rest.List:
		list, ok := v.([]any)
		if !ok {
			j.add(path, "is no list")
		}
		j.bounds(path, s, int64(len(list)))
		for i, e := range list {
			j.value(fmt.Sprintf("%s[%d]", path, i), s.Elem, e)
		}
	case rest.Map:
		obj, ok := v.(map[string]any)
		if !ok {
			j.add(path, "is no map")
		}
		j.bounds(path, s, int64(len(obj)))
		for k, e := range obj {
			j.value(path+" key", s.Key, k)
			j.value(path+"."+k, s.Elem, e)
		}
	case rest.String:
		j.text(path, s, v)
	default:
		j.plain(path, s, v)
	}
}

func (j *judge) structure(path string, s *rest.Shape, v any) {
	obj, ok := v.(map[string]any)
	if !ok {
		j.add(path, "is no structure")
		return
	}
	for i := range s.Members {
		m := &s.Members[i]
		e, ok := obj[m.Name]
		switch {
		case m.In != rest.Body:
		case ok:
			j.value(path+"."+m.Name, m.Shape, e)
		case m.Required || m.Present:
			j.add(path+"."+m.Name, "is missing")
		}
	}
	for name := range obj {
		if !slices.ContainsFunc(s.Members, func(m rest.Member) bool { return m.Name == name && m.In == rest.Body }) {
			j.add(path+"."+name, "is not in the model")
		}
	}
}

func (j *judge) text(path string, s *rest.Shape, v any) {
	t, ok := v.(string)
	if !ok {
		j.add(path, "is no string")
		return
	}
	j.bounds(path, s, int64(utf8.RuneCountInString(t)))
	if s.Enum != nil && !slices.Contains(s.Enum, t) {
		j.add(path, "%q is not in the enumeration", t)
	}
	if s.Pattern != nil && !s.Pattern.Match(t) {
		j.add(path, "%q does not match %s", t, s.Pattern.Expr)
	}
}

func (j *judge) plain(path string, s *rest.Shape, v any) {
	var ok bool
	switch s.Kind {
	case rest.Boolean:
		_, ok = v.(bool)
	case rest.ISOTime:
		var t string
		if t, ok = v.(string); ok {
			_, err := time.Parse(time.RFC3339Nano, t)
			ok = err == nil
		}
	case rest.Float, rest.EpochTime:
		_, ok = v.(json.Number)
	default:
		var n json.Number
		if n, ok = v.(json.Number); ok {
			i, err := n.Int64()
			ok = err == nil && (s.Kind == rest.Long || i == int64(int32(i)))
			j.bounds(path, s, i)
		}
	}
	if !ok {
		j.add(path, "%v is not of its type", v)
	}
}

func (j *judge) bounds(path string, s *rest.Shape, n int64) {
	if s.Bounds != nil && (n < s.Bounds.Min || n > s.Bounds.Max) {
		j.add(path, "%d is not in [%d, %d]", n, s.Bounds.Min, s.Bounds.Max)
	}
}
