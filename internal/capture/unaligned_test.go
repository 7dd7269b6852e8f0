package capture

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// Buffers that are not aligned to sectors, which NVMe takes, arrive in segments of any length.
func TestUnalignedBuffersStayIdentical(t *testing.T) {
	needKernel(t)
	path := os.Getenv("UNDERSTUDY_SCRATCH_DISK")
	if path == "" {
		t.Skip("needs a disk of zeros to overwrite that takes unaligned buffers, such as NVMe: set UNDERSTUDY_SCRATCH_DISK")
	}
	rng := seeded(t)
	info, err := blockdev.Stat(path)
	require.NoError(t, err)
	d := Disk{Index: 1, Path: path, Major: info.Dev.Major, Minor: info.Dev.Minor, Bytes: info.Bytes}
	c := open(t, testOptions(t, 64<<20, d))
	rep := newReplica(c, d)
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer f.Close()
	buffer := randomBuffer(rng, 1<<20)
	for range 500 {
		n := (1 + rng.IntN(256)) << 9
		from := rng.IntN(len(buffer)-n) &^ 3
		_, err = f.WriteAt(buffer[from:from+n], rng.Int64N(int64(d.Bytes)-int64(n))&^511)
		require.NoError(t, err)
		require.NoError(t, rep.take(c))
	}
	require.Zero(t, c.Drops())
	rep.requireSame(t, d)
	t.Logf("%d bios, records %v", rep.bios, rep.ops)
}
