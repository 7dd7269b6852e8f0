package records

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Row is one row of one table, in terms that no database owns: values are string, int64, []byte or nil.
type Row struct {
	Table   string
	Columns []string
	Values  []any
}

// Export hands out every row of one snapshot, tables that others refer to first, after telling the migrations that made the
// schema. The database is read as it is: it is not brought up to date.
func Export(ctx context.Context, db *sql.DB, d Dialect, schema func(migrations []int64) error, each func(Row) error) error {
	const op = "state: export"
	raw, err := db.BeginTx(ctx, d.Snapshot)
	if err != nil {
		return d.classify(op, err)
	}
	defer func() { _ = raw.Rollback() }() // it only read
	applied, err := migrationsOf(ctx, raw)
	if err != nil {
		return d.classify(op, err)
	}
	if err := schema(applied); err != nil {
		return err
	}
	tables, err := tablesOf(ctx, raw, d)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := exportTable(ctx, raw, d, t, each); err != nil {
			return err
		}
	}
	return nil
}

const versions = "goose_db_version"

func migrationsOf(ctx context.Context, raw *sql.Tx) (out []int64, err error) {
	rows, err := raw.QueryContext(ctx, `SELECT version_id FROM `+versions+` WHERE version_id > 0 ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// tablesOf lists our tables so that every one comes after those it refers to.
func tablesOf(ctx context.Context, raw *sql.Tx, d Dialect) ([]string, error) {
	const op = "state: tables"
	rows, err := raw.QueryContext(ctx, d.Tables)
	if err != nil {
		return nil, d.classify(op, err)
	}
	defer rows.Close()
	refers := map[string][]string{}
	for rows.Next() {
		var table, to string
		if err := rows.Scan(&table, &to); err != nil {
			return nil, d.classify(op, err)
		}
		if table != versions {
			refers[table] = append(refers[table], to)
		}
	}
	return inOrder(refers), d.classify(op, rows.Err())
}

func inOrder(refers map[string][]string) (out []string) {
	names := make([]string, 0, len(refers))
	for name := range refers {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := map[string]bool{"": true}
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		slices.Sort(refers[name])
		for _, to := range refers[name] {
			visit(to)
		}
		out = append(out, name)
	}
	for _, name := range names {
		visit(name)
	}
	return out
}

func exportTable(ctx context.Context, raw *sql.Tx, d Dialect, table string, each func(Row) error) error {
	op := "state: export " + table
	rows, err := raw.QueryContext(ctx, `SELECT * FROM `+table)
	if err != nil {
		return d.classify(op, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return d.classify(op, err)
	}
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return d.classify(op, err)
		}
		for i, v := range values {
			switch v.(type) {
			case nil, string, int64, []byte:
			default:
				return fault.New(fault.Bug, op, "column %s holds a %T", columns[i], v)
			}
		}
		if err := each(Row{table, columns, values}); err != nil {
			return err
		}
	}
	return d.classify(op, rows.Err())
}

// Import fills an empty database: the schema that the rows were exported from, the rows in one transaction, and then the
// migrations that are newer. An error that rows yields undoes all rows.
func Import(ctx context.Context, db *sql.DB, d Dialect, migrations []int64, rows iter.Seq2[Row, error]) error {
	const op = "state: import"
	p, err := provider(db, d)
	if err != nil {
		return err
	}
	if err := refuseRecords(ctx, db, d); err != nil {
		return err
	}
	if err := recreate(ctx, p, d, migrations); err != nil {
		return err
	}
	raw, err := db.BeginTx(ctx, nil)
	if err != nil {
		return d.classify(op, err)
	}
	defer func() { _ = raw.Rollback() }() // after Commit this does nothing
	if err := load(ctx, raw, d, rows); err != nil {
		return err
	}
	if err := raw.Commit(); err != nil {
		return d.classify(op, err)
	}
	_, err = p.Up(ctx)
	return d.classify(op, err)
}

// refuseRecords fails when any of our tables has a row.
func refuseRecords(ctx context.Context, db *sql.DB, d Dialect) error {
	const op = "state: import"
	raw, err := db.BeginTx(ctx, d.Snapshot)
	if err != nil {
		return d.classify(op, err)
	}
	defer func() { _ = raw.Rollback() }() // it only read
	tables, err := tablesOf(ctx, raw, d)
	if err != nil {
		return err
	}
	for _, t := range tables {
		var n int
		if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+t+` LIMIT 1) AS one`).Scan(&n); err != nil {
			return d.classify(op, err)
		}
		if n > 0 {
			return fault.New(fault.Conflict, op, "the database is not empty: table %s has rows", t).WithHint("restore into a new, empty database")
		}
	}
	return nil
}

// recreate applies exactly the given migrations, where an interrupted import has not done so already.
func recreate(ctx context.Context, p *goose.Provider, d Dialect, migrations []int64) error {
	const op = "state: recreate schema"
	status, err := p.Status(ctx)
	if err != nil {
		return d.classify(op, err)
	}
	have := map[int64]goose.State{}
	for _, s := range status {
		have[s.Source.Version] = s.State
		if s.State == goose.StateApplied && !slices.Contains(migrations, s.Source.Version) {
			return fault.New(fault.Conflict, op, "the database has schema version %d, which the rows do not", s.Source.Version).
				WithHint("restore into a new, empty database")
		}
	}
	for _, v := range migrations {
		switch state, known := have[v]; {
		case !known:
			return fault.New(fault.Unsupported, op, "schema version %d is not known here", v).
				WithHint("the rows come from a newer understudy; use that version")
		case state == goose.StateApplied:
			continue
		}
		if _, err := p.ApplyVersion(ctx, v, true); err != nil {
			return d.classify(op, err)
		}
	}
	return nil
}

func load(ctx context.Context, raw *sql.Tx, d Dialect, rows iter.Seq2[Row, error]) error {
	const op = "state: import"
	tables, err := tablesOf(ctx, raw, d)
	if err != nil {
		return err
	}
	for _, t := range slices.Backward(tables) { // what a migration put there is among the rows too
		if _, err := raw.ExecContext(ctx, `DELETE FROM `+t); err != nil {
			return d.classify(op, err)
		}
	}
	var insert *sql.Stmt
	var into string
	for row, err := range rows {
		if err != nil {
			return err
		}
		if row.Table != into {
			if insert, err = prepare(ctx, raw, d, tables, row, insert); err != nil {
				return err
			}
			into = row.Table
		}
		if _, err := insert.ExecContext(ctx, row.Values...); err != nil {
			return d.classify(op+" "+into, err)
		}
	}
	if insert != nil {
		return d.classify(op, insert.Close())
	}
	return nil
}

func prepare(ctx context.Context, raw *sql.Tx, d Dialect, tables []string, row Row, last *sql.Stmt) (*sql.Stmt, error) {
	const op = "state: import"
	if !slices.Contains(tables, row.Table) || len(row.Columns) == 0 || slices.ContainsFunc(row.Columns, notAName) {
		return nil, fault.New(fault.Corruption, op, "table %q with columns %q is none of ours", row.Table, row.Columns)
	}
	if last != nil {
		if err := last.Close(); err != nil {
			return nil, d.classify(op, err)
		}
	}
	query := fmt.Sprintf(`INSERT INTO %s (%s) VALUES (?%s)`, row.Table, strings.Join(row.Columns, ", "), strings.Repeat(", ?", len(row.Columns)-1))
	insert, err := raw.PrepareContext(ctx, d.rebind(query))
	return insert, d.classify(op, err)
}

func notAName(s string) bool {
	return s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != ""
}

func provider(db *sql.DB, d Dialect) (*goose.Provider, error) {
	const op = "state: migrations"
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	// Branches of the work number their migrations in ranges of their own, so a lower one may arrive later.
	p, err := goose.NewProvider(d.Goose, db, dir, goose.WithLogger(goose.NopLogger()), goose.WithAllowOutofOrder(true))
	return p, d.classify(op, err)
}
