package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/fault"
)

// loopOn attaches a file, which is made if it is not there.
func loopOn(t *testing.T, file string, bytes int64) (path string, detach func()) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(bytes))
	require.NoError(t, f.Close())
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	path = strings.TrimSpace(string(out))
	attached := true
	detach = func() {
		if attached {
			attached = false
			require.NoError(t, exec.Command("losetup", "-d", path).Run())
		}
	}
	t.Cleanup(detach)
	return path, detach
}

func opened(t *testing.T, c Config) *inventory {
	n, err := openDisks(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.close()) })
	return n
}

// A disk that grew has another size within a look; one that shrank is left out, and that shows.
func TestADiskGrowsAndShrinks(t *testing.T) {
	needRoot(t)
	file := filepath.Join(t.TempDir(), "disk")
	path, _ := loopOn(t, file, 4<<20)
	n := opened(t, Config{StateDir: t.TempDir(), Devices: []string{path}})
	resize := func(bytes int64) []found {
		require.NoError(t, unix.Truncate(file, bytes))
		require.NoError(t, exec.Command("losetup", "-c", path).Run())
		wanted, err := n.look(false)
		require.NoError(t, err)
		return wanted
	}
	before := n.now()[0]
	wanted := resize(8 << 20)
	require.True(t, n.differs(wanted))
	require.NoError(t, n.change(wanted))
	require.False(t, n.differs(wanted))
	require.EqualValues(t, 8<<20, n.now()[0].bytes)
	require.Equal(t, before.identity, n.now()[0].identity)
	require.NoError(t, n.failing())

	require.Empty(t, resize(6<<20))
	r := &replicator{disks: n}
	require.Contains(t, r.progress().LastError, "shrank from 8388608 to 6291456")
	var s Status
	r.describe(&s)
	require.Contains(t, s.Error, path)
	require.NotEmpty(t, fault.HintOf(n.failing()))
	require.Len(t, resize(8<<20), 1)
	require.NoError(t, n.failing())
}

// A disk that has another name when the agent comes back is the same disk, and what has its name now is not.
func TestADiskIsFoundUnderAnotherName(t *testing.T) {
	needRoot(t)
	dir, c := t.TempDir(), Config{StateDir: t.TempDir()}
	first, detach := loopOn(t, filepath.Join(dir, "first"), 4<<20)
	c.Devices = []string{first}
	n, err := openDisks(c)
	require.NoError(t, err)
	identity := n.now()[0].identity
	require.NoError(t, n.close())
	detach()
	thief, _ := loopOn(t, filepath.Join(dir, "thief"), 4<<20)
	if thief != first { // somebody else was faster
		t.Skip("the loop device was taken by another process; least: none other attaches loops")
	}
	moved, _ := loopOn(t, filepath.Join(dir, "first"), 4<<20)
	require.NotEqual(t, first, moved)
	n = opened(t, c)
	require.Len(t, n.now(), 1)
	require.Equal(t, moved, n.now()[0].path)
	require.Equal(t, identity, n.now()[0].identity)
	d, ok, err := n.now().find(&agentpb.AssignedDisk{DeviceName: first, Identity: identity})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, moved, d.path)
}
