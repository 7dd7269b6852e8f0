package rowjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

var (
	timeType = reflect.TypeFor[time.Time]()
	mapType  = reflect.TypeFor[map[string]string]()
)

// compile makes the reader of a type; nil for what only encoding/json can read. within are the types around it.
func compile(t reflect.Type, within []reflect.Type) reader {
	if t == timeType {
		return readTime
	}
	if own(t) || slices.Contains(within, t) {
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		return readString
	case reflect.Bool:
		return readBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return readInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return readUint
	case reflect.Map:
		if t == mapType {
			return nullable(readMap)
		}
	case reflect.Pointer:
		return compilePointer(t, within)
	case reflect.Slice:
		return compileSlice(t, within)
	case reflect.Struct:
		return compileStruct(t, append(within[:len(within):len(within)], t))
	}
	return nil
}

// own tells whether a type says itself how it is read.
func own(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// nullable reads null as nothing.
func nullable(r reader) reader {
	return func(t *text, v reflect.Value) bool { return t.skip("null") || r(t, v) }
}

func compilePointer(t reflect.Type, within []reflect.Type) reader {
	inner := compile(t.Elem(), within)
	if inner == nil {
		return nil
	}
	return nullable(func(x *text, v reflect.Value) bool {
		p := reflect.New(t.Elem())
		v.Set(p)
		return inner(x, p.Elem())
	})
}

func compileSlice(t reflect.Type, within []reflect.Type) reader {
	if t.Elem().Kind() == reflect.Uint8 {
		return nil // base64
	}
	if t == reflect.TypeFor[[]string]() {
		return nullable(readStrings)
	}
	inner := compile(t.Elem(), within)
	if inner == nil {
		return nil
	}
	return nullable(func(x *text, v reflect.Value) bool {
		if !x.next('[') {
			return false
		}
		if x.next(']') {
			v.Set(reflect.MakeSlice(t, 0, 0))
			return true
		}
		for n := 0; ; n++ {
			if n == v.Cap() {
				v.Grow(max(2, n)) // which leaves zeros
			}
			v.SetLen(n + 1)
			if !inner(x, v.Index(n)) {
				return false
			}
			if !x.next(',') {
				return x.next(']')
			}
		}
	})
}

// member is a field as it is written.
type member struct {
	name  string // with its quotes and colon
	field int
	read  reader
}

func compileStruct(t reflect.Type, within []reflect.Type) reader {
	var members []member
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" && options == "" || !f.IsExported() && !f.Anonymous {
			continue
		}
		name := tag
		if name == "" {
			name = f.Name
		}
		read := compile(f.Type, within)
		// Embedded fields, and values within strings, follow rules of their own.
		if read == nil || f.Anonymous || slices.Contains(strings.Split(options, ","), "string") || !plain(name) {
			return nil
		}
		members = append(members, member{`"` + name + `":`, i, read})
	}
	return func(x *text, v reflect.Value) bool {
		if !x.next('{') {
			return false
		}
		if x.next('}') {
			return true
		}
		some := false
		for i := range members {
			m := &members[i]
			before := x.at
			if some && !x.next(',') {
				break
			}
			if !x.skip(m.name) {
				x.at = before // left out
				continue
			}
			if !m.read(x, v.Field(m.field)) {
				return false
			}
			some = true
		}
		return x.next('}')
	}
}

// plain tells whether a name is written as it is.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9') })
}
