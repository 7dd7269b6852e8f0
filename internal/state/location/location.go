// Package location knows which database an installation keeps its records in: SQLite in its data directory, or the
// PostgreSQL database that it was once told of. internal/app opens the state store through it.
package location

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/postgres"
	"github.com/understudy-dr/understudy/internal/state/records"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

// Files of a data directory.
const (
	database = "state.db"
	memory   = "state.url" // holds a password, perhaps: mode 0600
)

// Location is where the records of one installation are.
type Location struct {
	dir string
	url string // of PostgreSQL; empty for SQLite
}

// Find says where the installation in a data directory keeps its records. A url given now wins over the one remembered,
// but never over records that are in the directory already.
func Find(dir, url string) (Location, error) {
	const op = "state: location"
	remembered, err := os.ReadFile(filepath.Join(dir, memory))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Location{}, fault.New(fault.Unknown, op, "%w", err)
	}
	was := strings.TrimSpace(string(remembered))
	if url == "" {
		return Location{dir, was}, nil
	}
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return Location{}, fault.New(fault.Invalid, op, "the state URL does not begin with postgres://")
	}
	if _, err := os.Stat(filepath.Join(dir, database)); err == nil && was == "" {
		return Location{}, fault.New(fault.Conflict, op, "the records of this installation are in %s", filepath.Join(dir, database)).
			WithHint("move them with 'understudy backup' and 'understudy restore --state-url'")
	}
	return Location{dir, url}, nil
}

// Open opens the store and remembers where it is.
func (l Location) Open(ctx context.Context) (state.Store, error) {
	if l.url == "" {
		return sqlite.Open(ctx, l.path())
	}
	s, err := postgres.Open(ctx, l.url)
	if err != nil {
		return nil, err
	}
	if err := l.remember(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Export hands out every row of one snapshot, of a running installation or not.
func (l Location) Export(ctx context.Context, schema func(migrations []int64) error, each func(records.Row) error) error {
	if l.url == "" {
		return sqlite.Export(ctx, l.path(), schema, each)
	}
	return postgres.Export(ctx, l.url, schema, each)
}

// Import fills a database that has no records yet, and remembers where it is.
func (l Location) Import(ctx context.Context, migrations []int64, rows iter.Seq2[records.Row, error]) error {
	if l.url == "" {
		return sqlite.Import(ctx, l.path(), migrations, rows)
	}
	if err := postgres.Import(ctx, l.url, migrations, rows); err != nil {
		return err
	}
	return l.remember()
}

func (l Location) path() string { return filepath.Join(l.dir, database) }

// String names the place without its password.
func (l Location) String() string {
	if l.url == "" {
		return l.path()
	}
	return postgres.Redact(l.url)
}

func (l Location) remember() error {
	const op = "state: remember location"
	path := filepath.Join(l.dir, memory)
	if was, err := os.ReadFile(path); err == nil && string(was) == l.url+"\n" {
		return nil
	}
	f, err := os.CreateTemp(l.dir, "."+memory+".*") // mode 0600
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	_, err = f.WriteString(l.url + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(l.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.New(fault.Unknown, "state: sync directory", "%w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fault.New(fault.Unknown, "state: sync directory", "%w", err)
	}
	return nil
}
