package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// model is a service description in botocore's form, reduced to facts.
type model struct {
	pkg        string
	Metadata   struct{ ServiceFullName string }
	Operations map[string]*operation
	Shapes     map[string]*shape
	Pagination map[string]*page
}

type operation struct {
	Name string
	HTTP struct {
		Method, RequestURI string
		ResponseCode       int
	}
	Input, Output *ref
	Errors        []ref
}

type ref struct {
	Shape                  string
	Location, LocationName string
}

type shape struct {
	Type            string
	Enum            []string
	Min, Max        *int64
	Pattern         string
	Members         map[string]ref
	Required        []string
	Member          *ref // of lists
	Key, Value      *ref // of maps
	TimestampFormat string
	Exception       bool
	Error           struct{ HTTPStatusCode int }
	Sensitive       bool
	Union           bool
}

type page struct {
	InputToken  string `json:"input_token"`
	OutputToken string `json:"output_token"`
	LimitKey    string `json:"limit_key"`
	ResultKey   string `json:"result_key"`
}

func load(path string) (*model, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var m model
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.renameIO()
	return &m, nil
}

// renameIO calls the input and output shapes of an operation by the operation's name; a shape that an
// operation shares keeps its own name and gets an alias.
func (m *model) renameIO() {
	for _, name := range sorted(m.Operations) {
		op := m.Operations[name]
		m.rename(op.Input, name+"Request", name+"Input")
		m.rename(op.Output, name+"Response", name+"Output")
	}
}

func (m *model) rename(r *ref, from, to string) {
	if r == nil || r.Shape != from {
		return
	}
	m.Shapes[to] = m.Shapes[from]
	delete(m.Shapes, from)
	r.Shape = to
}

// check refuses what the generated code could not express.
func (m *model) check() error {
	seen := map[string]string{"Handler": "", "Unavailable": "", "New": "", "Operations": ""}
	declare := func(id, by string) error {
		if other, ok := seen[id]; ok {
			return fmt.Errorf("the identifier %s of %s is taken by %q", id, by, other)
		}
		seen[id] = by
		return nil
	}
	for _, name := range sorted(m.Shapes) {
		s := m.Shapes[name]
		if s.Type != "structure" && s.Enum == nil {
			continue
		}
		if err := declare(exported(name), "shape "+name); err != nil {
			return err
		}
		for _, v := range s.Enum {
			if err := declare(enumConst(name, v), "enum "+name); err != nil {
				return err
			}
		}
	}
	for _, name := range sorted(m.Operations) {
		if m.Operations[name].Input == nil {
			return fmt.Errorf("operation %s has no input shape", name)
		}
		for _, alias := range m.aliases(name) {
			if err := declare(alias.name, "operation "+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// alias gives an operation's input or output its conventional name.
type alias struct{ name, target string } // target "" means that there is no such shape

func (m *model) aliases(opName string) (list []alias) {
	op := m.Operations[opName]
	for _, io := range []struct {
		suffix string
		r      *ref
	}{{"Input", op.Input}, {"Output", op.Output}} {
		switch name := opName + io.suffix; {
		case io.r == nil:
			list = append(list, alias{name: name})
		case io.r.Shape != name:
			list = append(list, alias{name, io.r.Shape})
		}
	}
	return list
}

// structures are the names of the structures that are no exceptions, in order.
func (m *model) structures() (names []string) {
	for _, n := range sorted(m.Shapes) {
		if s := m.Shapes[n]; s.Type == "structure" && !s.Exception {
			names = append(names, n)
		}
	}
	return names
}

func (m *model) exceptions() (names []string) {
	for _, n := range sorted(m.Shapes) {
		if m.Shapes[n].Exception {
			names = append(names, n)
		}
	}
	return names
}

func (s *shape) requires(member string) bool { return slices.Contains(s.Required, member) }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// exported makes a Go identifier of a model name.
func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// enumConst names the constant of an enum's value: READY_FOR_TEST becomes ReadyForTest.
func enumConst(shape, value string) string {
	var b strings.Builder
	b.WriteString(exported(shape))
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune("_-.:/ ", r) }) {
		if word == strings.ToUpper(word) {
			word = word[:1] + strings.ToLower(word[1:])
		}
		b.WriteString(exported(word))
	}
	return b.String()
}
