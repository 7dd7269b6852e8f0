package capture

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// needKernel skips where no capture can be made at all; everything else is a failure.
func needKernel(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it loads BPF programs and makes loop devices")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("needs a kernel with BTF, as the distributions' are from 6.1 on")
	}
}

// seeded prints the seed it uses, which UNDERSTUDY_SEED sets.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

// testDisk is a loop device over a sparse file of zeros.
func testDisk(t testing.TB, index uint16, size int64) Disk {
	t.Helper()
	return testDiskOn(t, t.TempDir(), index, size)
}

func testDiskOn(t testing.TB, dir string, index uint16, size int64) Disk {
	t.Helper()
	file := filepath.Join(dir, "disk"+strconv.Itoa(int(index)))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, size))
	path := run(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { run(t, "losetup", "-d", path) })
	info, err := blockdev.Stat(path)
	require.NoError(t, err)
	return Disk{Index: index, Path: path, Major: info.Dev.Major, Minor: info.Dev.Minor, Bytes: info.Bytes}
}

// testFamily is a bpffs of the test's own; captures pinned in it end with it.
func testFamily(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, unix.Mount("bpf", dir, "bpf", 0, "mode=0700"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func testOptions(t testing.TB, ringBytes int, disks ...Disk) Options {
	return Options{
		PinDir: filepath.Join(testFamily(t), "capture"), RingBytes: ringBytes, Owner: "s-0123456789abcdef0", Disks: disks,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func open(t testing.TB, o Options) *Capture {
	t.Helper()
	c, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if c.lock != nil {
			_ = c.Close() // a second time where the test has closed it
		}
	})
	return c
}

// replica applies records in ring order to images of the disks, as they were when the capture was made: zeros.
type replica struct {
	images map[uint16][]byte
	open   map[uint32][]Record // incomplete bios by CPU, data copied
	next   uint64              // ring offset
	drops  uint64              // of the latest record
	ops    map[Op]int
	bios   int
	torn   int // bios given up
}

func newReplica(c *Capture, disks ...Disk) *replica {
	r := &replica{images: map[uint16][]byte{}, open: map[uint32][]Record{}, ops: map[Op]int{}, next: c.Consumer()}
	for _, d := range disks {
		r.images[d.Index] = make([]byte, d.Bytes)
	}
	return r
}

// take reads and releases all that is committed.
func (r *replica) take(c *Capture) error {
	var rec Record
	for {
		ok, err := c.Next(r.next, &rec)
		if !ok || err != nil {
			return err
		}
		if rec.Flags&First != 0 {
			if len(r.open[rec.CPU]) > 0 {
				r.torn++
			}
			r.open[rec.CPU] = nil
		}
		rec.Data = bytes.Clone(rec.Data)
		r.open[rec.CPU] = append(r.open[rec.CPU], rec)
		if rec.Flags&Last != 0 {
			if err := r.apply(r.open[rec.CPU]); err != nil {
				return err
			}
			r.open[rec.CPU] = nil
		}
		r.drops = rec.Drops
		r.next = rec.End
		c.Release(rec.End)
	}
}

func (r *replica) apply(bio []Record) error {
	if bio[0].Flags&First == 0 {
		return fmt.Errorf("a bio without its first record ends at %d", bio[0].End)
	}
	r.bios++
	for _, p := range bio {
		r.ops[p.Op]++
		image := r.images[p.Disk]
		at := p.Sector << 9
		switch p.Op {
		case Write:
			copy(image[at:], p.Data)
		case Discard, SecureErase, WriteZeroes: // a loop device discards to zeros
			clear(image[at : at+p.Bytes])
		}
	}
	return nil
}

// follow takes records until the returned function is called, which takes the rest.
func (r *replica) follow(t testing.TB, c *Capture) (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := r.take(c); err != nil {
					stopped <- err
					return
				}
			case <-stopping:
				stopped <- r.take(c)
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

// contents reads a disk past the page cache, after what is in it has been written.
func contents(t testing.TB, d Disk) []byte {
	t.Helper()
	run(t, "blockdev", "--flushbufs", d.Path)
	dev, err := blockdev.Open(d.Path)
	require.NoError(t, err)
	defer dev.Close()
	all := blockdev.AlignedBuffer(int(d.Bytes))
	n, err := dev.ReadAt(all, 0)
	require.NoError(t, err)
	require.EqualValues(t, d.Bytes, n)
	return all
}

// differing are the 4 KiB blocks in which a and b differ.
func differing(a, b []byte) (blocks []uint64) {
	for at := 0; at < len(a); at += 4096 {
		end := min(at+4096, len(a))
		if !bytes.Equal(a[at:end], b[at:end]) {
			blocks = append(blocks, uint64(at/4096))
		}
	}
	return blocks
}

func (r *replica) requireSame(t testing.TB, disks ...Disk) {
	t.Helper()
	for _, d := range disks {
		diff := differing(r.images[d.Index], contents(t, d))
		require.Empty(t, diff, "blocks of disk %d that differ from its replica", d.Index)
	}
}

// eventually polls for what the kernel does by itself.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 2*time.Millisecond, what)
}

// writeDirect writes p, which is aligned, past the page cache.
func writeDirect(t testing.TB, d Disk, p []byte, off int64) {
	t.Helper()
	writeWith(t, 0, d, p, off)
}

func writeWith(t testing.TB, flags int, d Disk, p []byte, off int64) {
	t.Helper()
	f, err := os.OpenFile(d.Path, os.O_WRONLY|unix.O_DIRECT|flags, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(p, off)
	require.NoError(t, err)
}

func randomBuffer(rng *rand.Rand, n int) []byte {
	b := blockdev.AlignedBuffer(n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// hugePages is size bytes, a multiple of 2 MiB, in huge pages: physically contiguous.
func hugePages(t testing.TB, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size+2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	require.NoError(t, unix.Madvise(mem, unix.MADV_HUGEPAGE))
	skip := -hugeOffset(mem) & (2<<20 - 1)
	p := mem[skip : skip+size]
	for i := 0; i < size; i += 4096 {
		p[i] = 1
	}
	return p
}
