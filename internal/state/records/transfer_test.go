package records_test

import (
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/postgres"
	"github.com/understudy-dr/understudy/internal/state/records"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

// dump is an export held in memory.
type dump struct {
	migrations []int64
	rows       []records.Row
}

func (d *dump) schema(m []int64) error             { d.migrations = m; return nil }
func (d *dump) row(r records.Row) error            { d.rows = append(d.rows, r); return nil }
func (d *dump) all() iter.Seq2[records.Row, error] { return with(d.rows, nil) }

// with yields rows and then an error, if there is one.
func with(rows []records.Row, err error) iter.Seq2[records.Row, error] {
	return func(yield func(records.Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(records.Row{}, err)
		}
	}
}

// sorted makes dumps comparable: within a table, databases hand rows out as they like.
func (d dump) sorted(t *testing.T) dump {
	for _, r := range d.rows {
		require.NotEmpty(t, r.Columns)
	}
	slices.SortStableFunc(d.rows, func(a, b records.Row) int {
		return slices.CompareFunc(append([]any{a.Table}, a.Values...), append([]any{b.Table}, b.Values...), compareValue)
	})
	return d
}

func compareValue(a, b any) int {
	x, y := text(a), text(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int64:
		return time.Unix(0, v).UTC().Format(time.RFC3339Nano)
	}
	return ""
}

// fill puts records into every kind of column.
func fill(t *testing.T, s state.Store) {
	ctx, at := t.Context(), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	require.NoError(t, s.Update(ctx, func(tx state.Tx) error {
		v := state.Server{ID: "s-1", Scope: scope, Identity: "with \"quotes\", ünïcode and a\nline", CreatedAt: at,
			Properties: state.SourceProperties{NICs: []state.NIC{{MAC: "aa"}, {MAC: "bb"}}}}
		return errors.Join(
			tx.PutInitialised(ctx, scope, at),
			tx.PutAccessKey(ctx, state.AccessKey{ID: "AKIA1", Account: "1", Sealed: []byte{0, 255}, CreatedAt: at}),
			tx.PutServer(ctx, v),
			tx.PutReplication(ctx, state.Replication{ServerID: v.ID, Scope: scope, State: state.Stalled}),
			tx.PutPoint(ctx, state.Point{ID: "pit-1", Scope: scope, ServerID: v.ID, Expected: at, At: at, Position: 1<<64 - 1}),
		)
	}))
}

// TestRowsMoveBetweenDatabases takes records from SQLite to PostgreSQL and back, and finds them unchanged.
func TestRowsMoveBetweenDatabases(t *testing.T) {
	dir, server := t.TempDir(), statetest.StartPostgres(t)
	first, last, url := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db"), server.Database(t.Name())
	s, err := sqlite.Open(t.Context(), first)
	require.NoError(t, err)
	defer s.Close() // the export reads beside it
	fill(t, s)

	var out, there, back dump
	require.NoError(t, sqlite.Export(t.Context(), first, out.schema, out.row))
	require.NotEmpty(t, out.rows)
	require.NoError(t, postgres.Import(t.Context(), url, out.migrations, out.all()))
	require.NoError(t, postgres.Export(t.Context(), url, there.schema, there.row))
	require.NoError(t, sqlite.Import(t.Context(), last, there.migrations, there.all()))
	require.NoError(t, sqlite.Export(t.Context(), last, back.schema, back.row))
	require.Equal(t, out.sorted(t), there.sorted(t))
	require.Equal(t, out.sorted(t), back.sorted(t))

	restored, err := sqlite.Open(t.Context(), last)
	require.NoError(t, err)
	defer restored.Close()
	require.NoError(t, restored.View(t.Context(), func(r state.Reader) error {
		p, err := r.Point(t.Context(), scope, "pit-1")
		require.EqualValues(t, uint64(1<<64-1), p.Position)
		return err
	}))
}

func TestImportIsRefused(t *testing.T) {
	server := statetest.StartPostgres(t)
	imports := map[string]func(name string, migrations []int64, rows iter.Seq2[records.Row, error]) error{
		"sqlite": func(name string, m []int64, rows iter.Seq2[records.Row, error]) error {
			return sqlite.Import(t.Context(), filepath.Join(t.TempDir(), name), m, rows)
		},
		"postgres": func(name string, m []int64, rows iter.Seq2[records.Row, error]) error {
			return postgres.Import(t.Context(), server.Database(t.Name()+name), m, rows)
		},
	}
	keys := records.Row{Table: "initialisation", Columns: []string{"account", "service", "at"}, Values: []any{"1", "drs", int64(1)}}
	boom := errors.New("boom")
	for name, load := range imports {
		t.Run(name, func(t *testing.T) {
			kind := func(want fault.Kind, err error) { require.Equal(t, want, fault.KindOf(err), "%v", err) }
			kind(fault.Unsupported, load("newer", []int64{1, 9999}, with(nil, nil)))
			for _, row := range []records.Row{
				{Table: "nobody", Columns: []string{"id"}, Values: []any{"1"}},
				{Table: "goose_db_version", Columns: []string{"id"}, Values: []any{int64(1)}},
				{Table: "initialisation", Columns: []string{"at) VALUES (1); --"}, Values: []any{int64(1)}},
			} {
				kind(fault.Corruption, load("foreign", []int64{1}, with([]records.Row{row}, nil)))
			}
			orphan := records.Row{Table: "replication", Columns: []string{"server_id", "state", "body"}, Values: []any{"s-1", "", "{}"}}
			kind(fault.Conflict, load("orphan", []int64{1}, with([]records.Row{orphan}, nil)))
		})
	}
	// Nothing stays of an import that failed at its end, and it can be done again; not so one that was done.
	url := server.Database("twice")
	require.ErrorIs(t, postgres.Import(t.Context(), url, []int64{1}, with([]records.Row{keys}, boom)), boom)
	require.NoError(t, postgres.Import(t.Context(), url, []int64{1}, with([]records.Row{keys}, nil)))
	err := postgres.Import(t.Context(), url, []int64{1}, with([]records.Row{keys}, nil))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
}
