package nbd

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// fields takes the data of an option apart. After the first field that does not fit, bad stays set and
// every further field is empty.
type fields struct {
	data []byte
	bad  bool
}

func (f *fields) take(n uint32) []byte {
	if f.bad || uint64(n) > uint64(len(f.data)) {
		f.bad, f.data = true, nil
		return nil
	}
	b := f.data[:n]
	f.data = f.data[n:]
	return b
}

func (f *fields) u16() uint16 {
	b := f.take(2)
	if f.bad {
		return 0
	}
	return be.Uint16(b)
}

func (f *fields) u32() uint32 {
	b := f.take(4)
	if f.bad {
		return 0
	}
	return be.Uint32(b)
}

func (f *fields) text(n uint32) string {
	b := f.take(n)
	if !validString(b) {
		f.bad = true
		return ""
	}
	return string(b)
}

// ok reports whether everything fitted and nothing is left over.
func (f *fields) ok() bool { return !f.bad && len(f.data) == 0 }

// validString is the protocol's idea of a string.
func validString(b []byte) bool {
	return len(b) <= maxString && utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// clip makes s a string the protocol lets us send, at most n bytes long.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	for n = min(n, len(s)); n > 0 && n < len(s) && !utf8.RuneStart(s[n]); {
		n--
	}
	return s[:n]
}

// choice is the data of INFO and GO.
type choice struct {
	name  string
	infos []uint16
}

func parseChoice(data []byte) (choice, bool) {
	f := fields{data: data}
	c := choice{name: f.text(f.u32())}
	for n := f.u16(); n > 0 && !f.bad; n-- {
		c.infos = append(c.infos, f.u16())
	}
	return c, f.ok()
}

func (c choice) encode() []byte {
	b := appendString(nil, c.name)
	b = be.AppendUint16(b, uint16(len(c.infos)))
	for _, i := range c.infos {
		b = be.AppendUint16(b, i)
	}
	return b
}

// metaQuery is the data of LIST_META_CONTEXT and SET_META_CONTEXT.
type metaQuery struct {
	name    string
	queries []string
}

func parseMetaQuery(data []byte) (metaQuery, bool) {
	f := fields{data: data}
	q := metaQuery{name: f.text(f.u32())}
	for n := f.u32(); n > 0 && !f.bad; n-- {
		q.queries = append(q.queries, f.text(f.u32()))
	}
	return q, f.ok()
}

func (q metaQuery) encode() []byte {
	b := appendString(nil, q.name)
	b = be.AppendUint32(b, uint32(len(q.queries)))
	for _, s := range q.queries {
		b = appendString(b, s)
	}
	return b
}

// wants reports whether the queries ask for base:allocation. Only a list knows wildcards.
func (q metaQuery) wants(list bool) bool {
	for _, s := range q.queries {
		if s == contextAllocation || list && s == "base:" {
			return true
		}
	}
	return list && len(q.queries) == 0
}

func appendString(b []byte, s string) []byte {
	return append(be.AppendUint32(b, uint32(len(s))), s...)
}
