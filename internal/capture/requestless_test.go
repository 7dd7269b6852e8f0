package capture

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// ramDisk is a zram device: like dm and md, its driver takes bios as they are and makes no requests of them.
func ramDisk(t *testing.T, index uint16, size string) Disk {
	t.Helper()
	const control = "/sys/class/zram-control/"
	b, err := os.ReadFile(control + "hot_add")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("needs a kernel with zram, for a disk whose driver takes no requests")
	}
	require.NoError(t, err)
	number := string(b[:len(b)-1])
	t.Cleanup(func() { require.NoError(t, os.WriteFile(control+"hot_remove", []byte(number), 0)) })
	path := filepath.Join("/dev", "zram"+number)
	require.NoError(t, os.WriteFile("/sys/block/zram"+number+"/disksize", []byte(size), 0))
	info, err := blockdev.Stat(path)
	require.NoError(t, err)
	require.False(t, info.Requests)
	return Disk{Index: index, Path: path, Major: info.Dev.Major, Minor: info.Dev.Minor, Bytes: info.Bytes}
}

// Nothing tells when a write to a disk without requests completes. The capture must not say that it marks what
// completes, or blocks would be read while writes from before are on their way to them.
func TestDisksWithoutRequests(t *testing.T) {
	needKernel(t)
	d := ramDisk(t, 3, "16M")
	o := testOptions(t, 1<<20, testDisk(t, 0, 16<<20), d)
	c := open(t, o)
	check := func() {
		c.BeginDrain()
		draining := c.Draining()
		writeDirect(t, d, blockdev.AlignedBuffer(4096), 5*4096)
		require.Equal(t, draining, c.LateToDebt())
		writeDirect(t, o.Disks[0], blockdev.AlignedBuffer(4096), 5*4096)
		require.Equal(t, draining, c.LateToDebt(), "it marks on one disk what it cannot on the other")
	}
	check()
	require.NoError(t, c.Close())
	c, err := Open(o)
	require.NoError(t, err)
	defer c.Close()
	require.False(t, c.Fresh())
	check()

	// Nor has anything set the bits of a write that the queue program missed.
	drops := c.Drops()
	c.missed(1)
	require.Equal(t, drops+1, c.Drops())
	c.DirtyToDebt()
	require.Equal(t, c.Debt(3).Blocks(), c.Debt(3).Count())
	require.LessOrEqual(t, c.Debt(0).Count(), uint64(1))
}
