package main

import (
	"fmt"
	"strconv"
)

// writeErrors writes a type for each modelled exception and the constructor from a code.
func writeErrors(m *model, s *source) error {
	for _, name := range m.exceptions() {
		if _, ok := m.Shapes[name].Members["retryAfterSeconds"]; ok {
			s.use("strconv")
			s.use("time")
			s.use("")
			break
		}
	}
	s.use(restPackage)
	for _, name := range m.exceptions() {
		if err := m.writeException(s, name); err != nil {
			return err
		}
	}
	s.p("// newException makes the typed exception of a code, nil when the service has none.")
	s.p("func newException(code string, d rest.Detail) rest.Exception {")
	s.p("switch code {")
	for _, name := range m.exceptions() {
		s.p("case %s:", strconv.Quote(name))
		if err := m.writeConstruction(s, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.p("}\nreturn nil\n}\n")
	s.p("// retrySeconds is a delay as the Retry-After header has it, at least one second.")
	s.p("func retrySeconds(d time.Duration) int64 {\nreturn max(1, int64((d+time.Second-1)/time.Second))\n}\n")
	if m.fieldList() != "" {
		s.p("func fieldList(fields []rest.Field) []%s {", m.fieldList())
		s.p("var list []%s", m.fieldList())
		s.p("for _, f := range fields {\nlist = append(list, %s{Name: &f.Name, Message: &f.Message})\n}", m.fieldList())
		s.p("return list\n}")
	}
	return nil
}

func (m *model) writeException(s *source, name string) error {
	sh := m.Shapes[name]
	if sh.Error.HTTPStatusCode == 0 {
		return fmt.Errorf("%s has no status", name)
	}
	s.p("// %s is answered with status %d.", name, sh.Error.HTTPStatusCode)
	if err := m.writeStruct(s, name); err != nil {
		return err
	}
	s.p("func (e *%s) Error() string { return rest.ErrorText(%q, e.Message) }\n", name, name)
	s.p("// ErrorCode is the code that clients see.")
	s.p("func (*%s) ErrorCode() string { return %q }\n", name, name)
	s.p("// HTTPStatus is the answer's status.")
	s.p("func (*%s) HTTPStatus() int { return %d }\n", name, sh.Error.HTTPStatusCode)
	s.p("// ErrorShape describes the body.")
	s.p("func (*%s) ErrorShape() *rest.Shape { return %s }\n", name, shapeVar(name))
	return nil
}

// writeConstruction fills an exception's members from a rest.Detail.
func (m *model) writeConstruction(s *source, name string) error {
	sh := m.Shapes[name]
	fill := map[string]string{
		"code":         strconv.Quote(name),
		"message":      "d.Message",
		"resourceId":   "d.ResourceID",
		"resourceType": "d.ResourceType",
		"quotaCode":    "d.QuotaCode",
		"serviceCode":  strconv.Quote(m.pkg),
		"fieldList":    "fieldList(d.Fields)",
	}
	s.p("e := &%s{", name)
	var rest []string
	for _, member := range sorted(sh.Members) {
		if expr, ok := fill[member]; ok {
			s.p("%s: %s,", exported(member), expr)
			continue
		}
		rest = append(rest, member)
	}
	s.p("}")
	for _, member := range rest {
		switch member {
		case "reason":
			s.p("e.Reason = %s(d.Reason)", exported(sh.Members[member].Shape))
		case "retryAfterSeconds":
			s.p("if d.RetryAfter > 0 {")
			if m.Shapes[sh.Members[member].Shape].Type == "string" {
				s.p("e.RetryAfterSeconds = strconv.FormatInt(retrySeconds(d.RetryAfter), 10)\n}")
			} else {
				s.p("e.RetryAfterSeconds = new(retrySeconds(d.RetryAfter))\n}")
			}
		case "errors", "quotaValue": // a handler that knows them makes the exception itself
		default:
			return fmt.Errorf("nothing fills the member %s", member)
		}
	}
	s.p("return e")
	return nil
}

// fieldList is the element type of ValidationException.fieldList.
func (m *model) fieldList() string {
	v, ok := m.Shapes["ValidationException"]
	if !ok {
		return ""
	}
	list, ok := m.Shapes[v.Members["fieldList"].Shape]
	if !ok {
		return ""
	}
	return exported(list.Member.Shape)
}
