// Package query reads and writes what AWS's query protocols have in common: requests as forms, answers as
// XML. internal/awsapi/stsapi and internal/awsapi/ec2api speak them.
package query

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Form is a request's parameters.
type Form struct{ url.Values }

// Read reads the parameters of a request, from its body and its query.
func Read(r *http.Request) (Form, error) {
	values := r.URL.Query()
	body, err := io.ReadAll(r.Body) // the verifier has bounded and kept it
	if err != nil {
		return Form{}, fault.New(fault.Transient, "query: read", "%w", err)
	}
	if len(body) == 0 {
		return Form{values}, nil
	}
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/x-www-form-urlencoded") {
		return Form{}, fault.New(fault.Invalid, "query: read", "the content type %q is not application/x-www-form-urlencoded", kind)
	}
	sent, err := url.ParseQuery(string(body))
	if err != nil {
		return Form{}, fault.New(fault.Invalid, "query: read", "%w", err)
	}
	for k, v := range sent {
		values[k] = append(values[k], v...)
	}
	for k, v := range values {
		if len(v) > 1 {
			return Form{}, fault.New(fault.Invalid, "query: read", "parameter %s is given %d times", k, len(v))
		}
		v[0] = strings.ToValidUTF8(v[0], "\uFFFD") // no database keeps anything else
	}
	return Form{values}, nil
}

// Int is a number; 0 when it is not given.
func (f Form) Int(name string) (int64, error) {
	s := f.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fault.New(fault.Invalid, "query", "value (%s) for parameter %s is invalid: expected a number", s, name)
	}
	return n, nil
}

// Bool is true or false; false when it is not given.
func (f Form) Bool(name string) (bool, error) {
	switch s := f.Get(name); s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fault.New(fault.Invalid, "query", "value (%s) for parameter %s is invalid: expected true or false", s, name)
	}
}

// List is the values of name.1, name.2 and so on, in order of their numbers.
func (f Form) List(name string) []string {
	var out []string
	for _, n := range f.Numbers(name) {
		out = append(out, f.Get(fmt.Sprintf("%s.%d", name, n)))
	}
	return out
}

// maxElements bounds a list; the numbers themselves may be anything.
const maxElements = 1000

// Numbers are the numbers that follow name in the parameters, ascending.
func (f Form) Numbers(name string) []int {
	var out []int
	for k := range f.Values {
		rest, ok := strings.CutPrefix(k, name+".")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(first); err == nil && n >= 0 && strconv.Itoa(n) == first {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxElements)]
}

// Write answers with a document; the error is one of the document's. A client that has gone away is its own
// loss.
func Write(w http.ResponseWriter, status int, document any) error {
	body, err := xml.Marshal(document)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return fault.New(fault.Bug, "query: write", "%w", err)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(xml.Header)) // see above
	_, _ = w.Write(body)
	return nil
}
