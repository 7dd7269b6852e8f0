package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/records/rowjson"
)

// tx is one transaction; it reads and, in an Update, writes. Queries are written with ? for their arguments, in the SQL
// that SQLite and PostgreSQL share.
type tx struct {
	raw    *sql.Tx
	store  *Store
	failed error // the first statement that the database refused; nothing can be committed after it
}

var _ state.Tx = (*tx)(nil)

func (t *tx) exec(ctx context.Context, op, query string, args ...any) error {
	_, err := t.raw.ExecContext(ctx, t.bound(query, args), args...)
	return t.classify(op, err)
}

func (t *tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.raw.QueryContext(ctx, t.bound(query, args), args...)
}

func (t *tx) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return t.raw.QueryRowContext(ctx, t.bound(query, args), args...)
}

func (t *tx) bound(query string, args []any) string {
	query = t.store.dialect.rebind(query)
	if t.store.trace != nil {
		t.store.trace(query, args)
	}
	return query
}

// classify gives a statement's error its kind, and remembers that the transaction has failed: PostgreSQL
// refuses all that follows a refused statement, so SQLite must not go on either.
func (t *tx) classify(op string, err error) error {
	err = t.store.dialect.classify(op, err)
	if err != nil && t.failed == nil && !fault.Is(err, fault.NotFound) {
		t.failed = err
	}
	return err
}

// one reads a single JSON body.
func one[T any](ctx context.Context, t *tx, op, query string, args ...any) (T, error) {
	var body string
	if err := t.queryRow(ctx, query, args...).Scan(&body); err != nil {
		return *new(T), t.classify(op, err)
	}
	return decode[T](op, body)
}

// many reads JSON bodies.
func many[T any](ctx context.Context, t *tx, op, query string, args ...any) ([]T, error) {
	return collect(ctx, t, op, query, args, func(rows *sql.Rows) (v T, err error) {
		var body string
		if err := rows.Scan(&body); err != nil {
			return v, t.classify(op, err)
		}
		return decode[T](op, body)
	})
}

func collect[T any](ctx context.Context, t *tx, op, query string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	rows, err := t.query(ctx, query, args...)
	if err != nil {
		return nil, t.classify(op, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, t.classify(op, rows.Err())
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fault.New(fault.Bug, "state: encode", "%w", err)
	}
	return string(b), nil
}

func decode[T any](op, body string) (T, error) {
	v, err := rowjson.Unmarshal[T](body)
	if err != nil {
		return v, fault.New(fault.Corruption, op, "stored record: %w", err)
	}
	return v, nil
}

// where builds a condition with its arguments.
type where struct {
	terms []string
	args  []any
}

func (w *where) and(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

// in adds "column IN (values)"; no values mean no condition.
func in[T ~string](w *where, column string, values []T) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	w.and(column+" IN (?"+strings.Repeat(",?", len(values)-1)+")", args...)
}

func (w *where) String() string { return strings.Join(w.terms, " AND ") }

// A place is where a page ended: the last record's sort key. Its text is "<nanoseconds>.<id>".
type place struct {
	nanos int64
	id    string
}

func (p place) String() string { return strconv.FormatInt(p.nanos, 10) + "." + p.id }

func parsePlace(after string) (place, error) {
	n, id, ok := strings.Cut(after, ".")
	nanos, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil {
		return place{}, fault.New(fault.Invalid, "state: list", "page token %q is not one of ours", after)
	}
	return place{nanos, id}, nil
}

// trim cuts a list that was read with one record too many and names the place to go on from.
func trim[T any](items []T, size int, at func(T) string) ([]T, string) {
	if len(items) <= size {
		return items, ""
	}
	items = items[:size]
	return items, at(items[size-1])
}

// flag is a truth as it is stored.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// nanos is a time as it is stored; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
