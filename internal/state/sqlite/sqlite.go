// Package sqlite keeps the control plane's records in one SQLite file: WAL, fsync on every commit, one
// writer, several readers. internal/app/serve opens it; everybody else sees state.Store.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	sqlite "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// readers bounds the connections that views share. Each holds a page cache.
const readers = 8

// Store is a state.Store in an SQLite file. The last one to close folds the WAL into the database.
type Store struct {
	*records.Store
	write, read *sql.DB
}

var _ state.Store = (*Store)(nil)

// Open opens the database at path, making it (mode 0600) and its schema where needed.
func Open(ctx context.Context, path string) (*Store, error) {
	const op = "state: open"
	if err := create(path); err != nil {
		return nil, fault.Wrap(op, err)
	}
	// Updates queue at one connection instead of failing with SQLITE_BUSY.
	write, err := connect(path, 1, "_txlock=immediate")
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	read, err := connect(path, readers, "_pragma=query_only(1)")
	if err != nil {
		return nil, fault.Wrap(op, errors.Join(err, write.Close()))
	}
	s, err := records.New(ctx, write, read, dialect)
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	return &Store{s, write, read}, nil
}

// create makes an empty database: SQLite would make the file readable by the group, and the access keys in it are nobody's
// business.
func create(path string) error {
	const op = "create"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	if err := f.Close(); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	return nil
}

var dialect = records.Dialect{
	Goose: goose.DialectSQLite3, Kind: kindOf,
	Tables: `SELECT m.name, COALESCE(f."table", '') FROM sqlite_master m LEFT JOIN pragma_foreign_key_list(m.name) f
	         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'`,
}

func connect(path string, conns int, extra string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)" +
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + extra
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fault.New(kindOf(err), "connect", "%w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// kindOf classifies the driver's errors.
func kindOf(err error) fault.Kind {
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
