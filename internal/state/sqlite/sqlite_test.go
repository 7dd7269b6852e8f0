package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
