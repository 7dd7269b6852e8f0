package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

func open(t *testing.T, dir string) state.Store {
	s, err := Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	return s
}

func TestConformance(t *testing.T) { statetest.Run(t, open) }

// TestSettings reads back what the durability and integrity of the store hang on.
func TestSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a directory?mode=memory#&%20")
	s := open(t, dir).(*Store)
	defer s.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		require.NoError(t, s.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		require.Equal(t, want, got, pragma)
	}
	_, err := s.read.ExecContext(t.Context(), "DELETE FROM access_key")
	require.ErrorContains(t, err, "readonly")
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(filepath.Join(dir, "state.db"+suffix))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), suffix)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir).(*Store)
	_, err := s.write.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = Open(t.Context(), filepath.Join(dir, "state.db"))
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("not a database ", 500)), 0o600))
	_, err := Open(t.Context(), path)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

// TestListsUseIndexes asks SQLite how it would run every list: none may read a whole table or sort.
func TestListsUseIndexes(t *testing.T) {
	s := open(t, t.TempDir()).(*Store)
	defer s.Close()
	sc := state.Scope{Account: "1", Service: state.DRS}
	page := state.Page{After: "5.s-1"}
	yes := true
	queries := map[string]func() (string, []any, error){
		"servers":          func() (string, []any, error) { return serversQuery(sc, state.ServerFilter{}, page) },
		"servers archived": func() (string, []any, error) { return serversQuery(sc, state.ServerFilter{Archived: &yes}, page) },
		"templates":        func() (string, []any, error) { return templatesQuery(sc, page) },
		"points":           func() (string, []any, error) { return pointsQuery("s-1", state.PointFilter{From: time.Now()}, page) },
		"points descending": func() (string, []any, error) {
			return pointsQuery("s-1", state.PointFilter{Descending: true}, page)
		},
		"replications": func() (string, []any, error) {
			q, a := replicationsQuery(state.ReplicationFilter{}, page)
			return q, a, nil
		},
		"replications by state": func() (string, []any, error) {
			q, a := replicationsQuery(state.ReplicationFilter{States: []state.ReplicationState{state.Continuous}}, page)
			return q, a, nil
		},
	}
	for name, query := range queries {
		q, args, err := query()
		require.NoError(t, err)
		for _, step := range plan(t, s, q, args) {
			require.NotContains(t, step, "SCAN", name)
			require.NotContains(t, step, "TEMP B-TREE", name)
		}
	}
	for _, step := range plan(t, s, first(serversQuery(sc, state.ServerFilter{HardwareID: "x"}, page)), []any{"1", "drs", "x", 5, "s-1", 3}) {
		require.NotContains(t, step, "SCAN source_server")
	}
}

func first(q string, _ []any, _ error) string { return q }

func plan(t *testing.T, s *Store, q string, args []any) (steps []string) {
	rows, err := s.read.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+q, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		steps = append(steps, detail)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, steps)
	return steps
}
