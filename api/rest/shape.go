// Package rest is the REST-JSON runtime under the generated service packages: it reads requests into
// typed inputs, validates them against the service's shapes, and writes outputs and errors.
//
// The packages api/drs and api/mgn are tables that this package interprets; the API edge
// (internal/awsapi) drives it. It knows the protocol and no operation.
package rest

import (
	"math"
	"regexp"
	"strings"
	"sync"
)

// Kind is the sort of a shape.
type Kind uint8

// The kinds of shapes that the services use.
const (
	Structure Kind = iota
	List
	Map
	String
	Integer
	Long
	Float
	Boolean
	EpochTime // a timestamp sent as seconds since 1970
	ISOTime   // a timestamp sent as an ISO 8601 string
)

// Location says where in a request or answer a member travels.
type Location uint8

// The locations.
const (
	Body Location = iota
	Label
	Query
	Header
)

// Shape describes one type of the service: what its values may be.
type Shape struct {
	Name      string
	Kind      Kind
	Bounds    *Bounds  // of the length of strings, lists and maps, of the value of numbers
	Pattern   *Pattern // of strings
	Enum      []string // of strings
	Key, Elem *Shape   // of maps; Elem of lists too
	Members   []Member // of structures, in the order of the Go struct's fields
	Union     bool     // exactly one member is set
	Sensitive bool     // never repeated in messages
}

// Member is one member of a structure.
type Member struct {
	Name     string // on the wire
	Shape    *Shape
	Required bool
	Present  bool // sent even when empty: clients rely on it
	In       Location
}

// Bounds is a closed interval.
type Bounds struct{ Min, Max int64 }

// NoMax and NoMin are the open ends of Bounds.
const (
	NoMax = math.MaxInt64
	NoMin = math.MinInt64
)

// Pattern is a regular expression that a whole string must match. It is compiled when first needed.
type Pattern struct {
	Expr string // as the model says it
	RE2  string // the same for Go's engine, where Expr does not compile; else ""
	Not  string // a prefix that is forbidden: Go's engine has no negative lookahead
	once sync.Once
	re   *regexp.Regexp
}

// Match reports whether all of s matches. The generator has compiled the expression before.
func (p *Pattern) Match(s string) bool {
	p.once.Do(func() {
		expr := p.RE2
		if expr == "" {
			expr = p.Expr
		}
		p.re = regexp.MustCompile(`\A(?:` + expr + `)\z`)
	})
	if p.Not != "" && strings.HasPrefix(s, p.Not) {
		return false
	}
	return p.re.MatchString(s)
}
