package usedblocks

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
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
)

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func sh(t testing.TB, name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

// needRoot skips where loop devices and mounts cannot be had.
func needRoot(t testing.TB, tools ...string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for loop devices and mounts")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
}

// scratch is a directory in memory where there is room: the images are copied again and again.
func scratch(t testing.TB) string {
	var st unix.Statfs_t
	const shm = "/dev/shm"
	if err := unix.Statfs(shm, &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Bavail*uint64(st.Bsize) < 4<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "understudy-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// image is a file of old content that nobody may mistake for a file system's, and no two blocks alike: what is written is
// seen, zeroes too.
func image(t testing.TB, bytes int64) string {
	path := filepath.Join(scratch(t), "disk")
	f, err := os.Create(path)
	require.NoError(t, err)
	b := make([]byte, 1<<20)
	for at := int64(0); at < bytes; at += int64(len(b)) {
		for i := 0; i < len(b); i += 64 {
			le.PutUint64(b[i:], uint64(at+int64(i))|1<<62)
		}
		_, err := f.WriteAt(b, at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	return path
}

func attach(t testing.TB, path string) string {
	dev := sh(t, "losetup", "--find", "--show", path)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	return dev
}

func mount(t testing.TB, dev, options string) string {
	dir := t.TempDir()
	sh(t, "mount", "-o", options, dev, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func unmount(t testing.TB, dir string) {
	for range 50 {
		if err := unix.Unmount(dir, 0); err != unix.EBUSY {
			require.NoError(t, err)
			return
		}
		wait(100 * time.Millisecond)
	}
	require.Fail(t, "busy: "+dir)
}

func wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// churn writes, appends, cuts, removes and renames files.
type churn struct {
	rng   *rand.Rand
	dir   string
	files []string
	n     int
	room  int64 // bytes that may be kept
	used  int64
	wrote int64 // bytes, ever
}

func (c *churn) step() error {
	pick := func() string { return c.files[c.rng.IntN(len(c.files))] }
	switch n := c.rng.IntN(100); {
	case n < 45 || len(c.files) == 0:
		if c.used > c.room {
			return c.remove()
		}
		c.n++
		dir := filepath.Join(c.dir, fmt.Sprint("d", c.rng.IntN(20)))
		path := filepath.Join(dir, fmt.Sprint("f", c.n))
		c.files = append(c.files, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return c.write(path, os.O_CREATE|os.O_WRONLY)
	case n < 65:
		return c.write(pick(), os.O_WRONLY)
	case n < 72:
		return os.Truncate(pick(), c.rng.Int64N(100_000))
	default:
		return c.remove()
	}
}

func (c *churn) remove() error {
	if len(c.files) == 0 {
		return nil
	}
	i := c.rng.IntN(len(c.files))
	path := c.files[i]
	c.files = append(c.files[:i], c.files[i+1:]...)
	if st, err := os.Stat(path); err == nil {
		c.used -= st.Size()
	}
	return os.Remove(path)
}

func (c *churn) write(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1+c.rng.IntN(1<<(8+c.rng.IntN(13))))
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	c.used, c.wrote = c.used+int64(len(b)), c.wrote+int64(len(b))
	if _, err := f.WriteAt(b, c.rng.Int64N(200_000)); err != nil {
		return err
	}
	if c.rng.IntN(8) == 0 {
		return f.Sync()
	}
	return nil
}

func (c *churn) run(t testing.TB, steps int) {
	for range steps {
		require.NoError(t, c.step())
	}
}

// filesBelow is the sums of all files below dir.
func filesBelow(t testing.TB, dir string) map[string]string {
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		out[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%x", h.Sum(nil))
		return nil
	}))
	return out
}

// direct opens a device past the page cache, as the agent does.
func direct(t testing.TB, dev string) (*os.File, int64) {
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	size, err := f.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	return f, size
}

// copyOfImage is the image as the device is now.
func copyOfImage(t testing.TB, path string) string {
	to := filepath.Join(scratch(t), "copy")
	sh(t, "cp", path, to)
	return to
}

// copyAtOneMoment is a copy during which nothing was written.
func copyAtOneMoment(t testing.TB, path, dev string) string {
	written := func() string {
		b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "stat"))
		require.NoError(t, err)
		f := strings.Fields(string(b))
		return strings.Join(append(f[4:7], f[8]), " ") // writes done, and requests in flight
	}
	for range 60 {
		before := written()
		to := copyOfImage(t, path)
		if before == written() && strings.HasSuffix(before, " 0") {
			return to
		}
		require.NoError(t, os.Remove(to))
		wait(500 * time.Millisecond)
	}
	require.Fail(t, "the file system does not come to rest")
	return ""
}

// spoil overwrites free ranges with garbage, except units that were written since: those differ from what was before.
// before may be "". A unit is what a file system writes at once: of a Btrfs node only the head is sure to be another.
func spoil(t testing.TB, path, before string, unit int64, free []Range, rng *rand.Rand) (spoilt int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	var old *os.File
	if before != "" {
		old, err = os.Open(before)
		require.NoError(t, err)
		defer old.Close()
	}
	garbage := make([]byte, unit)
	now, was := make([]byte, unit), make([]byte, unit)
	for _, r := range free {
		for at := (r.Offset + unit - 1) / unit * unit; at+unit <= r.end(); at += unit {
			if old != nil {
				_, err := f.ReadAt(now, at)
				require.NoError(t, err)
				_, err = old.ReadAt(was, at)
				require.NoError(t, err)
				if string(now) != string(was) {
					continue
				}
			}
			for i := 0; i < len(garbage); i += 8 {
				le.PutUint64(garbage[i:], rng.Uint64())
			}
			_, err := f.WriteAt(garbage, at)
			require.NoError(t, err)
			spoilt += unit
		}
	}
	return spoilt
}
