// Package postgres keeps the control plane's records in a PostgreSQL database, which several control-plane processes may
// share. internal/app/serve opens it; everybody else sees state.Store.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// readers bounds the connections that views share.
const readers = 16

// writer is the advisory lock that every Update of every process holds, and whoever changes the schema.
const writer = 0x756e64657273 // "unders"

// Store is a state.Store in a PostgreSQL database.
type Store struct {
	*records.Store
	write *sql.DB
}

var _ state.Store = (*Store)(nil)

// Open opens the database that raw, a postgres:// URL, names and brings its schema up to date. The database itself has to exist.
func Open(ctx context.Context, raw string) (*Store, error) {
	const op = "state: open"
	read, write, err := pools(raw)
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	unlock, err := exclusive(ctx, read)
	if err != nil {
		return nil, fault.Wrap(op, errors.Join(err, read.Close(), write.Close()))
	}
	s, err := records.New(ctx, write, read, dialect)
	if err != nil {
		return nil, fault.Wrap(op, errors.Join(err, unlock()))
	}
	if err := unlock(); err != nil {
		return nil, fault.Wrap(op, errors.Join(err, s.Close()))
	}
	return &Store{s, write}, nil
}

var dialect = records.Dialect{
	Goose: goose.DialectPostgres, Numbered: true, Kind: kindOf,
	Snapshot: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	Tables: `SELECT c.relname, COALESCE(p.relname, '') FROM pg_class c
	         LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' LEFT JOIN pg_class p ON p.oid = k.confrelid
	         WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace`,
	Lock: func(ctx context.Context, tx *sql.Tx) (id string, err error) {
		err = tx.QueryRowContext(ctx, `SELECT pg_current_xact_id()::text FROM pg_advisory_xact_lock($1)`, writer).Scan(&id)
		return id, err
	},
	Committed: committed,
}

// committed asks what became of a transaction. One that the server is still at, for it has not noticed yet that nobody waits
// for it, may go either way.
func committed(ctx context.Context, db *sql.DB, id string) (bool, error) {
	const op = "state: outcome"
	var status sql.NullString
	if err := db.QueryRowContext(ctx, `SELECT pg_xact_status($1::text::xid8)`, id).Scan(&status); err != nil {
		return false, fault.New(kindOf(err), op, "%w", err)
	}
	switch status.String {
	case "committed":
		return true, nil
	case "aborted":
		return false, nil
	case "in progress":
		return false, fault.New(fault.Transient, op, "transaction %s is still under way", id)
	}
	return false, fault.New(fault.Unknown, op, "the server does not remember transaction %s", id)
}

// pools are the handles for reading and for writing. They connect when they are first used.
func pools(raw string) (read, write *sql.DB, err error) {
	c, err := pgx.ParseConfig(raw)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "connect", "%w", err) // pgx leaves the password out
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "understudy"
	}
	return connect(c, readers, durable), connect(c, 1, durable+guarded), nil
}

// Redact is a URL without its password, for people to read.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "postgres:"
	}
	q := u.Query()
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.Redacted()
}

const (
	// durable undoes a server-wide synchronous_commit = off: an Update that returned must stay.
	durable = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';`
	// guarded frees the writer's lock when its process has gone silent in the middle of an Update.
	guarded = `SET idle_in_transaction_session_timeout = '1min';`
)

func connect(c *pgx.ConnConfig, conns int, setup string) *sql.DB {
	db := stdlib.OpenDB(*c.Copy(), stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, setup).ReadAll()
		return err
	}))
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// exclusive keeps other processes from writing and migrating until the returned function is called.
func exclusive(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	const op = "lock"
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fault.New(kindOf(err), op, "%w", err)
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, writer); err != nil {
		return nil, fault.New(kindOf(err), op, "%w", errors.Join(err, conn.Close()))
	}
	return func() error {
		// The caller's context may have ended; a connection that kept the lock must not go back to the pool.
		_, err := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, writer)
		return errors.Join(err, conn.Close())
	}, nil
}

// kindOf classifies the driver's errors; the codes are those of PostgreSQL's appendix A.
func kindOf(err error) fault.Kind {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return connectionKind(err)
	}
	for _, c := range classes {
		if strings.HasPrefix(pe.Code, c.prefix) {
			return c.kind
		}
	}
	return fault.Unknown
}

var classes = []struct {
	prefix string
	kind   fault.Kind
}{
	{"08", fault.Transient},    // connection exception
	{"22", fault.Invalid},      // data exception, as a text with a NUL
	{"23", fault.Conflict},     // integrity constraint violation
	{"25P03", fault.Transient}, // idle_in_transaction_session_timeout
	{"25006", fault.Conflict},  // read-only: a standby
	{"28", fault.Denied},       // invalid authorisation
	{"3D", fault.Invalid},      // no such database
	{"40", fault.Transient},    // serialisation failure, deadlock
	{"42501", fault.Denied},    // insufficient privilege
	{"53100", fault.OutOfSpace},
	{"53", fault.Transient},    // insufficient resources
	{"55P03", fault.Transient}, // lock not available
	{"57", fault.Transient},    // operator intervention: cancelled, shutting down, starting up
	{"58", fault.Transient},    // system error outside of PostgreSQL
	{"XX001", fault.Corruption},
	{"XX002", fault.Corruption},
}

func connectionKind(err error) fault.Kind {
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	if network || connecting || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) {
		return fault.Transient
	}
	return fault.Unknown
}
