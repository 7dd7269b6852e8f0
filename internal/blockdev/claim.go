package blockdev

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// claimDir holds one locked file per claimed disk: it is on a tmpfs, and a lock goes when its process does, so no
// claim outlives its owner.
const claimDir = "/run/understudy/claims"

// Claim is the right to a disk, held until it is released or its process ends.
type Claim struct{ f *os.File }

// ClaimDisk claims a whole disk for owner. While another process or Claim holds it, it fails with a Conflict that
// names the holder.
func ClaimDisk(disk Dev, owner string) (*Claim, error) {
	const op = "blockdev: claim"
	if err := os.MkdirAll(claimDir, 0o700); err != nil {
		return nil, fault.New(fault.Denied, op, "%w", err).WithHint("run as root")
	}
	f, err := os.OpenFile(filepath.Join(claimDir, disk.String()), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fault.New(fault.Denied, op, "%w", err).WithHint("run as root")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		holder, _ := io.ReadAll(io.LimitReader(f, 4096))
		return nil, fault.New(fault.Conflict, op, "disk %s is claimed by %q", disk, holder).
			WithHint("stop the other owner first; one disk has one owner")
	}
	if err := rewrite(f, owner); err != nil {
		f.Close()
		return nil, fault.New(fault.OutOfSpace, op, "%w", err)
	}
	return &Claim{f}, nil
}

// Close releases the claim. The file stays: removing it could take the lock from under the next owner.
func (c *Claim) Close() error {
	err := c.f.Truncate(0)
	if cerr := c.f.Close(); err == nil {
		err = cerr
	}
	return err
}

func rewrite(f *os.File, s string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
