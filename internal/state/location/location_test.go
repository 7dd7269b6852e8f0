package location

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

func open(t *testing.T, dir, url string) Location {
	l, err := Find(dir, url)
	require.NoError(t, err)
	s, err := l.Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return l
}

func TestAnInstallationRemembersItsDatabase(t *testing.T) {
	url := statetest.StartPostgres(t).Database(t.Name())
	dir := t.TempDir()
	open(t, dir, url)
	info, err := os.Stat(filepath.Join(dir, memory))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Equal(t, url, open(t, dir, "").url)
	require.NoFileExists(t, filepath.Join(dir, database))
	moved := open(t, dir, url+"&application_name=moved")
	require.Equal(t, moved, open(t, dir, ""), "the newest wins")
}

func TestRecordsInTheDirectoryAreNotLeftBehind(t *testing.T) {
	dir := t.TempDir()
	require.Equal(t, filepath.Join(dir, database), open(t, dir, "").String())
	_, err := Find(dir, "postgres://nowhere/understudy")
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	_, err = Find(t.TempDir(), "mysql://x")
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
}

func TestPasswordsAreNotShown(t *testing.T) {
	l := Location{url: "postgres://u:secret@h/db?password=secret&sslmode=require"}
	require.Equal(t, "postgres://u:xxxxx@h/db?sslmode=require", l.String())
}
