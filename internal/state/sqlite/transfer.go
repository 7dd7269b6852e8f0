package sqlite

import (
	"context"
	"errors"
	"iter"
	"os"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// Export reads the database at path as it is, a running server or not: a snapshot in WAL mode stops nobody.
func Export(ctx context.Context, path string, schema func(migrations []int64) error, each func(records.Row) error) (err error) {
	const op = "state: export"
	if _, err := os.Stat(path); err != nil {
		return fault.New(fault.NotFound, op, "%w", err)
	}
	db, err := connect(path, 1, "mode=rw&_pragma=query_only(1)") // rw, as reading a WAL writes its index
	if err != nil {
		return fault.Wrap(op, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return records.Export(ctx, db, dialect, schema, each)
}

// Import makes the database at path, which must not have records yet.
func Import(ctx context.Context, path string, migrations []int64, rows iter.Seq2[records.Row, error]) (err error) {
	const op = "state: import"
	if err := create(path); err != nil {
		return fault.Wrap(op, err)
	}
	db, err := connect(path, 1, "_txlock=immediate")
	if err != nil {
		return fault.Wrap(op, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return records.Import(ctx, db, dialect, migrations, rows)
}
