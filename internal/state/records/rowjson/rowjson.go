// Package rowjson reads records that encoding/json wrote, several times as fast as that does. internal/state/records reads
// rows with it; there is no other use for it.
//
// A row is one JSON text without white space, members in the order of the struct's fields, those that are left out left out.
// So a reader need not find out which member comes: it goes through the fields and sees whether the next one is there.
// Whatever looks different in the least (another order, a member that this version does not know, an escape, white space)
// is given to encoding/json from its beginning. That one alone says what a text means, and what is wrong with it.
package rowjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// Unmarshal is json.Unmarshal into a new T. Strings of the result share the memory of body.
func Unmarshal[T any](body string) (v T, err error) {
	t := reflect.TypeFor[T]()
	if read := readerOf(t); read != nil {
		text := text{s: body}
		if read(&text, reflect.ValueOf(&v).Elem()) && text.at == len(body) {
			return v, nil
		}
		v = *new(T)
	}
	return v, json.Unmarshal([]byte(body), &v)
}

// text is a row on its way through the readers.
type text struct {
	s  string
	at int
}

func (t *text) rest() string { return t.s[t.at:] }

// skip passes over what has to come next, if it does.
func (t *text) skip(what string) bool {
	if !strings.HasPrefix(t.s[t.at:], what) {
		return false
	}
	t.at += len(what)
	return true
}

// next passes over one byte, if it is that one.
func (t *text) next(b byte) bool {
	if t.at == len(t.s) || t.s[t.at] != b {
		return false
	}
	t.at++
	return true
}

// reader reads a value of one type into a zero one that can be set; false when the text is not as expected.
type reader func(t *text, v reflect.Value) bool

var readers sync.Map // reflect.Type -> reader; nil for types that are left to encoding/json

func readerOf(t reflect.Type) reader {
	if r, ok := readers.Load(t); ok {
		return r.(reader)
	}
	r := compile(t, nil)
	readers.Store(t, r)
	return r
}
