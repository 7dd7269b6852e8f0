package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHalfAnIdentityIsNone(t *testing.T) {
	dir := t.TempDir()
	id := &identity{Service: "drs", ServerID: "s-1", key: []byte("key 1"), certificate: []byte("cert 1"), ca: []byte("ca")}
	require.NoError(t, id.save(dir))
	got, err := loadIdentity(dir)
	require.NoError(t, err)
	require.Equal(t, id, got)

	// The second half of another save does not happen.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, certFile+".new"), 0o700))
	require.Error(t, (&identity{ServerID: "s-1", key: []byte("key 2"), certificate: []byte("cert 2")}).save(dir))
	got, err = loadIdentity(dir)
	require.NoError(t, err)
	require.Nil(t, got, "a new key with an old certificate is no identity")

	for _, name := range []string{keyFile, certFile, caFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), fi.Mode())
	}
}
