// Package blockdev is the only door that opens block devices: sizes, identities, statistics, aligned reads, and the
// claim that keeps two owners off one disk.
//
// What reads or writes disks on a source server imports it: capture, the agent's source side, the failback client and
// their assembly.
package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// MinBytes is the smallest device that is replicated.
const MinBytes = 1 << 20

// Dev is a device number.
type Dev struct{ Major, Minor uint32 }

func (d Dev) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Device is a block device opened past the page cache.
type Device struct {
	f    *os.File
	info Info
}

// Open opens the block device at path for reading, past the page cache. It may be a partition.
func Open(path string) (*Device, error) { return open(path, unix.O_RDONLY) }

// OpenExclusive opens the block device at path for reading and writing, past the page cache, and refuses one that is
// mounted or otherwise held.
func OpenExclusive(path string) (*Device, error) { return open(path, unix.O_RDWR|unix.O_EXCL) }

func open(path string, flags int) (*Device, error) {
	info, err := Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Bytes < MinBytes {
		return nil, fault.New(fault.Unsupported, "blockdev: open", "%s has %d bytes", path, info.Bytes).
			WithHint("devices smaller than 1 MiB are not replicated; leave it out")
	}
	f, err := os.OpenFile(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openFault(path, err)
	}
	d := &Device{f: f, info: info}
	if err := d.confirm(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// confirm compares the opened node with what Stat saw: a path can change in between.
func (d *Device) confirm() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return openFault(d.info.Path, err)
	}
	if now := (Dev{unix.Major(st.Rdev), unix.Minor(st.Rdev)}); now != d.info.Dev {
		return fault.New(fault.Transient, "blockdev: open", "%s became device %s while it was opened", d.info.Path, now)
	}
	return nil
}

func openFault(path string, err error) error {
	kind, hint := fault.Transient, ""
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOMEDIUM):
		kind, hint = fault.NotFound, "see lsblk for the disks of this machine"
	case errors.Is(err, os.ErrPermission):
		kind, hint = fault.Denied, "run as root"
	case errors.Is(err, unix.EBUSY):
		kind, hint = fault.Conflict, "unmount it, and stop what holds it (lsblk, dmsetup ls, swapoff)"
	case errors.Is(err, unix.EROFS):
		kind, hint = fault.Denied, "the device is read-only (blockdev --setrw)"
	case errors.Is(err, unix.EINVAL):
		kind, hint = fault.Unsupported, "the device does not do direct I/O"
	}
	return fault.New(kind, "blockdev: open", "%s: %w", path, err).WithHint(hint)
}

// Info is what Stat saw when the device was opened.
func (d *Device) Info() Info { return d.info }

// Size asks the kernel for the size now; a device can grow.
func (d *Device) Size() (uint64, error) {
	n, err := unix.IoctlGetInt(int(d.f.Fd()), unix.BLKGETSIZE64) // an int is the 64 bits that the kernel writes
	if err != nil {
		return 0, ioFault("size", d.info.Path, err)
	}
	return uint64(n), nil
}

// ReadAt reads past the page cache. Offset, length and the address of p are multiples of Info().LogicalBlock, see
// AlignedBuffer. A read that the device's end cuts short says io.EOF.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.aligned("read", p, off); err != nil {
		return 0, err
	}
	n, err := d.f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, ioFault("read", d.info.Path, err)
	}
	return n, err
}

// WriteAt writes past the page cache, with the alignment of ReadAt.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.aligned("write", p, off); err != nil {
		return 0, err
	}
	n, err := d.f.WriteAt(p, off)
	if err != nil {
		return n, ioFault("write", d.info.Path, err)
	}
	return n, nil
}

// Sync makes the device's own write cache durable.
func (d *Device) Sync() error {
	if err := d.f.Sync(); err != nil {
		return ioFault("sync", d.info.Path, err)
	}
	return nil
}

// Close closes the device.
func (d *Device) Close() error { return d.f.Close() }

func (d *Device) aligned(op string, p []byte, off int64) error {
	block := uint64(d.info.LogicalBlock)
	if uint64(off)%block == 0 && uint64(len(p))%block == 0 && uint64(address(p))%block == 0 {
		return nil
	}
	return fault.New(fault.Bug, "blockdev: "+op, "%s: %d bytes at %d are not aligned to %d", d.info.Path, len(p), off, block)
}

func ioFault(op, path string, err error) error {
	kind := fault.Transient
	switch {
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		kind = fault.NotFound
	case errors.Is(err, unix.ENOSPC):
		kind = fault.OutOfSpace
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBADF), errors.Is(err, unix.EROFS):
		kind = fault.Denied
	}
	return fault.New(kind, "blockdev: "+op, "%s: %w", path, err)
}
