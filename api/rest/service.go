package rest

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

// Operation describes one operation of a service.
type Operation struct {
	Name   string
	Method string
	Path   string // exact, or with one trailing label as /tags/{resourceArn}
	Status int    // of success
	Input  *Shape
	Output *Shape   // nil when the answer has no body
	Errors []string // codes that the model declares, sorted
	Page   *Page    // nil when the operation is not paginated
}

// Declares reports whether the model lists this error code for the operation.
func (op *Operation) Declares(code string) bool {
	_, ok := slices.BinarySearch(op.Errors, code)
	return ok
}

// DefaultPage is the page size where the client names none: the services do not document theirs.
const DefaultPage = 200

// Page describes how an operation's list is cut into pages.
type Page struct {
	Input, Output, Limit, Result string // member names
	Default, Max                 int32  // page sizes; Max 0: the model sets no maximum
}

// Endpoint is an operation bound to the method that does it.
type Endpoint struct {
	*Operation
	New  func() any // a new input
	Call func(ctx context.Context, in any) (any, error)
}

// Bind joins an operation and its method.
func Bind[I, O any](op *Operation, f func(context.Context, *I) (*O, error)) Endpoint {
	return Endpoint{
		Operation: op,
		New:       func() any { return new(I) },
		Call: func(ctx context.Context, in any) (any, error) {
			out, err := f(ctx, in.(*I)) // always what New made
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

// Service is a service with its operations bound to a handler.
type Service struct {
	Name      string
	Endpoints []Endpoint
	exception func(code string, d Detail) Exception
	exact     map[string]*Endpoint // by "METHOD path"
	labelled  map[string]*Endpoint // by "METHOD prefix", for paths that end in a label
}

// NewService indexes the endpoints by route.
func NewService(name string, exception func(code string, d Detail) Exception, endpoints []Endpoint) *Service {
	s := &Service{
		Name: name, Endpoints: endpoints, exception: exception,
		exact: map[string]*Endpoint{}, labelled: map[string]*Endpoint{},
	}
	for i := range endpoints {
		ep := &endpoints[i]
		if prefix, _, ok := strings.Cut(ep.Path, "{"); ok {
			s.labelled[ep.Method+" "+prefix] = ep
		} else {
			s.exact[ep.Method+" "+ep.Path] = ep
		}
	}
	return s
}

// Exception makes the service's typed exception of a code; nil when the service does not model it.
func (s *Service) Exception(code string, d Detail) Exception { return s.exception(code, d) }

// Route finds the endpoint of a request line, and the value of the path's label if it has one.
//
// A label is one percent-encoded segment, yet clients written by hand leave the slash of an ARN as
// it is, so the rest of the path is the label.
func (s *Service) Route(method, escapedPath string) (ep *Endpoint, label string, ok bool) {
	if ep, ok := s.exact[method+" "+escapedPath]; ok {
		return ep, "", true
	}
	for key, ep := range s.labelled {
		rest, ok := strings.CutPrefix(method+" "+escapedPath, key)
		if !ok || rest == "" {
			continue
		}
		label, err := url.PathUnescape(rest)
		return ep, label, err == nil
	}
	return nil, "", false
}
