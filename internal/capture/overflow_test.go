package capture

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// When nobody reads the ring, every block that the ring does not tell of has its dirty bit, and the first record after
// the gap tells of it.
func TestOverflowIsCoveredByDirtyBits(t *testing.T) {
	needKernel(t)
	rng := seeded(t)
	d := testDisk(t, 4, 64<<20)
	c := open(t, testOptions(t, 256<<10, d))
	buffer := randomBuffer(rng, 1<<20)
	for range 300 {
		n := (1 + rng.Int64N(256)) << 9
		writeWith(t, rng.IntN(2)*unix.O_DSYNC, d, buffer[:n], rng.Int64N(int64(d.Bytes)-n)&^511)
	}
	require.Positive(t, c.Drops())
	rep := newReplica(c, d)
	require.NoError(t, rep.take(c))
	require.Positive(t, rep.bios)

	diff := differing(rep.images[d.Index], contents(t, d))
	require.NotEmpty(t, diff)
	dirty := c.bitmap(regionGen0, d.Index)
	for _, b := range diff {
		start, _, ok := dirty.NextSet(b)
		require.True(t, ok && start == b, "block %d differs and is not dirty", b)
	}

	dropped := c.Drops()
	before := rep.drops
	writeDirect(t, d, buffer[:4096], 0)
	require.NoError(t, rep.take(c))
	require.Equal(t, dropped, rep.drops)
	require.Greater(t, rep.drops, before)
	complete(t, c)
	require.True(t, c.LateToDebt())
}

// Large ranges set whole words of bits; the bits end where the range ends.
func TestDirtyBitsOfLargeRanges(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 2, 1<<30)
	c := open(t, testOptions(t, 64<<10, d))
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, ioctlRange(f, unix.BLKZEROOUT, 4096*3+512, 700<<20))
	dirty := c.bitmap(regionGen0, d.Index)
	start, end, ok := dirty.NextSet(0)
	require.True(t, ok)
	require.EqualValues(t, 3, start)
	require.EqualValues(t, 3+700<<20/4096+1, end)
	_, _, ok = dirty.NextSet(end)
	require.False(t, ok)
	require.EqualValues(t, end-start, dirty.Count())
}

// Flipping moves new bits to the other generation; what was in both ends in the debt.
func TestGenerations(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 0, 16<<20)
	c := open(t, testOptions(t, 1<<20, d))
	p := blockdev.AlignedBuffer(4096)
	gen0, gen1, debt := c.bitmap(regionGen0, 0), c.bitmap(regionGen1, 0), c.Debt(0)

	writeDirect(t, d, p, 1*4096)
	require.NoError(t, c.Flip())
	writeDirect(t, d, p, 2*4096)
	require.True(t, only(gen0, 1))
	require.True(t, only(gen1, 2))
	c.ClearIdle()
	require.Zero(t, gen0.Count())
	require.True(t, only(gen1, 2))

	require.NoError(t, c.Flip())
	writeDirect(t, d, p, 3*4096)
	c.DirtyToDebt()
	require.EqualValues(t, 2, debt.Count())
	require.Zero(t, gen1.Count())
	require.True(t, only(gen0, 3))
	require.Zero(t, c.Drops())
	require.Zero(t, c.Debt(77).Blocks())
}

func only(b Bitmap, block uint64) bool {
	start, end, ok := b.NextSet(0)
	return ok && start == block && end == block+1 && b.Count() == 1
}

// While the capture drains, every completion is late; afterwards none is.
func TestDrainingMarksCompletionsLate(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 0, 16<<20)
	c := open(t, testOptions(t, 1<<20, d))
	p := blockdev.AlignedBuffer(8192)
	require.True(t, c.Draining())
	writeDirect(t, d, p, 5*4096)
	require.True(t, c.LateToDebt())
	start, end, ok := c.Debt(0).NextSet(0)
	require.True(t, ok && start == 5 && end == 7)

	require.True(t, c.Draining())
	c.EndDrain()
	require.False(t, c.Draining())
	writeDirect(t, d, p, 9*4096)
	require.False(t, c.LateToDebt())
	require.Zero(t, c.Drops())

	c.BeginDrain() // or the programs do, while the agent thinks that it has drained
	c.EndDrain()
	require.True(t, c.Draining())
}

// A dropped write in flight is remembered until it completes, then it is late. The disk's backing file is on a file
// system that the test freezes, so writes stay in flight.
func TestDroppedInFlightIsLateAtCompletion(t *testing.T) {
	c, d, dir := openOnFolder(t)
	thaw := freeze(t, dir)
	written := make(chan struct{})
	go func() {
		defer close(written)
		writeDirect(t, d, blockdev.AlignedBuffer(256<<10), 1<<20) // larger than the ring
	}()
	eventually(t, "the write is dropped and in flight", func() bool { return c.Drops() == 1 })
	require.EqualValues(t, 1, c.OutstandingDropped())
	require.False(t, c.LateToDebt())
	eventually(t, "the kernel counts it too", func() bool {
		n, err := blockdev.InFlightWrites(d.dev())
		return err == nil && n > 0
	})

	thaw()
	<-written
	require.Zero(t, c.OutstandingDropped())
	require.True(t, c.LateToDebt())
	start, end, ok := c.Debt(2).NextSet(0)
	require.True(t, ok)
	require.EqualValues(t, 256, start)
	require.EqualValues(t, 256+64, end)
	require.False(t, c.LateToDebt())
}

// openOnFolder captures a disk that is backed by a file in a folder which can be frozen, with a small ring.
func openOnFolder(t *testing.T) (c *Capture, d Disk, dir string) {
	t.Helper()
	needKernel(t)
	host := testDisk(t, 1, 128<<20)
	run(t, "mkfs.ext4", "-q", host.Path)
	dir = t.TempDir()
	run(t, "mount", host.Path, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	d = testDiskOn(t, dir, 2, 32<<20)
	c = open(t, testOptions(t, 64<<10, d))
	require.True(t, c.Draining())
	c.EndDrain()
	return c, d, dir
}

// freeze keeps all that is written to the file system of a folder in flight, until the returned function is called.
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	mount, err := os.Open(dir)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetInt(int(mount.Fd()), fiFreeze, 0))
	thaw = sync.OnceFunc(func() {
		require.NoError(t, unix.IoctlSetInt(int(mount.Fd()), fiThaw, 0))
		require.NoError(t, mount.Close())
	})
	t.Cleanup(thaw)
	return thaw
}

// A dropped bio that is split into several requests has completed when all of them have.
func TestDroppedSplitBioCompletes(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 5, 64<<20)
	c := open(t, testOptions(t, 64<<10, d))
	require.True(t, c.Draining())
	c.EndDrain()
	p := hugePages(t, 4<<20)
	for _, flags := range []int{0, unix.O_DSYNC} {
		writeWith(t, flags, d, p, 8<<20)
		eventually(t, "the dropped bio completes", func() bool { return c.OutstandingDropped() == 0 })
		require.True(t, c.LateToDebt())
		start, end, ok := c.Debt(5).NextSet(0)
		require.True(t, ok)
		require.EqualValues(t, 8<<20/4096, start)
		require.EqualValues(t, 12<<20/4096, end)
		c.Debt(5).Clear(0, ^uint64(0))
	}
	require.LessOrEqual(t, c.Drops(), uint64(8), "the test wants bios of at least 1 MiB")
	require.Zero(t, entries(c.dropped))
	require.Zero(t, c.control.remembered)
}

func entries(m *ebpf.Map) (n int) {
	var key uint64
	var value []byte
	for it := m.Iterate(); it.Next(&key, &value); n++ {
	}
	return n
}

const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// A write that the disk refuses is in the ring but not on the disk: it counts as a drop, and its blocks are late.
func TestFailedWriteIsADrop(t *testing.T) {
	needKernel(t)
	host := testDisk(t, 1, 16<<20)
	run(t, "mkfs.ext4", "-q", "-O", "^has_journal", host.Path)
	dir := t.TempDir()
	run(t, "mount", host.Path, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	d := testDiskOn(t, dir, 2, 64<<20) // sparse: there is no room for it
	c := open(t, testOptions(t, 64<<20, d))
	require.True(t, c.Draining())
	c.EndDrain()
	f, err := os.OpenFile(d.Path, os.O_WRONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer f.Close()
	p := randomBuffer(seeded(t), 1<<20)
	for at := int64(0); err == nil && at < int64(d.Bytes); at += int64(len(p)) {
		_, err = f.WriteAt(p, at)
	}
	require.Error(t, err, "the backing file system was to be full")
	require.Positive(t, c.Drops())
	require.True(t, c.LateToDebt())
}

func TestOpenRefuses(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 1, 4<<20)
	good := testOptions(t, 64<<10, d)
	for name, change := range map[string]func(*Options){
		"relative pin directory": func(o *Options) { o.PinDir = "pins" },
		"not a bpffs":            func(o *Options) { o.PinDir = filepath.Join(t.TempDir(), "pins") },
		"ring size":              func(o *Options) { o.RingBytes = 100 << 10 },
		"no owner":               func(o *Options) { o.Owner = "" },
		"no disks":               func(o *Options) { o.Disks = nil },
		"disk twice":             func(o *Options) { o.Disks = []Disk{d, d} },
		"wrong size":             func(o *Options) { o.Disks = []Disk{d}; o.Disks[0].Bytes += 512 },
		"wrong device":           func(o *Options) { o.Disks = []Disk{d}; o.Disks[0].Minor += 9999 },
	} {
		o := good
		change(&o)
		_, err := Open(o)
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", name, err)
	}
}
