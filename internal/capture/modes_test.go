package capture

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

func start(t testing.TB, m Mode, o Options) Engine {
	t.Helper()
	o.Mode = m
	e, err := Start(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	require.Equal(t, m, e.Mode())
	return e
}

// copier keeps an image of a disk as an agent does that reads what is dirty.
type copier struct {
	e     Engine
	d     Disk
	image []byte
	read  int
}

func newCopier(t testing.TB, e Engine, d Disk) *copier {
	t.Helper()
	return &copier{e: e, d: d, image: contents(t, d)}
}

// pass reads everything that is dirty, as a cycle does.
func (c *copier) pass() error {
	if err := c.e.Flip(); err != nil {
		return err
	}
	c.e.DirtyToDebt()
	dev, err := blockdev.Open(c.d.Path)
	if err != nil {
		return err
	}
	defer dev.Close()
	debt := c.e.Debt(c.d.Index)
	size := debt.BlockSize()
	for at := uint64(0); ; {
		first, end, ok := debt.NextSet(at)
		if !ok {
			return nil
		}
		from, to := first*size, min(end*size, c.d.Bytes)
		b := blockdev.AlignedBuffer(int(to - from))
		if _, err := dev.ReadAt(b, int64(from)); err != nil {
			return err
		}
		copy(c.image[from:to], b)
		c.read += len(b)
		debt.Clear(first, end)
		at = end
	}
}

// A file system in use, read by what is dirty while it is in use and once more afterwards, is the same bit for bit; and
// what was not written was not read.
func TestDirtyBlocksMakeAnIdenticalReplica(t *testing.T) {
	needKernel(t)
	for _, m := range []Mode{ModeBitmap, ModeScan} {
		for _, fs := range []struct {
			name string
			mkfs []string
			size int64
		}{
			{"ext4", []string{"mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard"}, 256 << 20},
			{"xfs", []string{"mkfs.xfs", "-q", "-f"}, 384 << 20},
			{"btrfs", []string{"mkfs.btrfs", "-q", "-f"}, 256 << 20},
		} {
			if m == ModeScan && fs.name != "ext4" {
				continue // which reads all of the disk many times
			}
			t.Run(string(m)+"/"+fs.name, func(t *testing.T) {
				d, idle := testDisk(t, 7, fs.size), testDisk(t, 8, 16<<20)
				e := start(t, m, testOptions(t, 1<<20, d, idle))
				rep := newCopier(t, e, d)
				stop := rep.follow(t)
				run(t, fs.mkfs[0], append(fs.mkfs[1:], d.Path)...)
				mountpoint := t.TempDir()
				run(t, "mount", d.Path, mountpoint)
				mounted := true
				t.Cleanup(func() {
					if mounted {
						_ = exec.Command("umount", "-l", mountpoint).Run()
					}
				})
				useFilesystem(t, seeded(t), mountpoint)
				run(t, "umount", mountpoint)
				mounted = false
				want := contents(t, d)
				stop()
				require.Positive(t, e.Drops())
				require.NoError(t, rep.pass())
				require.Empty(t, differing(rep.image, want))
				before := e.Drops()
				require.NoError(t, rep.pass())
				require.Equal(t, before, e.Drops(), "nothing was written")
				require.Zero(t, e.DirtyBytes())
				require.Zero(t, e.OutstandingDropped())
				require.Zero(t, e.Debt(idle.Index).Count(), "of the other disk nothing")
				require.Empty(t, e.Doubts().MissedSectors)
				eventually(t, "the counts agree", func() bool {
					require.NoError(t, e.Flip())
					return !e.Doubts().Proven[d.Index].IsZero()
				})
				t.Logf("%d events, %d MiB read", e.Drops(), rep.read>>20)
			})
		}
	}
}

// follow makes passes until it is stopped.
func (c *copier) follow(t testing.TB) (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := c.pass(); err != nil {
					stopped <- err
					return
				}
			case <-stopping:
				stopped <- nil
				return
			}
		}
	}()
	return func() {
		t.Helper()
		close(stopping)
		require.NoError(t, <-stopped)
	}
}

// Between two flips no change of a disk, of whatever kind, leaves the counter as it was; and positions follow it.
func TestEveryEventIsADrop(t *testing.T) {
	needKernel(t)
	for _, m := range []Mode{ModeBitmap, ModeScan} {
		t.Run(string(m), func(t *testing.T) {
			d := testDisk(t, 3, 16<<20)
			e := start(t, m, testOptions(t, 1<<20, d))
			f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, e.Flip())
			e.DirtyToDebt()
			debt := e.Debt(3)
			for what, change := range map[string]func(){
				"write":   func() { writeDirect(t, d, randomBuffer(rand.New(rand.NewPCG(1, 1)), 4096), 5*4096) },
				"discard": func() { require.NoError(t, ioctlRange(f, unix.BLKDISCARD, 5*4096, 4096)) },
				"zeroes":  func() { require.NoError(t, ioctlRange(f, unix.BLKZEROOUT, 5*4096, 4096)) },
			} {
				debt.Clear(0, debt.Blocks())
				require.NoError(t, e.Flip())
				drops, producer := e.Drops(), e.Producer()
				require.NoError(t, e.Flip())
				require.Equal(t, drops, e.Drops())
				change()
				require.NoError(t, e.Flip())
				require.Greater(t, e.Drops(), drops, what)
				require.Greater(t, e.Producer(), producer, what)
				require.Positive(t, e.DirtyBytes(), what)
				e.DirtyToDebt()
				first, end, ok := debt.NextSet(5)
				require.True(t, ok && first == 5, what)
				require.Equal(t, m == ModeBitmap, end == 6, "%s: bits of what was written only", what)
			}
			var r Record
			ok, err := e.Next(e.Consumer(), &r)
			require.NoError(t, err)
			require.False(t, ok)
		})
	}
}

// A write in flight while an epoch opens is an event again when it completes, on a disk that takes requests and on one
// that does not; so what was read too early is dirty once more.
func TestCompletionsAreEvents(t *testing.T) {
	needKernel(t)
	for name, d := range map[string]Disk{"requests": testDisk(t, 1, 16<<20), "none": ramDisk(t, 1, "16M")} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t, 1<<20, d)
			c := start(t, ModeBitmap, o).(*Capture)
			c.lostAt = time.Time{} // as if it had been made long ago
			require.NoError(t, c.Flip())
			before := c.Drops()
			writeDirect(t, d, blockdev.AlignedBuffer(8192), 4096)
			events := c.Drops() - before
			if name == "requests" {
				require.EqualValues(t, 4, events, "queued, issued, completed for two twins")
			} else {
				require.EqualValues(t, 2, events, "queued and completed")
			}
			require.Zero(t, c.OutstandingDropped())
			require.Zero(t, c.control.remembered)
			require.Zero(t, c.control.lost)
			require.NoError(t, c.Close())
			again, err := Open(Options{Mode: ModeBitmap, PinDir: o.PinDir, Owner: o.Owner, Disks: o.Disks})
			require.NoError(t, err)
			require.False(t, again.Fresh())
			require.GreaterOrEqual(t, again.Drops(), before+events)
			require.Equal(t, eventBytes*again.Drops(), again.Consumer())
			again.DirtyToDebt()
			require.EqualValues(t, 2, again.Debt(1).Count())
			require.NoError(t, again.Close())
		})
	}
}

// A write to a disk without requests that completes unremembered makes all of that disk dirty for a while.
func TestLostCompletion(t *testing.T) {
	needKernel(t)
	d := ramDisk(t, 1, "16M")
	c := start(t, ModeBitmap, testOptions(t, 1<<20, d)).(*Capture)
	c.lostAt = time.Time{} // as if it had been made long ago
	require.NoError(t, c.Flip())
	c.DirtyToDebt()
	c.Debt(1).Clear(0, c.Debt(1).Blocks())
	detach(t, c, queueProgram)
	writeDirect(t, d, blockdev.AlignedBuffer(4096), 4096)
	require.EqualValues(t, 1, c.control.lost)
	for range 2 {
		before := c.Drops()
		require.NoError(t, c.Flip())
		require.Greater(t, c.Drops(), before, "no point meanwhile")
		require.True(t, c.Coarse())
		c.DirtyToDebt()
		require.False(t, c.Coarse())
		require.Equal(t, c.Debt(1).Blocks(), c.Debt(1).Count())
	}
	require.EqualValues(t, 1, c.Doubts().Lost)
	c.lostAt = time.Now().Add(-lostFor)
	before := c.Drops()
	require.NoError(t, c.Flip())
	require.Equal(t, before, c.Drops())
}

// One mode does not take over what another pinned, and scanning leaves no capture behind.
func TestModesDoNotMix(t *testing.T) {
	needKernel(t)
	o := testOptions(t, 64<<10, testDisk(t, 1, 4<<20))
	seen := map[[16]byte]bool{}
	for _, m := range []Mode{ModePayload, ModeBitmap, ModePayload, ModeScan, ModeBitmap} {
		e := start(t, m, o)
		require.True(t, e.Fresh())
		require.False(t, seen[e.ID()])
		seen[e.ID()] = true
		require.NoError(t, e.Close())
		if m == ModeScan {
			require.NoDirExists(t, o.PinDir)
		}
	}
}

func TestZonedDisksAreRefused(t *testing.T) {
	err := refuse(Disk{Path: "/dev/sdz"}, blockdev.Info{Zoned: true})
	require.True(t, fault.Is(err, fault.Unsupported), err)
	require.ErrorContains(t, err, "/dev/sdz is a zoned device")
	require.NotEmpty(t, fault.HintOf(err))
	require.NoError(t, refuse(Disk{Path: "/dev/sdz"}, blockdev.Info{}))
}
