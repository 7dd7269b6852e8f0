package capture

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// A file system in use, over its whole life, is the same on the replica bit for bit.
func TestFilesystemsStayIdentical(t *testing.T) {
	needKernel(t)
	for _, fs := range []struct {
		name string
		mkfs []string
		size int64
	}{
		{"ext4", []string{"mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard"}, 256 << 20},
		{"xfs", []string{"mkfs.xfs", "-q", "-f"}, 384 << 20},
		{"btrfs", []string{"mkfs.btrfs", "-q", "-f"}, 256 << 20},
	} {
		t.Run(fs.name, func(t *testing.T) {
			d := testDisk(t, 7, fs.size)
			before, err := blockdev.WriteSectors(d.dev())
			require.NoError(t, err)
			c := open(t, testOptions(t, 128<<20, d))
			rep := newReplica(c, d)
			stop := rep.follow(t, c)

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
			got := contents(t, d)
			stop()

			require.Zero(t, c.Drops())
			require.Empty(t, differing(rep.images[d.Index], got))
			require.Positive(t, rep.ops[Discard]+rep.ops[WriteZeroes], "%v", rep.ops)
			require.Zero(t, rep.torn)
			t.Logf("%d bios, records %v, %d MiB of ring", rep.bios, rep.ops, rep.next>>20)

			captured, err := c.WrittenSectors(d.Index)
			require.NoError(t, err)
			after, err := blockdev.WriteSectors(d.dev())
			require.NoError(t, err)
			require.Equal(t, after-before, captured, "sectors written by the kernel's count and by ours")
		})
	}
}

// useFilesystem writes in every way that reaches the block layer differently.
func useFilesystem(t *testing.T, rng *rand.Rand, dir string) {
	t.Helper()
	seed := func() string { return "--randseed=" + strconv.FormatUint(uint64(rng.Uint32()), 10) }
	fio := func(name string, args ...string) {
		run(t, "fio", append([]string{"--name=" + name, "--directory=" + dir, "--size=24m", "--refill_buffers", seed()}, args...)...)
	}
	fio("direct", "--rw=randwrite", "--direct=1", "--ioengine=libaio", "--iodepth=8", "--bsrange=4k-1m", "--io_size=64m")
	fio("buffered", "--rw=randwrite", "--ioengine=psync", "--bsrange=512-128k", "--fsync=16", "--io_size=32m")
	fio("mapped", "--rw=randwrite", "--ioengine=mmap", "--bs=4k", "--io_size=16m", "--fsync=64", "--numjobs=2")
	run(t, "fallocate", "--zero-range", "--offset", "1m", "--length", "3m", filepath.Join(dir, "direct.0.0"))
	run(t, "fallocate", "--punch-hole", "--offset", "5m", "--length", "2m", filepath.Join(dir, "buffered.0.0"))
	run(t, "cp", "-r", "/usr/include/linux", dir)
	run(t, "sync", "-f", dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "direct.0.0")))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "linux/netfilter")))
	run(t, "fstrim", dir)
}

// Direct writes of every size, discards and zeroing, on several disks at once, from several threads.
func TestRawDisksStayIdentical(t *testing.T) {
	needKernel(t)
	rng := seeded(t)
	disks := []Disk{testDisk(t, 0, 64<<20), testDisk(t, 1, 48<<20+512), testDisk(t, 900, 32<<20)}
	c := open(t, testOptions(t, 128<<20, disks...))
	rep := newReplica(c, disks...)
	stop := rep.follow(t, c)
	var workers sync.WaitGroup
	for _, d := range disks {
		seed := rng.Uint64()
		workers.Go(func() { useRaw(t, rand.New(rand.NewPCG(seed, 2)), d) })
	}
	workers.Wait()
	stop()
	require.Zero(t, c.Drops())
	rep.requireSame(t, disks...)
	require.Positive(t, rep.ops[Discard])
	require.Positive(t, rep.ops[WriteZeroes])
	t.Logf("%d bios, records %v", rep.bios, rep.ops)
}

func useRaw(t *testing.T, rng *rand.Rand, d Disk) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	buffer := randomBuffer(rng, 2<<20)
	sectors := int64(d.Bytes >> 9)
	for i := range 600 {
		count := 1 + rng.Int64N(128)
		if i%20 == 0 {
			count = 1 + rng.Int64N(2048)
		}
		at := rng.Int64N(sectors - count + 1)
		from := rng.Int64N(2048) << 9
		switch i % 31 {
		case 5:
			err = ioctlRange(f, unix.BLKDISCARD, at<<9, count<<9)
		case 6:
			err = ioctlRange(f, unix.BLKZEROOUT, at<<9, count<<9)
		default:
			_, err = f.WriteAt(buffer[from:from+count<<9], at<<9)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// The ring's order is the order over all disks: each of two disks is written after the other has the same number.
func TestOneOrderOverAllDisks(t *testing.T) {
	needKernel(t)
	a, b := testDisk(t, 1, 1<<20), testDisk(t, 2, 1<<20)
	c := open(t, testOptions(t, 1<<20, a, b))
	p := blockdev.AlignedBuffer(512)
	const rounds = 50
	for i := range byte(rounds) {
		p[0] = i
		writeDirect(t, a, p, 0)
		writeDirect(t, b, p, 0)
	}
	var rec Record
	var last uint64
	for i, at := 0, c.Consumer(); i < 2*rounds; i, at = i+1, rec.End {
		ok, err := c.Next(at, &rec)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 1+i%2, rec.Disk)
		require.EqualValues(t, i/2, rec.Data[0])
		require.Equal(t, First|Last, rec.Flags&(First|Last))
		require.GreaterOrEqual(t, rec.Time, last)
		last = rec.Time
	}
	require.Equal(t, c.Producer(), rec.End)
}

// A bio of several MiB is one list of records between First and Last, in large pieces where memory is contiguous.
func TestBigBioStaysWhole(t *testing.T) {
	needKernel(t)
	rng := seeded(t)
	d := testDisk(t, 5, 64<<20)
	c := open(t, testOptions(t, 32<<20, d))
	const size = 4 << 20
	p := hugePages(t, size)
	copy(p, randomBuffer(rng, size))
	writeDirect(t, d, p, 8<<20)

	rep := newReplica(c, d)
	require.NoError(t, rep.take(c))
	require.Zero(t, c.Drops())
	rep.requireSame(t, d)
	t.Logf("%d bios in %d records", rep.bios, rep.ops[Write])
	require.LessOrEqual(t, rep.bios, 4, "the test wants bios of at least 1 MiB")
	require.LessOrEqual(t, rep.ops[Write], size>>16, "contiguous memory goes in pieces of 64 KiB")
}
