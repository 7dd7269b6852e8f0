// Package records is the SQL of the state store: the schema, and every query over it, in the SQL that SQLite and
// PostgreSQL share. internal/state/sqlite and internal/state/postgres open a database and hand it over; nobody else
// imports it.
package records

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Dialect is what the two databases do differently.
type Dialect struct {
	Goose    goose.Dialect
	Numbered bool                   // arguments are $1, $2, ... instead of ?
	Kind     func(error) fault.Kind // of a driver's error
	Snapshot *sql.TxOptions         // makes a View one consistent snapshot; nil where every transaction is
	// Tables is a query for all tables of ours, each with every table that it refers to, or ''.
	Tables string
	// Lock, when not nil, makes an Update the only one until its transaction ends, and tells what Committed knows the
	// transaction by.
	Lock func(context.Context, *sql.Tx) (id string, err error)
	// Committed, where there is Lock, tells what became of a transaction whose commit got no answer; fault.Transient while
	// that cannot be told.
	Committed func(ctx context.Context, db *sql.DB, id string) (bool, error)
}

// Store is a state.Store in an SQL database.
type Store struct {
	write   *sql.DB // one connection: updates queue here
	read    *sql.DB
	dialect Dialect
	trace   func(query string, args []any) // of a test; nil
}

var _ state.Store = (*Store)(nil)

// New brings the schema up to date and returns the store, which owns both handles from then on, even when it fails.
func New(ctx context.Context, write, read *sql.DB, d Dialect) (*Store, error) {
	s := &Store{write: write, read: read, dialect: d}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

//go:embed migrations/*.sql
var migrations embed.FS

func (s *Store) migrate(ctx context.Context) error {
	const op = "state: migrate"
	p, err := provider(s.write, s.dialect)
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return s.dialect.classify(op, err)
	}
	if have > want {
		return fault.New(fault.Unsupported, op, "schema version %d is newer than %d", have, want).
			WithHint("this database was used by a newer understudy; run that version")
	}
	if _, err := p.Up(ctx); err != nil {
		return s.dialect.classify(op, err)
	}
	return nil
}

// Close waits for running transactions.
func (s *Store) Close() error {
	return s.dialect.classify("state: close", errors.Join(s.read.Close(), s.write.Close()))
}

// View runs fn over one snapshot.
func (s *Store) View(ctx context.Context, fn func(state.Reader) error) error {
	raw, _, err := s.begin(ctx, s.read, s.dialect.Snapshot, false)
	if err != nil {
		return err
	}
	return s.run(raw, func(t *tx) error { return fn(t) })
}

// Update runs fn in the one write transaction.
func (s *Store) Update(ctx context.Context, fn func(state.Tx) error) error {
	raw, id, err := s.begin(ctx, s.write, nil, s.dialect.Lock != nil)
	if err != nil {
		return err
	}
	err = s.run(raw, func(t *tx) error { return fn(t) })
	unanswered, ok := errors.AsType[*commitError](err)
	if ok && s.dialect.Committed != nil && (fault.Is(err, fault.Transient) || fault.Is(err, fault.Unknown)) { // the others are answers
		return s.outcome(ctx, id, unanswered)
	}
	return err
}

// commitError is a commit that did not work, or whose answer got lost.
type commitError struct{ err error }

func (e *commitError) Error() string { return e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// How long, and how often, it is asked what became of a transaction.
const (
	outcomeLimit = 30 * time.Second
	outcomeEvery = 200 * time.Millisecond
)

// outcome finds out whether a transaction was committed though nobody said so: the database may have done it while the
// connection broke. Whoever asked may have gone meanwhile, what was done stays done.
func (s *Store) outcome(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeLimit)
	defer cancel()
	tick := time.NewTicker(outcomeEvery)
	defer tick.Stop()
	for {
		done, err := s.dialect.Committed(ctx, s.read, id)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			return cause
		case !fault.Is(err, fault.Transient):
			return errors.Join(cause, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fault.New(fault.Transient, "state: commit", "whether it was done is not known: %w", cause)
		}
	}
}

// attempts bounds how often a transaction is begun: a pooled connection may have died with its server, and nothing
// has been done yet.
const attempts = 5

func (s *Store) begin(ctx context.Context, db *sql.DB, o *sql.TxOptions, locked bool) (raw *sql.Tx, id string, err error) {
	for n := 1; ; n++ {
		raw, err = db.BeginTx(ctx, o)
		if err == nil && locked {
			if id, err = s.dialect.Lock(ctx, raw); err != nil {
				_ = raw.Rollback() // the lock's error says more
			}
		}
		if err == nil {
			return raw, id, nil
		}
		err = s.dialect.classify("state: begin", err)
		if n == attempts || !fault.Is(err, fault.Transient) || ctx.Err() != nil {
			return nil, "", err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(n*n) * 20 * time.Millisecond):
		}
	}
}

// run ends the transaction on every way out, a panic in fn included.
func (s *Store) run(raw *sql.Tx, fn func(*tx) error) error {
	defer func() { _ = raw.Rollback() }() // after Commit this does nothing
	t := &tx{raw: raw, store: s}
	if err := fn(t); err != nil {
		return err
	}
	if t.failed != nil {
		return t.failed
	}
	if err := s.dialect.classify("state: commit", raw.Commit()); err != nil {
		return &commitError{err}
	}
	return nil
}

// classify gives a database error its kind. Only a cause with a known meaning gets one.
func (d *Dialect) classify(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return fault.New(fault.NotFound, op, "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, sql.ErrTxDone): // whose context has ended
		return fault.New(fault.Transient, op, "%w", err)
	}
	return fault.New(d.Kind(err), op, "%w", err)
}

// rebind numbers the arguments where the database wants it. No query has a ? that is not an argument.
func (d *Dialect) rebind(query string) string {
	if !d.Numbered {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}
