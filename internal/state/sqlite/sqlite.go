// Package sqlite keeps the control plane's records in one SQLite file: WAL, fsync on every commit, one
// writer, several readers. internal/app/serve opens it; everybody else sees state.Store.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	sqlite "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers bounds the connections that views share. Each holds a page cache.
const readers = 8

// Store is a state.Store in an SQLite file.
type Store struct {
	write *sql.DB // one connection: updates queue here instead of failing with SQLITE_BUSY
	read  *sql.DB
}

var _ state.Store = (*Store)(nil)

// Open opens the database at path, making it (mode 0600) and its schema where needed.
func Open(ctx context.Context, path string) (*Store, error) {
	const op = "state: open"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	// SQLite would make the file readable by the group; the access keys in it are nobody's business.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	s := &Store{}
	if s.write, err = connect(path, 1, "_txlock=immediate"); err != nil {
		return nil, fault.Wrap(op, err)
	}
	if s.read, err = connect(path, readers, "_pragma=query_only(1)"); err != nil {
		return nil, fault.Wrap(op, errors.Join(err, s.Close()))
	}
	if err := migrate(ctx, s.write); err != nil {
		return nil, fault.Wrap(op, errors.Join(err, s.Close()))
	}
	return s, nil
}

func connect(path string, conns int, extra string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)" +
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + extra
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, classify("connect", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fault.New(fault.Bug, "migrate", "%w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return classify("migrate", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return classify("migrate", err)
	}
	if have > want {
		return fault.New(fault.Unsupported, "migrate", "schema version %d is newer than %d", have, want).
			WithHint("this database was used by a newer understudy; run that version")
	}
	if _, err := p.Up(ctx); err != nil {
		return classify("migrate", err)
	}
	return nil
}

// Close waits for running transactions. The last one to close folds the WAL into the database.
func (s *Store) Close() error {
	var err error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		return classify("state: close", err)
	}
	return nil
}

// View runs fn over one snapshot.
func (s *Store) View(ctx context.Context, fn func(state.Reader) error) error {
	return run(ctx, s.read, func(t *tx) error { return fn(t) })
}

// Update runs fn in the one write transaction.
func (s *Store) Update(ctx context.Context, fn func(state.Tx) error) error {
	return run(ctx, s.write, func(t *tx) error { return fn(t) })
}

// run ends the transaction on every way out, a panic in fn included.
func run(ctx context.Context, db *sql.DB, fn func(*tx) error) error {
	const op = "state: transaction"
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return classify(op, err)
	}
	defer func() { _ = t.Rollback() }() // after Commit this does nothing
	if err := fn(&tx{t}); err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return classify(op, err)
	}
	return nil
}

// classify gives a database error its kind. Only a cause with a known meaning gets one.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(kindOf(err), op, "%w", err)
}

func kindOf(err error) fault.Kind {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fault.NotFound
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Transient
	}
	se, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return fault.Unknown
	}
	switch se.Code() & 0xff { // the low byte is the primary code
	case sqlitelib.SQLITE_CONSTRAINT:
		return fault.Conflict
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_INTERRUPT:
		return fault.Transient
	case sqlitelib.SQLITE_FULL:
		return fault.OutOfSpace
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
		return fault.Corruption
	}
	return fault.Unknown
}
