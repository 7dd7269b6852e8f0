package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/api/rest/sample"
)

var (
	drsHandler = reflect.TypeFor[drs.Handler]()
	mgnHandler = reflect.TypeFor[mgn.Handler]()
)

type bound struct {
	*rest.Service
	handler reflect.Type
}

func services() []bound {
	return []bound{
		{drs.New(drs.Unavailable{}), drsHandler},
		{mgn.New(mgn.Unavailable{}), mgnHandler},
	}
}

// eachOperation runs f for every operation of both services.
func eachOperation(t *testing.T, f func(t *testing.T, s bound, ep rest.Endpoint)) {
	n := 0
	for _, s := range services() {
		for _, ep := range s.Endpoints {
			n++
			t.Run(s.Name+"/"+ep.Name, func(t *testing.T) { f(t, s, ep) })
		}
	}
	require.Equal(t, 145, n)
}

// request makes the operation's request of member values.
func request(t *testing.T, op *rest.Operation, values map[string]any) rest.Request {
	t.Helper()
	req := rest.Request{Query: url.Values{}}
	body := map[string]any{}
	for _, m := range op.Input.Members {
		v, ok := values[m.Name]
		switch {
		case !ok:
		case m.In == rest.Label:
			req.Label = v.(string)
		case m.In == rest.Query:
			list, ok := v.([]any)
			if !ok {
				list = []any{v}
			}
			if len(list) == 0 { // a query cannot say it
				list = []any{"k"}
				values[m.Name] = list
			}
			for _, item := range list {
				req.Query.Add(m.Name, strings.Trim(string(mustJSON(t, item)), `"`))
			}
		default:
			body[m.Name] = v
		}
	}
	req.Body = mustJSON(t, body)
	return req
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// What a client sends within the constraints is accepted, and none of it is lost.
func TestInputsRoundTrip(t *testing.T) {
	eachOperation(t, func(t *testing.T, _ bound, ep rest.Endpoint) {
		for _, full := range []bool{false, true} {
			values := sample.Maker{Seed: 1, Full: full}.Value(ep.Input).(map[string]any)
			in := ep.New()
			require.Nil(t, ep.Decode(request(t, ep.Operation, values), in), "full=%v", full)
			requireEncodes(t, ep.Input, in, values)
		}
	})
}

// Every output shape, read into its Go type and written again, is the same JSON.
func TestOutputsRoundTrip(t *testing.T) {
	eachOperation(t, func(t *testing.T, s bound, ep rest.Endpoint) {
		if ep.Output == nil {
			return
		}
		method, ok := s.handler.MethodByName(ep.Name)
		require.True(t, ok)
		for _, full := range []bool{false, true} {
			values := sample.Maker{Seed: 1, Full: full}.Value(ep.Output).(map[string]any)
			out := reflect.New(method.Type.Out(0).Elem()).Interface()
			asInput := &rest.Operation{Input: ep.Output}
			require.Nil(t, asInput.Decode(rest.Request{Body: mustJSON(t, values)}, out))
			requireEncodes(t, ep.Output, out, values)
		}
	})
}

// requireEncodes checks that v is written as values, plus the lists and tags that are always present.
func requireEncodes(t *testing.T, s *rest.Shape, v any, values map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, rest.WriteResult(w, &rest.Operation{Status: http.StatusOK, Output: s}, v))
	addPresent(s, values)
	require.JSONEq(t, string(mustJSON(t, values)), w.Body.String())
}

func addPresent(s *rest.Shape, v any) {
	switch x := v.(type) {
	case map[string]any:
		if s.Kind == rest.Map {
			for _, e := range x {
				addPresent(s.Elem, e)
			}
			return
		}
		for _, m := range s.Members {
			if e, ok := x[m.Name]; ok {
				addPresent(m.Shape, e)
			} else if m.Present && m.Shape.Kind == rest.List {
				x[m.Name] = []any{}
			} else if m.Present {
				x[m.Name] = map[string]any{}
			}
		}
	case []any:
		for _, e := range x {
			addPresent(s.Elem, e)
		}
	}
}

// Leaving a required member out names exactly that member; a value of the wrong type is a parse error.
func TestInputsAreChecked(t *testing.T) {
	eachOperation(t, func(t *testing.T, _ bound, ep rest.Endpoint) {
		for _, m := range ep.Input.Members {
			if m.In != rest.Body {
				continue
			}
			values := sample.Maker{Seed: 1, Full: true}.Value(ep.Input).(map[string]any)
			values[m.Name] = wrongType(m.Shape)
			bad := ep.Decode(request(t, ep.Operation, values), ep.New())
			require.NotNil(t, bad, m.Name)
			require.Equal(t, rest.ReasonCannotParse, bad.Reason)
			require.Contains(t, bad.Message, m.Name)

			delete(values, m.Name)
			bad = ep.Decode(request(t, ep.Operation, values), ep.New())
			if !m.Required {
				require.Nil(t, bad, m.Name)
				continue
			}
			require.Equal(t, []rest.Field{{Name: m.Name, Message: "Member must not be null"}}, bad.Fields)
		}
	})
}

func wrongType(s *rest.Shape) any {
	if s.Kind == rest.String || s.Kind == rest.ISOTime {
		return 7
	}
	return "seven"
}

// Go structs and shapes must agree, or the runtime would fill the wrong fields.
func TestFieldsFollowMembers(t *testing.T) {
	eachOperation(t, func(t *testing.T, _ bound, ep rest.Endpoint) {
		checkFields(t, ep.Input, reflect.TypeOf(ep.New()).Elem())
	})
}

func checkFields(t *testing.T, s *rest.Shape, typ reflect.Type) {
	t.Helper()
	switch s.Kind {
	case rest.List, rest.Map:
		checkFields(t, s.Elem, typ.Elem())
	case rest.Structure:
		require.Equal(t, len(s.Members), typ.NumField(), s.Name)
		for i, m := range s.Members {
			f := typ.Field(i)
			require.True(t, strings.EqualFold(m.Name, f.Name), "%s.%s", s.Name, f.Name)
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			checkFields(t, m.Shape, ft)
		}
	}
}

// The guard against uninitialised accounts follows the models: these operations work before.
func TestOperationsThatNeedNoInitialisation(t *testing.T) {
	eachOperation(t, func(t *testing.T, _ bound, ep rest.Endpoint) {
		free := ep.Name == "InitializeService" || strings.HasPrefix(ep.Path, "/tags/") ||
			strings.HasPrefix(ep.Path, "/network-migration/")
		require.Equal(t, !free, ep.Declares("UninitializedAccountException"))
	})
}

// Every error that a model declares can be made, and says its code and status.
func TestDeclaredErrorsExist(t *testing.T) {
	status := map[string]int{
		"UninitializedAccountException": 400, "ValidationException": 400, "ServiceQuotaExceededException": 402,
		"AccessDeniedException": 403, "ResourceNotFoundException": 404, "ConflictException": 409,
		"ThrottlingException": 429, "InternalServerException": 500,
	}
	eachOperation(t, func(t *testing.T, s bound, ep rest.Endpoint) {
		for _, code := range ep.Errors {
			x := s.Exception(code, rest.Detail{Message: "m"})
			require.NotNil(t, x, code)
			require.Equal(t, code, x.ErrorCode())
			require.Equal(t, status[code], x.HTTPStatus())
			w := httptest.NewRecorder()
			require.NoError(t, rest.WriteError(w, x))
			require.Equal(t, code, w.Header().Get("x-amzn-ErrorType"))
			require.Contains(t, w.Body.String(), `"message":"m"`)
		}
	})
}
