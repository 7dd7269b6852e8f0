package backup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// chunkBytes is when a chunk of rows is full: rows are held in memory that long.
const chunkBytes = 4 << 20

// chunkWriter collects rows into entries records/<table>/<number>.jsonl: a line of column names, then a line per row.
type chunkWriter struct {
	w     *writer
	table string
	n     int // of the chunk within its table
	rows  int
	buf   bytes.Buffer
}

func (c *chunkWriter) row(r records.Row) error {
	if r.Table != c.table || c.buf.Len() >= chunkBytes {
		if err := c.flush(); err != nil {
			return err
		}
		if r.Table != c.table {
			c.table, c.n = r.Table, 0
		}
		if err := c.line(r.Columns); err != nil {
			return err
		}
	}
	values := make([]any, len(r.Values))
	for i, v := range r.Values {
		values[i] = encodeValue(v)
	}
	c.rows++
	return c.line(values)
}

func (c *chunkWriter) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Bug, "backup: encode row", "%w", err)
	}
	c.buf.Write(append(data, '\n'))
	return nil
}

func (c *chunkWriter) flush() error {
	if c.buf.Len() == 0 {
		return nil
	}
	c.n++
	err := c.w.entry(fmt.Sprintf("%s%s/%06d.jsonl", recordsRoot, c.table, c.n), 0o600, c.buf.Bytes())
	c.buf.Reset()
	return err
}

// binary is a value that JSON has no form for.
type binary struct {
	Bytes string `json:"b,omitempty"` // base64 of a BYTEA
	Text  string `json:"t,omitempty"` // base64 of a TEXT that is not UTF-8
	Empty bool   `json:"e,omitempty"` // a BYTEA of no bytes
}

func encodeValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return binary{Bytes: base64.StdEncoding.EncodeToString(v), Empty: len(v) == 0}
	case string:
		if !utf8.ValidString(v) {
			return binary{Text: base64.StdEncoding.EncodeToString([]byte(v))}
		}
	}
	return v
}

func decodeValue(raw json.RawMessage) (any, error) {
	switch {
	case len(raw) == 0:
		return nil, fault.New(fault.Corruption, "backup: value", "empty")
	case string(raw) == "null":
		return nil, nil
	case raw[0] == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case raw[0] != '{':
		var n int64
		err := json.Unmarshal(raw, &n)
		return n, err
	}
	var b binary
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	if b.Text != "" {
		text, err := base64.StdEncoding.DecodeString(b.Text)
		return string(text), err
	}
	return base64.StdEncoding.DecodeString(b.Bytes)
}

// rowsOf reads a chunk and yields its rows until yield wants no more.
func rowsOf(table string, data []byte, yield func(records.Row) bool) (more bool, err error) {
	const op = "backup: read records"
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	row := records.Row{Table: table}
	if err := json.Unmarshal(lines[0], &row.Columns); err != nil {
		return false, fault.New(fault.Corruption, op, "%s: columns: %w", table, err)
	}
	for _, line := range lines[1:] {
		var raw []json.RawMessage
		if err := json.Unmarshal(line, &raw); err != nil || len(raw) != len(row.Columns) {
			return false, fault.New(fault.Corruption, op, "%s: a row of %d values for %d columns: %w", table, len(raw), len(row.Columns), err)
		}
		row.Values = make([]any, len(raw))
		for i, v := range raw {
			if row.Values[i], err = decodeValue(v); err != nil {
				return false, fault.New(fault.Corruption, op, "%s: %w", table, err)
			}
		}
		if !yield(row) {
			return false, nil
		}
	}
	return true, nil
}
