package main

import (
	"fmt"
	"strconv"
)

// writeTypes writes the Go types of structures. Fields are in the order of the shape's members, which
// is what the runtime relies on.
func writeTypes(m *model, s *source) error {
	for _, name := range m.structures() {
		if m.usesTime(name) {
			s.use("time")
			break
		}
	}
	for _, name := range m.structures() {
		s.p("// %s is the structure %s.", exported(name), name)
		if err := m.writeStruct(s, name); err != nil {
			return err
		}
	}
	for _, op := range sorted(m.Operations) {
		for _, a := range m.aliases(op) {
			if a.target == "" {
				s.p("// %s is empty: %s answers without a body.", a.name, op)
				s.p("type %s struct{}\n", a.name)
				continue
			}
			s.p("// %s is what %s answers.", a.name, op)
			s.p("type %s = %s\n", a.name, exported(a.target))
		}
	}
	return nil
}

func (m *model) writeStruct(s *source, name string) error {
	sh := m.Shapes[name]
	s.p("type %s struct {", exported(name))
	for _, member := range sorted(sh.Members) {
		t, err := m.fieldType(sh, member)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", name, member, err)
		}
		s.p("%s %s", exported(member), t)
	}
	s.p("}\n")
	return nil
}

// fieldType is a member's type: optional scalars are pointers, so that an absent one is told from a zero;
// enums are not, because none has an empty value, nor are the strings of exceptions.
func (m *model) fieldType(parent *shape, member string) (string, error) {
	target := parent.Members[member].Shape
	t, err := m.goType(target)
	if err != nil {
		return "", err
	}
	sh := m.Shapes[target]
	switch sh.Type {
	case "structure":
		return "*" + t, nil
	case "list", "map":
		return t, nil
	}
	if parent.requires(member) || sh.Enum != nil || (parent.Exception && sh.Type == "string") {
		return t, nil
	}
	return "*" + t, nil
}

func (m *model) goType(name string) (string, error) {
	sh, ok := m.Shapes[name]
	if !ok {
		return "", fmt.Errorf("no shape %s", name)
	}
	switch sh.Type {
	case "structure":
		return exported(name), nil
	case "list":
		t, err := m.goType(sh.Member.Shape)
		return "[]" + t, err
	case "map":
		k, err := m.goType(sh.Key.Shape)
		if err != nil {
			return "", err
		}
		v, err := m.goType(sh.Value.Shape)
		return "map[" + k + "]" + v, err
	case "string":
		if sh.Enum != nil {
			return exported(name), nil
		}
		return "string", nil
	}
	scalar, ok := map[string]string{
		"integer": "int32", "long": "int64", "float": "float64", "boolean": "bool", "timestamp": "time.Time",
	}[sh.Type]
	if !ok {
		return "", fmt.Errorf("shape %s has the unknown type %s", name, sh.Type)
	}
	return scalar, nil
}

func (m *model) usesTime(structure string) bool {
	for _, r := range m.Shapes[structure].Members {
		if m.Shapes[r.Shape].Type == "timestamp" {
			return true
		}
	}
	return false
}

// writeEnums writes a string type for each enum and a constant for each value.
func writeEnums(m *model, s *source) error {
	for _, name := range sorted(m.Shapes) {
		sh := m.Shapes[name]
		if sh.Enum == nil {
			continue
		}
		s.p("// %s is the enum %s.", exported(name), name)
		s.p("type %s string\n", exported(name))
		s.p("// Values of %s.", exported(name))
		s.p("const (")
		for _, v := range sh.Enum {
			s.p("%s %s = %s", enumConst(name, v), exported(name), strconv.Quote(v))
		}
		s.p(")\n")
	}
	return nil
}
