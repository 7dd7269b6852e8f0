package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestIdentityFollowsTheMachineIDAndHidesIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "machine-id")
	t.Setenv(IDFileVariable, file)

	_, err := Identity()
	require.True(t, fault.Is(err, fault.Unsupported), "no file: %v", err)

	require.NoError(t, os.WriteFile(file, []byte("0123456789abcdef0123456789abcdef\n"), 0o600))
	one, err := Identity()
	require.NoError(t, err)
	require.NotContains(t, one, "0123456789abcdef")
	again, err := Identity()
	require.NoError(t, err)
	require.Equal(t, one, again)

	require.NoError(t, os.WriteFile(file, []byte("ffff456789abcdef0123456789abcdef\n"), 0o600))
	other, err := Identity()
	require.NoError(t, err)
	require.NotEqual(t, one, other)
}

func TestFactsAreThisMachines(t *testing.T) {
	f := Read()
	require.NotEmpty(t, f.Hostname)
	require.Contains(t, f.OS, "Linux version")
	require.NotEmpty(t, f.CPUs)
	require.Greater(t, f.RAMBytes, uint64(64<<20))
}
