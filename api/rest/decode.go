package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Request is what an operation's input is read from.
type Request struct {
	Label string // the path's label, percent-decoded
	Query url.Values
	Body  []byte
}

// Decode reads and validates an input. in is a pointer to the operation's input type. A non-nil Detail
// says everything that is wrong; in must not be used then.
func (op *Operation) Decode(req Request, in any) *Detail {
	body, err := parseObject(req.Body)
	if err != nil {
		return &Detail{Message: "Could not parse request body: " + err.Error(), Reason: ReasonCannotParse}
	}
	var p problems
	p.structure(reflect.ValueOf(in).Elem(), op.Input, "", false, func(m *Member) any {
		switch m.In {
		case Label:
			return req.Label
		case Query:
			return queryValue(m.Shape, req.Query[m.Name])
		}
		return body[m.Name]
	})
	return p.detail()
}

// parseObject reads exactly one JSON object; no body at all is an empty one.
func parseObject(b []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, errors.New("malformed JSON: " + err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON value")
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("expected a JSON object")
	}
	return obj, nil
}

// queryValue turns query parameters into what JSON would have given.
func queryValue(s *Shape, values []string) any {
	if len(values) == 0 {
		return nil
	}
	switch s.Kind {
	case List:
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = queryValue(s.Elem, []string{v})
		}
		return list
	case Integer, Long, Float:
		return json.Number(values[0])
	case Boolean:
		if b, err := strconv.ParseBool(values[0]); err == nil {
			return b
		}
	}
	return values[0]
}

// structure fills a Go struct whose fields are in the order of the shape's members.
func (p *problems) structure(v reflect.Value, s *Shape, path string, hidden bool, get func(*Member) any) {
	set := 0
	for i := range s.Members {
		m := &s.Members[i]
		raw := get(m)
		if raw == nil {
			if m.Required {
				p.missing(join(path, m.Name))
			}
			continue
		}
		set++
		p.value(v.Field(i), m.Shape, join(path, m.Name), hidden, raw)
	}
	if s.Union && set != 1 {
		p.add(path, "of union ", "Exactly one member must be set")
	}
}

// value decodes raw into v and checks it. hidden is true inside a sensitive shape.
func (p *problems) value(v reflect.Value, s *Shape, path string, hidden bool, raw any) {
	hidden = hidden || s.Sensitive
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.Kind {
	case Structure:
		obj, ok := raw.(map[string]any)
		if !ok {
			p.wrongType(path, "an object")
			return
		}
		p.structure(v, s, path, hidden, func(m *Member) any { return obj[m.Name] })
	case List:
		p.list(v, s, path, hidden, raw)
	case Map:
		p.mapping(v, s, path, hidden, raw)
	default:
		p.scalar(v, s, path, hidden, raw)
	}
}

func (p *problems) list(v reflect.Value, s *Shape, path string, hidden bool, raw any) {
	list, ok := raw.([]any)
	if !ok {
		p.wrongType(path, "a list")
		return
	}
	p.checkLength(path, show("list of "+strconv.Itoa(len(list)), hidden), s.Bounds, len(list))
	v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	for i, item := range list {
		at := path + "." + strconv.Itoa(i+1) + ".member"
		if item == nil {
			p.missing(at)
			continue
		}
		p.value(v.Index(i), s.Elem, at, hidden, item)
	}
}

func (p *problems) mapping(v reflect.Value, s *Shape, path string, hidden bool, raw any) {
	obj, ok := raw.(map[string]any)
	if !ok {
		p.wrongType(path, "an object")
		return
	}
	p.checkLength(path, show("map of "+strconv.Itoa(len(obj)), hidden), s.Bounds, len(obj))
	v.Set(reflect.MakeMapWithSize(v.Type(), len(obj)))
	for _, k := range sortedKeys(obj) {
		key := reflect.New(v.Type().Key()).Elem()
		p.scalar(key, s.Key, path+".key", hidden, k)
		at := path + "." + k + ".member"
		if hidden {
			at = path + ".value"
		}
		if obj[k] == nil {
			p.missing(at)
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		p.value(elem, s.Elem, at, hidden, obj[k])
		v.SetMapIndex(key, elem)
	}
}

func (p *problems) scalar(v reflect.Value, s *Shape, path string, hidden bool, raw any) {
	switch s.Kind {
	case String:
		text, ok := raw.(string)
		if !ok {
			p.wrongType(path, "a string")
			return
		}
		text = strings.ToValidUTF8(text, "\uFFFD") // of a path or a query; encoding/json does so to bytes and to lone surrogates
		shown := show(text, hidden || s.Sensitive)
		p.checkLength(path, shown, s.Bounds, utf8.RuneCountInString(text))
		p.checkText(path, shown, s, text)
		v.SetString(text)
	case Integer, Long:
		p.integer(v, s, path, raw)
	case Float:
		n, ok := raw.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil {
			p.wrongType(path, "a number")
			return
		}
		v.SetFloat(f)
	case Boolean:
		b, ok := raw.(bool)
		if !ok {
			p.wrongType(path, "a boolean")
			return
		}
		v.SetBool(b)
	case EpochTime, ISOTime:
		t, ok := parseTime(raw)
		if !ok {
			p.wrongType(path, "a timestamp")
			return
		}
		v.Set(reflect.ValueOf(t))
	}
}

func (p *problems) integer(v reflect.Value, s *Shape, path string, raw any) {
	n, ok := raw.(json.Number)
	bits := 64
	if s.Kind == Integer {
		bits = 32
	}
	i, err := strconv.ParseInt(n.String(), 10, bits)
	if !ok || err != nil {
		p.wrongType(path, "an integer")
		return
	}
	p.checkRange(path, show(n.String(), s.Sensitive), s.Bounds, i)
	v.SetInt(i)
}

func parseTime(raw any) (time.Time, bool) {
	switch x := raw.(type) {
	case json.Number:
		f, err := x.Float64()
		const farthest = 253402300799 // the end of the year 9999
		if err != nil || f < -farthest || f > farthest {
			return time.Time{}, false
		}
		return time.UnixMicro(int64(f * 1e6)).UTC(), true
	case string:
		t, err := time.Parse(time.RFC3339Nano, x)
		return t.UTC(), err == nil
	}
	return time.Time{}, false
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
