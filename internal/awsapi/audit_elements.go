package awsapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/understudy-dr/understudy/api/rest"
)

// hiddenValue stands for what the model calls sensitive, as in CloudTrail.
const hiddenValue = "HIDDEN_DUE_TO_SECURITY_REASONS"

// parameters are a request's members wherever they travelled; nil when it has none.
func parameters(r *http.Request, e *entry) json.RawMessage {
	switch {
	case e.model != nil:
		return modelled(r, e)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		form, err := url.ParseQuery(string(e.body))
		if err != nil {
			return nil
		}
		return ofValues(form)
	}
	var members map[string]any
	if json.Unmarshal(e.body, &members) != nil {
		members = map[string]any{}
	}
	for name, values := range r.URL.Query() {
		members[name] = strings.Join(values, ",")
	}
	return object(members)
}

// ofValues leaves out what names the operation; records tell that elsewhere.
func ofValues(form url.Values) json.RawMessage {
	members := map[string]any{}
	for name, values := range form {
		if name != "Action" && name != "Version" {
			members[name] = strings.Join(values, ",")
		}
	}
	return object(members)
}

// modelled are the members of a modelled operation.
func modelled(r *http.Request, e *entry) json.RawMessage {
	members := map[string]any{}
	if json.Unmarshal(e.body, &members) != nil || members == nil {
		members = map[string]any{} // a body that is no object is refused, and told as the refusal
	}
	for _, m := range e.model.Input.Members {
		values := r.URL.Query()[m.Name]
		switch {
		case m.In == rest.Label:
			members[m.Name] = e.label
		case m.In == rest.Query && len(values) > 0 && m.Shape.Kind == rest.List:
			members[m.Name] = values
		case m.In == rest.Query && len(values) > 0:
			members[m.Name] = values[0]
		}
	}
	hide(e.model.Input, members)
	return object(members)
}

func object(members map[string]any) json.RawMessage {
	if len(members) == 0 {
		return nil
	}
	out, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return out
}

// masked is an answer's body without what the model calls sensitive; nil when it is no object.
func masked(s *rest.Shape, body []byte) json.RawMessage {
	if s == nil || len(body) > maxKept {
		return nil
	}
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	hide(s, members)
	return object(members)
}

// hide replaces what is sensitive in v, which has shape s or was sent as if it had, and returns it.
func hide(s *rest.Shape, v any) any {
	if s == nil {
		return v
	}
	if s.Sensitive || s.Key != nil && s.Key.Sensitive {
		return hiddenValue
	}
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = hide(memberShape(s, name), member)
		}
	case []any:
		for i := range v {
			v[i] = hide(s.Elem, v[i])
		}
	}
	return v
}

// memberShape is the shape of a structure's member or of a map's values; nil for what the model does not know.
func memberShape(s *rest.Shape, name string) *rest.Shape {
	if s.Kind == rest.Map {
		return s.Elem
	}
	for i := range s.Members {
		if s.Members[i].Name == name {
			return s.Members[i].Shape
		}
	}
	return nil
}
