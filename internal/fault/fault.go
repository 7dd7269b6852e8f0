// Package fault is the one error vocabulary of Understudy: a class, a cause and what to do next.
//
// Every package may import it. A caller decides by Kind, never by text; the edges (exit codes, AWS
// error codes, wire refusals) are tables over Kind.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the class of an error. The list is closed.
type Kind uint8

// The kinds.
const (
	Unknown     Kind = iota // not classified; treated as Bug at the edges
	Invalid                 // the caller's input is wrong; repeating it cannot help
	NotFound                // the named thing does not exist
	Conflict                // the named thing is in a state that forbids this
	Denied                  // not authenticated or not allowed
	Unsupported             // understood, but this system does not do it
	Corruption              // stored or received bytes fail their checksum or shape
	OutOfSpace              // no room; goes away when there is
	Transient               // try again later: network, timeout, busy
	Fenced                  // a newer owner has taken over
	Bug                     // an invariant of ours is broken
)

var kindNames = [...]string{
	"unknown", "invalid", "not-found", "conflict", "denied", "unsupported",
	"corruption", "out-of-space", "transient", "fenced", "bug",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// ParseKind is the inverse of String; an unknown name is Unknown.
func ParseKind(s string) Kind {
	for i, n := range kindNames {
		if n == s {
			return Kind(i)
		}
	}
	return Unknown
}

// Error is a classified error.
type Error struct {
	Kind Kind
	Op   string // what was being done, as "journal: append"
	Hint string // what the operator should do next; may be empty
	Err  error  // the cause
}

func (e *Error) Error() string {
	s := e.Op
	if e.Err != nil {
		if s != "" {
			s += ": "
		}
		s += e.Err.Error()
	}
	if hint := " (" + e.Hint + ")"; e.Hint != "" && !strings.HasSuffix(s, hint) { // the cause may have come over a wire, hint and all
		s += hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// New returns a classified error with a formatted cause; %w wraps.
func New(k Kind, op, format string, args ...any) *Error {
	return &Error{Kind: k, Op: op, Err: fmt.Errorf(format, args...)}
}

// WithHint says what to do about it.
func (e *Error) WithHint(hint string) *Error {
	e.Hint = hint
	return e
}

// Wrap adds what was being done and keeps the cause's kind.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Op: op, Err: err}
}

// KindOf is the kind of the outermost classified error in err's chain.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// HintOf is the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		//nolint:errorlint // the chain is walked here, one link at a time
		if e, ok := err.(*Error); ok && e.Hint != "" {
			return e.Hint
		}
		err = errors.Unwrap(err)
	}
	return ""
}
