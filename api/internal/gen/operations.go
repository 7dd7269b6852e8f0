package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/api/rest"
)

// writeOperations writes one descriptor per operation and the list of all.
func writeOperations(m *model, s *source) error {
	s.use(restPackage)
	s.p("// Operations are all operations of the service, by name.")
	s.p("var Operations = []*rest.Operation{")
	for _, name := range sorted(m.Operations) {
		s.p("op%s,", name)
	}
	s.p("}\n")
	s.p("var (")
	for _, name := range sorted(m.Operations) {
		if err := m.writeOperation(s, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.p(")")
	return nil
}

func (m *model) writeOperation(s *source, name string) error {
	op := m.Operations[name]
	if prefix, label, ok := strings.Cut(op.HTTP.RequestURI, "{"); ok && strings.Contains(label, "{") || !strings.HasPrefix(prefix, "/") {
		return fmt.Errorf("path %s has more than one label", op.HTTP.RequestURI)
	}
	s.p("op%s = &rest.Operation{", name)
	s.p("Name: %q, Method: %q, Path: %q, Status: %d,", name, op.HTTP.Method, op.HTTP.RequestURI, op.HTTP.ResponseCode)
	s.p("Input: %s,", shapeVar(op.Input.Shape))
	if op.Output != nil {
		s.p("Output: %s,", shapeVar(op.Output.Shape))
	}
	var codes []string
	for _, e := range op.Errors {
		codes = append(codes, e.Shape)
	}
	slices.Sort(codes)
	s.p("Errors: %s,", stringList(codes))
	if p := m.Pagination[name]; p != nil {
		line, err := m.page(op, p)
		if err != nil {
			return err
		}
		s.p("Page: %s,", line)
	}
	s.p("}")
	return nil
}

func (m *model) page(op *operation, p *page) (string, error) {
	limit, ok := m.Shapes[op.Input.Shape].Members[p.LimitKey]
	if !ok {
		return "", fmt.Errorf("no member %s for the page size", p.LimitKey)
	}
	var most int64
	if sh := m.Shapes[limit.Shape]; sh.Max != nil {
		most = *sh.Max
	}
	size := int64(rest.DefaultPage)
	if most > 0 {
		size = min(size, most)
	}
	return fmt.Sprintf("&rest.Page{Input: %q, Output: %q, Limit: %q, Result: %q, Default: %d, Max: %d}",
		p.InputToken, p.OutputToken, p.LimitKey, p.ResultKey, size, most), nil
}

// writeHandler writes the interface, its all-refusing implementation and the binding of both.
func writeHandler(m *model, s *source) error {
	s.use("context")
	s.use("")
	s.use(restPackage)
	s.p("// Handler does the operations of the service.")
	s.p("type Handler interface {")
	for _, name := range sorted(m.Operations) {
		s.p("%s(context.Context, *%sInput) (*%sOutput, error)", name, name, name)
	}
	s.p("}\n")
	s.p("// Unavailable is a Handler that offers nothing: embed it, and add operations one by one.")
	s.p("type Unavailable struct{}\n")
	for _, name := range sorted(m.Operations) {
		s.p("// %s is not offered.", name)
		s.p("func (Unavailable) %s(context.Context, *%sInput) (*%sOutput, error) {", name, name, name)
		s.p("return nil, rest.Unavailable(%s)\n}\n", strconv.Quote(name))
	}
	s.p("// New binds a handler to the routes of the service.")
	s.p("func New(h Handler) *rest.Service {")
	s.p("return rest.NewService(%q, newException, []rest.Endpoint{", m.pkg)
	for _, name := range sorted(m.Operations) {
		s.p("rest.Bind(op%s, h.%s),", name, name)
	}
	s.p("})\n}")
	return nil
}
