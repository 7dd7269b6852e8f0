package postgres

import (
	"context"
	"errors"
	"iter"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// Export reads one snapshot of the database as it is; it stops nobody.
func Export(ctx context.Context, raw string, schema func(migrations []int64) error, each func(records.Row) error) (err error) {
	read, write, err := pools(raw)
	if err != nil {
		return fault.Wrap("state: export", err)
	}
	defer func() { err = errors.Join(err, read.Close(), write.Close()) }()
	return records.Export(ctx, read, dialect, schema, each)
}

// Import fills the database, which must not have records yet, while it keeps other processes from writing.
func Import(ctx context.Context, raw string, migrations []int64, rows iter.Seq2[records.Row, error]) (err error) {
	const op = "state: import"
	read, write, err := pools(raw)
	if err != nil {
		return fault.Wrap(op, err)
	}
	defer func() { err = errors.Join(err, read.Close(), write.Close()) }()
	unlock, err := exclusive(ctx, read)
	if err != nil {
		return fault.Wrap(op, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return records.Import(ctx, read, dialect, migrations, rows) // its connections may wait for a slow file
}
