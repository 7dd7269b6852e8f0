package usedblocks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// system is a file system to try.
type system struct {
	name  string
	mkfs  []string // the device follows
	mount string
	check []string // read-only; the device follows
	bytes int64
	none  bool // nothing may be called free
}

var systems = []system{
	{name: "ext4", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard"}, check: e2fsck, bytes: 256 << 20},
	{name: "ext4-lazy", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1"}, check: e2fsck, bytes: 512 << 20},
	{name: "ext4-1k", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-b", "1024"}, check: e2fsck, bytes: 128 << 20},
	{name: "ext4-meta_bg", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "meta_bg,^resize_inode,64bit", "-b", "1024"}, check: e2fsck, bytes: 256 << 20},
	{name: "ext4-bigalloc", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "bigalloc", "-C", "65536"}, check: e2fsck, bytes: 512 << 20},
	{name: "ext4-32bit", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "^64bit,^metadata_csum,uninit_bg,^flex_bg"}, check: e2fsck, bytes: 512 << 20},
	{name: "ext4-no-journal", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "^has_journal"}, check: e2fsck, bytes: 128 << 20, none: true},
	{name: "ext4-fast-commit", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "fast_commit"}, check: e2fsck, bytes: 256 << 20, none: true},
	{name: "ext4-sparse2", mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "sparse_super2,^resize_inode"}, check: e2fsck, bytes: 512 << 20},
	{name: "ext3-uninit", mkfs: []string{"mkfs.ext3", "-q", "-F", "-E", "nodiscard", "-O", "uninit_bg"}, check: e2fsck, bytes: 256 << 20},
	{name: "ext2", mkfs: []string{"mkfs.ext2", "-q", "-F"}, check: e2fsck, bytes: 64 << 20, none: true},
	{name: "xfs", mkfs: []string{"mkfs.xfs", "-q", "-f", "-K"}, mount: "nouuid", check: []string{"xfs_repair", "-n"}, bytes: 512 << 20},
	{name: "xfs-1k", mkfs: []string{"mkfs.xfs", "-q", "-f", "-K", "-b", "size=1024", "-d", "agcount=3", "-l", "size=64m"}, mount: "nouuid", check: []string{"xfs_repair", "-n"}, bytes: 640 << 20},
	{name: "xfs-v4", mkfs: []string{"mkfs.xfs", "-q", "-f", "-K", "-m", "crc=0"}, mount: "nouuid", check: []string{"xfs_repair", "-n"}, bytes: 320 << 20, none: true},
	{name: "btrfs", mkfs: []string{"mkfs.btrfs", "-q", "-f", "-K"}, check: []string{"btrfs", "check"}, bytes: 512 << 20},
	{name: "btrfs-mixed", mkfs: []string{"mkfs.btrfs", "-q", "-f", "-K", "--mixed"}, check: []string{"btrfs", "check"}, bytes: 256 << 20, none: true},
	{name: "btrfs-dup", mkfs: []string{"mkfs.btrfs", "-q", "-f", "-K", "-d", "dup", "-m", "dup"}, check: []string{"btrfs", "check"}, bytes: 512 << 20},
}

var e2fsck = []string{"e2fsck", "-fn"}

func (y *system) options(more string) string {
	return strings.Trim(y.mount+",noatime,"+more, ",")
}

// unit of what is written at once, bytes.
func (y *system) unit() int64 {
	if strings.HasPrefix(y.name, "btrfs") {
		return 16 << 10
	}
	return 4096
}

// make is the file system on a device, mounted.
func (y *system) make(t testing.TB) (path, dev, dir string) {
	needRoot(t, y.mkfs[0], y.check[0])
	if testing.Short() && strings.Contains(y.name, "-") {
		t.Skip("one of each kind will do")
	}
	path = image(t, y.bytes)
	out, err := exec.Command(y.mkfs[0], append(y.mkfs[1:], path)...).CombinedOutput()
	if err != nil && strings.Contains(string(out), "Invalid filesystem option") {
		t.Skipf("%s here does not know it", y.mkfs[0])
	}
	require.NoError(t, err, "%s", out)
	dev = attach(t, path)
	out, err = exec.Command("mount", "-o", y.options("rw"), dev, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Skipf("this kernel does not mount it: %s", out)
	}
	sh(t, "umount", dev)
	return path, dev, mount(t, dev, y.options("rw"))
}

// proves sees that a spoilt copy is a sound file system with the same files.
func (y *system) proves(t testing.TB, path string, want map[string]string) {
	dev := attach(t, path)
	dir := mount(t, dev, y.options("rw")) // replays the log
	require.Equal(t, want, filesBelow(t, dir))
	unmount(t, dir)
	sh(t, y.check[0], append(y.check[1:], dev)...)
}

func find(t testing.TB, dev string) ([]Range, Content) {
	f, size := direct(t, dev)
	free, found, err := Find(t.Context(), f, size, Options{MinFree: 4096, Settle: time.Minute, Poll: 200 * time.Millisecond})
	require.NoError(t, err)
	require.Len(t, found, 1)
	return free, found[0]
}

// hurryXFS has XFS write its log back every second; calmXFS every thirty, as it does if nobody says otherwise.
func hurryXFS(t testing.TB) { writesBackEvery(t, "100") }
func calmXFS(t testing.TB)  { writesBackEvery(t, "3000") }

func writesBackEvery(t testing.TB, centisecs string) {
	const knob = "/proc/sys/fs/xfs/xfssyncd_centisecs"
	was, err := os.ReadFile(knob)
	if err != nil || os.WriteFile(knob, []byte(centisecs), 0o644) != nil {
		return // not there before the module is, or not allowed: it takes longer
	}
	t.Cleanup(func() { _ = os.WriteFile(knob, was, 0o644) })
}

// All that is called free of a file system at rest can be overwritten with garbage: unmounted cleanly, and mounted with
// its log full of what is not in place.
func TestAtRest(t *testing.T) {
	hurryXFS(t)
	for _, y := range systems {
		t.Run(y.name, func(t *testing.T) {
			rng := newRand(t)
			path, dev, dir := y.make(t)
			c := &churn{rng: rng, dir: dir, room: y.bytes / 8}
			for _, steps := range []int{0, 250} {
				c.run(t, steps)
				unix.Sync()
				free, found := find(t, dev)
				t.Logf("mounted: %d MiB of %d free; %v", total(free)>>20, y.bytes>>20, found.Err)
				y.judge(t, free, found, c.used)
				after := copyAtOneMoment(t, path, dev)
				spoil(t, after, "", 4096, free, rng)
				y.proves(t, after, filesBelow(t, dir))
			}
			want := filesBelow(t, dir)
			unmount(t, dir)
			free, found := find(t, dev)
			t.Logf("unmounted: %d MiB free; %v", total(free)>>20, found.Err)
			y.judge(t, free, found, c.used)
			spoil(t, path, "", 4096, free, rng)
			y.proves(t, path, want)
		})
	}
}

// judge sees that much of what is free was found.
func (y *system) judge(t testing.TB, free []Range, found Content, used int64) {
	if y.none {
		require.Empty(t, free)
		require.Error(t, found.Err)
		return
	}
	require.NoError(t, found.Err)
	require.Equal(t, total(free), found.Free)
	require.Greater(t, total(free), y.bytes/4)
}

// The claim of the design note: what is called free while the file system is busy, and is not written from before the
// look until a later moment, is not needed at that moment.
func TestUnderWay(t *testing.T) {
	hurryXFS(t)
	for _, y := range systems {
		if y.none {
			continue
		}
		t.Run(y.name, func(t *testing.T) {
			rng := newRand(t)
			path, dev, dir := y.make(t)
			c := &churn{rng: rng, dir: dir, room: y.bytes / 6}
			c.run(t, 150)
			enough := c.wrote + y.bytes/24 // on a slow machine a look may take as long as it takes to write to all that is free
			before := copyOfImage(t, path) // T0, or a little later for some blocks: they need more of the argument
			stop, done := make(chan struct{}), make(chan error, 1)
			go func() {
				for c.wrote < enough {
					select {
					case <-stop:
						done <- nil
						return
					default:
					}
					if err := c.step(); err != nil {
						done <- err
						return
					}
				}
				<-stop
				done <- nil
			}()
			wait(time.Duration(rng.IntN(500)) * time.Millisecond)
			unix.Sync()
			free, found := find(t, dev)
			wait(time.Duration(rng.IntN(2000)) * time.Millisecond)
			close(stop)
			require.NoError(t, <-done)
			require.NoError(t, found.Err)
			unix.Sync() // a moment that is well defined; the log is not written back by this
			want := filesBelow(t, dir)
			after := copyAtOneMoment(t, path, dev)
			n := spoil(t, after, before, y.unit(), free, rng)
			t.Logf("%d MiB free, %d of them not written since", total(free)>>20, n>>20)
			require.Greater(t, n, y.bytes/16)
			y.proves(t, after, want)
		})
	}
}

// A copy of one disk in a file is enough: no device is needed to read it.
func TestFromAFile(t *testing.T) {
	y := systems[0]
	path, _, dir := y.make(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), make([]byte, 1000), 0o600))
	unmount(t, dir)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	free, found, err := Find(t.Context(), f, y.bytes, Options{})
	require.NoError(t, err)
	require.Equal(t, "ext4", found[0].Kind)
	require.Greater(t, total(free), y.bytes/2)
	for i, r := range free {
		require.GreaterOrEqual(t, r.Length, int64(64<<10))
		require.True(t, i == 0 || r.Offset > free[i-1].end())
	}
}
