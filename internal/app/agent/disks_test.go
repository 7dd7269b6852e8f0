package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A disk that grows under the agent must show: its replication never completes any more.
func TestAResizedDiskShows(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a loop device")
	}
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 4<<20))
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { require.NoError(t, exec.Command("losetup", "-d", path).Run()) })
	d, err := openDisk(path)
	require.NoError(t, err)
	r := &replicator{disks: diskSet{d}}
	t.Cleanup(func() { require.NoError(t, r.disks.close()) })
	require.Empty(t, r.progress().LastError)

	require.NoError(t, os.Truncate(file, 8<<20))
	require.NoError(t, exec.Command("losetup", "-c", path).Run())
	require.Contains(t, r.progress().LastError, "8388608 bytes now")
	var s Status
	r.describe(&s)
	require.Contains(t, s.Error, path)
}
