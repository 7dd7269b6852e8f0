package main

import (
	"fmt"
	"strconv"
	"strings"
)

// writeShapes writes the descriptors that the runtime interprets.
func writeShapes(m *model, s *source) error {
	s.use(restPackage)
	s.p("var (")
	for _, name := range sorted(m.Shapes) {
		if err := m.writeShape(s, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.p(")")
	return nil
}

func shapeVar(name string) string { return "shape" + exported(name) }

func (m *model) writeShape(s *source, name string) error {
	sh := m.Shapes[name]
	kind, err := kindOf(sh)
	if err != nil {
		return err
	}
	fields := []string{"Name: " + strconv.Quote(name), "Kind: rest." + kind}
	if sh.Min != nil || sh.Max != nil {
		fields = append(fields, "Bounds: "+bounds(sh))
	}
	if sh.Pattern != "" {
		p, err := pattern(sh.Pattern)
		if err != nil {
			return err
		}
		fields = append(fields, "Pattern: "+p)
	}
	if sh.Enum != nil {
		fields = append(fields, "Enum: "+stringList(sh.Enum))
	}
	if sh.Key != nil {
		fields = append(fields, "Key: "+shapeVar(sh.Key.Shape), "Elem: "+shapeVar(sh.Value.Shape))
	}
	if sh.Member != nil {
		fields = append(fields, "Elem: "+shapeVar(sh.Member.Shape))
	}
	if sh.Union {
		fields = append(fields, "Union: true")
	}
	if sh.Sensitive {
		fields = append(fields, "Sensitive: true")
	}
	s.p("%s = &rest.Shape{%s", shapeVar(name), strings.Join(fields, ", "))
	if len(sh.Members) > 0 {
		s.body.Truncate(s.body.Len() - 1)
		s.p(", Members: []rest.Member{")
		for _, member := range sorted(sh.Members) {
			s.p("%s,", m.member(sh, member))
		}
		s.p("}")
	}
	s.body.Truncate(s.body.Len() - 1)
	s.p("}")
	return nil
}

func (m *model) member(parent *shape, member string) string {
	r := parent.Members[member]
	wire := member
	if r.LocationName != "" {
		wire = r.LocationName
	}
	fields := []string{"Name: " + strconv.Quote(wire), "Shape: " + shapeVar(r.Shape)}
	if parent.requires(member) {
		fields = append(fields, "Required: true")
	}
	if m.alwaysPresent(parent, member) {
		fields = append(fields, "Present: true")
	}
	if in := map[string]string{"uri": "Label", "querystring": "Query", "header": "Header"}[r.Location]; in != "" {
		fields = append(fields, "In: rest."+in)
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// alwaysPresent tells the members that real answers carry even when they are empty, and that clients
// index without asking: the list of a page, and tags.
func (m *model) alwaysPresent(parent *shape, member string) bool {
	if parent.Members[member].Shape == "TagsMap" {
		return true
	}
	for name, p := range m.Pagination {
		op := m.Operations[name]
		if p.ResultKey == member && op.Output != nil && m.Shapes[op.Output.Shape] == parent {
			return true
		}
	}
	return false
}

func kindOf(sh *shape) (string, error) {
	kinds := map[string]string{
		"structure": "Structure", "list": "List", "map": "Map", "string": "String",
		"integer": "Integer", "long": "Long", "float": "Float", "boolean": "Boolean",
	}
	if sh.Type == "timestamp" {
		switch sh.TimestampFormat {
		case "iso8601":
			return "ISOTime", nil
		case "", "unixTimestamp": // the protocol's default for bodies
			return "EpochTime", nil
		}
		return "", fmt.Errorf("timestamp format %s is unknown", sh.TimestampFormat)
	}
	kind, ok := kinds[sh.Type]
	if !ok {
		return "", fmt.Errorf("type %s is unknown", sh.Type)
	}
	return kind, nil
}

func bounds(sh *shape) string {
	least, most := "rest.NoMin", "rest.NoMax"
	if sh.Min != nil {
		least = strconv.FormatInt(*sh.Min, 10)
	}
	if sh.Max != nil {
		most = strconv.FormatInt(*sh.Max, 10)
	}
	return "&rest.Bounds{Min: " + least + ", Max: " + most + "}"
}

func stringList(list []string) string {
	quoted := make([]string, len(list))
	for i, v := range list {
		quoted[i] = strconv.Quote(v)
	}
	return "[]string{" + strings.Join(quoted, ", ") + "}"
}
