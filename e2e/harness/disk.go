package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/understudy-dr/understudy/internal/usedblocks"
)

// Disk is a loop device over a file.
type Disk struct {
	Device string
	File   string
	Bytes  int64
}

// NewDisk makes a sparse file of the given size and attaches a loop device to it.
func NewDisk(t T, dir, name string, size int64) *Disk {
	t.Helper()
	d := &Disk{File: filepath.Join(dir, name), Bytes: size}
	f, err := os.Create(d.File)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatalf("%v", err)
	}
	d.Device = Attach(t, d.File)
	return d
}

// Attach attaches a loop device to a file until the run ends.
func Attach(t T, file string) string {
	t.Helper()
	dev := strings.TrimSpace(Run(t, "losetup", "--find", "--show", file))
	DetachAtTheEnd(t, dev, file)
	return dev
}

// DetachAtTheEnd detaches a loop device from a file when the run ends, unless the test has done so: the device may be another's then.
func DetachAtTheEnd(t T, dev, file string) {
	t.Helper()
	t.Cleanup(func() {
		if behind, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file")); err != nil || !isFile(strings.TrimSpace(string(behind)), file) {
			return
		}
		ctx, cancel := cleanupContext()
		defer cancel()
		if _, err := Try(ctx, "losetup", "--detach", dev); err != nil {
			t.Logf("cleanup: %v", err)
		}
	})
}

// isFile tells whether what the kernel calls a file is the one of that name.
func isFile(kernels, name string) bool {
	path, err := filepath.Abs(name)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return strings.TrimSuffix(kernels, " (deleted)") == path
}

// Format makes a file system: ext4, xfs or btrfs.
func (d *Disk) Format(t T, fs string) {
	t.Helper()
	args := map[string][]string{
		"ext4":  {"mkfs.ext4", "-q", "-F"},
		"xfs":   {"mkfs.xfs", "-q", "-f"},
		"btrfs": {"mkfs.btrfs", "-q", "-f"},
	}[fs]
	if args == nil {
		t.Fatalf("unknown file system %q", fs)
	}
	Run(t, args[0], append(args[1:], d.Device)...)
}

// Mount mounts a device (or an image file) at a new directory until the run ends, or until Unmount.
func Mount(t T, dev, dir string, options ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	args := []string{dev, dir}
	if len(options) > 0 {
		args = append([]string{"-o", strings.Join(options, ",")}, args...)
	}
	Run(t, "mount", args...)
	t.Cleanup(func() {
		if !Mounted(dir) {
			return
		}
		ctx, cancel := cleanupContext()
		defer cancel()
		if _, err := Try(ctx, "umount", dir); err != nil {
			t.Logf("cleanup: %v", err)
			_, _ = Try(ctx, "umount", "--lazy", dir)
		}
	})
	return dir
}

// Unmount unmounts a directory. It is busy for a moment where a process was forked while one of its files was open.
func Unmount(t T, dir string) {
	t.Helper()
	Eventually(t, 10*time.Second, "unmounted", func() (bool, string) {
		_, err := Try(t.Context(), "umount", dir)
		return err == nil, fmt.Sprint(err)
	})
}

// Mounted reports whether something is mounted at dir.
func Mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mounts")
	return err == nil && bytes.Contains(b, []byte(" "+dir+" "))
}

// Check runs the file system's own read-only check on a device or image, after its log was replayed.
func Check(t T, fs, image string) error {
	t.Helper()
	args := map[string][]string{
		"ext4":  {"e2fsck", "-fn"},
		"xfs":   {"xfs_repair", "-n"},
		"btrfs": {"btrfs", "check", "--readonly"},
	}[fs]
	_, err := Try(t.Context(), args[0], append(args[1:], image)...)
	return err
}

// SameContent compares a device with an image byte for byte, past the page cache of the device. Where the device's file
// systems use nothing, the image may have zeroes instead of what was there before it was replicated.
func SameContent(device, image string) error { return compare(device, image, unused) }

// Identical is SameContent without exceptions, for agents that replicate all blocks.
func Identical(device, image string) error {
	return compare(device, image, func(*os.File) ([]usedblocks.Range, error) { return nil, nil })
}

func compare(device, image string, unused func(*os.File) ([]usedblocks.Range, error)) error {
	a, err := os.OpenFile(device, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(image)
	if err != nil {
		return err
	}
	defer b.Close()
	const chunk = 1 << 20
	mem, err := syscall.Mmap(-1, 0, chunk, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Munmap(mem) }()
	spare, err := unused(a)
	if err != nil {
		return err
	}
	other := make([]byte, chunk)
	for off := int64(0); ; {
		n, errA := a.ReadAt(mem, off)
		m, errB := b.ReadAt(other[:n], off)
		if m < n {
			return fmt.Errorf("%s ends at %d, %s goes on: %w", image, off+int64(m), device, errB)
		}
		if i := firstDifference(mem[:n], other[:n]); i >= 0 && !forgive(spare, off, mem[:n], other[:n]) {
			return fmt.Errorf("%s and %s differ at byte %d (sector %d): %x, %x", device, image, off+int64(i), (off+int64(i))/512, mem[i:min(i+16, n)], other[i:min(i+16, n)])
		}
		off += int64(n)
		if errA == io.EOF || n == 0 {
			break
		}
		if errA != nil {
			return errA
		}
	}
	return sameSize(a, b)
}

// unused is what the device's file systems do not use. They are not mounted, or have nothing in memory.
func unused(device *os.File) ([]usedblocks.Range, error) {
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	free, _, err := usedblocks.Find(context.Background(), device, size, usedblocks.Options{MinFree: 4096, Settle: time.Second, Poll: 100 * time.Millisecond})
	return free, err
}

// forgive tells whether all blocks that differ are unused, and zero in the image.
func forgive(spare []usedblocks.Range, off int64, device, image []byte) bool {
	const block = 4096
	for at := 0; at < len(image); at += block {
		d, m := device[at:min(at+block, len(image))], image[at:min(at+block, len(image))]
		if bytes.Equal(d, m) {
			continue
		}
		from, to := off+int64(at), off+int64(at+len(m))
		inside := func(r usedblocks.Range) bool { return r.Offset <= from && to <= r.Offset+r.Length }
		if !bytes.Equal(m, make([]byte, len(m))) || !slices.ContainsFunc(spare, inside) {
			return false
		}
	}
	return true
}

func sameSize(a, b *os.File) error {
	sizeA, err := a.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	sizeB, err := b.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if sizeA != sizeB {
		return fmt.Errorf("%s has %d bytes, %s has %d", a.Name(), sizeA, b.Name(), sizeB)
	}
	return nil
}

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
