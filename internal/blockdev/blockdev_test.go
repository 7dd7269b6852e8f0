package blockdev

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// loop makes a loop device over a file of size bytes.
func loop(t *testing.T, size int64, args ...string) (device, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make loop devices")
	}
	file = filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, size))
	out, err := exec.Command("losetup", append(args, "--find", "--show", file)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "-d", device).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return device, file
}

func TestOpenReads(t *testing.T) {
	device, file := loop(t, 3<<20)
	want := bytes.Repeat([]byte("understudy-block"), 256)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(want, 1<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	d, err := Open(device)
	require.NoError(t, err)
	defer d.Close()
	size, err := d.Size()
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, size)
	require.Equal(t, size, d.Info().Bytes)
	require.EqualValues(t, 512, d.Info().LogicalBlock)
	require.False(t, d.Info().Partition())
	require.False(t, d.Info().Zoned)
	require.True(t, d.Info().Requests)
	require.Equal(t, filepath.Base(device), d.Info().Name)
	require.NotZero(t, d.Info().Sequence)

	got := AlignedBuffer(len(want))
	_, err = d.ReadAt(got, 1<<20)
	require.NoError(t, err)
	require.Equal(t, want, got)
	n, err := d.ReadAt(got, 3<<20-512)
	require.Equal(t, 512, n)
	require.ErrorIs(t, err, io.EOF)

	_, err = d.ReadAt(got[1:513], 0)
	require.True(t, fault.Is(err, fault.Bug), err)
	_, err = d.ReadAt(got[:512], 100)
	require.True(t, fault.Is(err, fault.Bug), err)
	_, err = d.WriteAt(got, 0)
	require.True(t, fault.Is(err, fault.Denied), err)
}

func TestExclusiveWritesAndCounts(t *testing.T) {
	device, file := loop(t, 2<<20)
	d, err := OpenExclusive(device)
	require.NoError(t, err)
	before, err := WriteSectors(d.Info().Disk)
	require.NoError(t, err)
	p := AlignedBuffer(8192)
	copy(p, "hello")
	_, err = d.WriteAt(p, 4096)
	require.NoError(t, err)
	require.NoError(t, d.Sync())
	after, err := WriteSectors(d.Info().Disk)
	require.NoError(t, err)
	require.EqualValues(t, 16, after-before)
	written, err := WrittenTo(d.Info().Disk)
	require.NoError(t, err)
	require.Equal(t, after, written.Sectors)
	require.Positive(t, written.Writes)
	require.NoError(t, unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	discarded, err := WrittenTo(d.Info().Disk)
	require.NoError(t, err)
	require.NotEqual(t, written, discarded)
	n, err := InFlightWrites(d.Info().Disk)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = OpenExclusive(device)
	require.True(t, fault.Is(err, fault.Conflict), err)
	require.NoError(t, d.Close())

	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[4096:4101]))
}

func TestStatisticsTurnedOff(t *testing.T) {
	device, _ := loop(t, 2<<20)
	info, err := Stat(device)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("/sys/block/"+info.Name+"/queue/iostats", []byte("0"), 0))
	t.Cleanup(func() { _ = os.WriteFile("/sys/block/"+info.Name+"/queue/iostats", []byte("1"), 0) })
	_, err = InFlightWrites(info.Disk)
	require.True(t, fault.Is(err, fault.Unsupported), err)
}

func TestPartitionBelongsToWholeDisk(t *testing.T) {
	device, _ := loop(t, 8<<20, "--partscan")
	disk, err := Stat(device)
	require.NoError(t, err)
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	const start, sectors = 2048, 4096
	require.NoError(t, addPartition(f, 1, start<<9, sectors<<9))
	t.Cleanup(func() { require.NoError(t, deletePartition(f, 1)) })
	dev, err := parseDev(attr("/sys/block/"+disk.Name+"/"+disk.Name+"p1", "dev"))
	require.NoError(t, err)
	node := filepath.Join(t.TempDir(), "part")
	require.NoError(t, unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(dev.Major, dev.Minor))))

	part, err := Open(node)
	require.NoError(t, err)
	defer part.Close()
	require.True(t, part.Info().Partition())
	require.Equal(t, disk.Dev, part.Info().Disk)
	require.Equal(t, disk.Name, part.Info().Name)
	require.EqualValues(t, sectors<<9, part.Info().Bytes)
}

func TestRefusals(t *testing.T) {
	_, err := Open("/dev/does-not-exist")
	require.True(t, fault.Is(err, fault.NotFound), err)
	_, err = Open("/dev/null")
	require.True(t, fault.Is(err, fault.Invalid), err)
	_, err = Open(t.TempDir())
	require.True(t, fault.Is(err, fault.Invalid), err)
	small, _ := loop(t, 512<<10)
	_, err = Open(small)
	require.True(t, fault.Is(err, fault.Unsupported), err)
	require.NotEmpty(t, fault.HintOf(err))
	_, err = InFlightWrites(Dev{4095, 1})
	require.True(t, fault.Is(err, fault.NotFound), err)
}

func TestListHasLoopDevice(t *testing.T) {
	device, _ := loop(t, 2<<20)
	infos, err := List()
	require.NoError(t, err)
	var paths []string
	for _, i := range infos {
		paths = append(paths, i.Path)
		require.NotZero(t, i.Bytes)
	}
	require.Contains(t, paths, device)
}

func TestClaimHasOneHolder(t *testing.T) {
	device, _ := loop(t, 2<<20)
	info, err := Stat(device)
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.Remove(filepath.Join(claimDir, info.Disk.String())) })
	c, err := ClaimDisk(info.Disk, "s-first")
	require.NoError(t, err)
	_, err = ClaimDisk(info.Disk, "s-second")
	require.True(t, fault.Is(err, fault.Conflict), err)
	require.ErrorContains(t, err, "s-first")
	require.NoError(t, c.Close())
	c, err = ClaimDisk(info.Disk, "s-2")
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(claimDir, info.Disk.String()))
	require.NoError(t, err)
	require.Equal(t, "s-2", string(b))
	require.NoError(t, c.Close())
}

func TestAlignedBuffer(t *testing.T) {
	for _, n := range []int{0, 1, 512, 4095, 4096, 1 << 20} {
		b := AlignedBuffer(n)
		require.Len(t, b, n)
		require.Equal(t, n, cap(b))
		require.Zero(t, address(b)%alignment)
	}
}
