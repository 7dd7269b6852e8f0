package blockdev

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// claimDir holds one locked file per claimed disk: it is on a tmpfs, and a lock goes when its process does, so no
// claim outlives its owner.
const claimDir = "/run/understudy/claims"

// Claim is the right to a disk, held until it is released or its process ends.
type Claim struct{ f *os.File }

const (
	sweepTries = 3
	sweepWait  = 20 * time.Millisecond
)

// ClaimDisk claims a whole disk for owner. While another process or Claim holds it, it fails with a Conflict that
// names the holder.
func ClaimDisk(disk Dev, owner string) (*Claim, error) {
	const op = "blockdev: claim"
	path := filepath.Join(claimDir, disk.String())
	f, err := lockClaim(path, os.O_CREATE)
	for try := 0; err != nil && f != nil && try < sweepTries; try++ { // who sweeps holds it for a moment
		f.Close()
		<-time.After(sweepWait)
		f, err = lockClaim(path, os.O_CREATE)
	}
	if err != nil && f != nil {
		defer f.Close()
		holder, _ := io.ReadAll(io.LimitReader(f, 4096))
		return nil, fault.New(fault.Conflict, op, "disk %s is claimed by %q", disk, holder).
			WithHint("stop the other owner first; one disk has one owner")
	}
	if err != nil {
		return nil, fault.New(fault.Denied, op, "%w", err).WithHint("run as root")
	}
	if err := rewrite(f, owner); err != nil {
		f.Close()
		return nil, fault.New(fault.OutOfSpace, op, "%w", err)
	}
	return &Claim{f}, nil
}

// lockClaim opens and locks a claim's file. Where somebody else has it locked, it returns the file with the error. Owners
// remove their file: a lock on one that was removed, or exchanged for another, meanwhile is none.
func lockClaim(path string, flags int) (*os.File, error) {
	for {
		if flags&os.O_CREATE != 0 {
			if err := os.MkdirAll(claimDir, 0o700); err != nil {
				return nil, err
			}
		}
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
		if errors.Is(err, os.ErrNotExist) && flags&os.O_CREATE != 0 {
			continue // the directory went, as the last claim did
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return f, err
		}
		if named(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// named tells whether path is the open file.
func named(f *os.File, path string) bool {
	own, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(own, now)
}

// Close releases the claim.
func (c *Claim) Close() error {
	err := os.Remove(c.f.Name())
	if cerr := c.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// SweepClaims removes what owners that were killed have left of theirs, and the directory if nobody holds a claim.
func SweepClaims() {
	entries, err := os.ReadDir(claimDir)
	if err != nil {
		return // there were none since the machine started
	}
	for _, e := range entries {
		f, err := lockClaim(filepath.Join(claimDir, e.Name()), 0)
		if err == nil {
			_ = os.Remove(f.Name())
		}
		if f != nil {
			f.Close()
		}
	}
	_ = os.Remove(claimDir)
}

func rewrite(f *os.File, s string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
