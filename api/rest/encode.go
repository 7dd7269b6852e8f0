package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"sort"
	"strconv"
	"time"
)

// The time format of the services' string members and of ISO timestamps: always six digits of a second.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// FormatTime writes a time as the services' date-time strings are written.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// encode writes the body members of a structure as one JSON object and puts the others into header.
func encode(s *Shape, v any, header http.Header) []byte {
	var b bytes.Buffer
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return []byte("{}")
	}
	encodeStructure(&b, s, rv, header)
	return b.Bytes()
}

func encodeStructure(b *bytes.Buffer, s *Shape, v reflect.Value, header http.Header) {
	b.WriteByte('{')
	first := true
	for i := range s.Members {
		m := &s.Members[i]
		f := v.Field(i)
		if absent(f, m) {
			continue
		}
		if m.In == Header {
			header.Set(m.Name, headerText(f))
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		encodeString(b, m.Name)
		b.WriteByte(':')
		encodeValue(b, m.Shape, f)
	}
	b.WriteByte('}')
}

// absent reports whether a member is left out: nil, or an optional string without text.
func absent(f reflect.Value, m *Member) bool {
	if m.Required || m.Present {
		return false
	}
	switch f.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return f.IsNil()
	case reflect.String:
		return f.Len() == 0
	}
	return false
}

func encodeValue(b *bytes.Buffer, s *Shape, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			b.WriteString("{}") // a required structure: its absence would break the client
			return
		}
		v = v.Elem()
	}
	switch s.Kind {
	case Structure:
		encodeStructure(b, s, v, nil)
	case List:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeValue(b, s.Elem, v.Index(i))
		}
		b.WriteByte(']')
	case Map:
		encodeMap(b, s, v)
	case String:
		encodeString(b, v.String())
	case Integer, Long:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case Float:
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case Boolean:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case EpochTime:
		t := v.Interface().(time.Time)
		b.WriteString(strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', -1, 64))
	case ISOTime:
		encodeString(b, FormatTime(v.Interface().(time.Time)))
	}
}

func encodeMap(b *bytes.Buffer, s *Shape, v reflect.Value) {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		encodeString(b, k.String())
		b.WriteByte(':')
		encodeValue(b, s.Elem, v.MapIndex(k))
	}
	b.WriteByte('}')
}

func encodeString(b *bytes.Buffer, s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always marshals
			b.Write(quoted)
			return
		}
	}
	b.WriteByte('"')
	b.WriteString(s)
	b.WriteByte('"')
}

func headerText(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.CanInt() {
		return strconv.FormatInt(v.Int(), 10)
	}
	return v.String()
}
