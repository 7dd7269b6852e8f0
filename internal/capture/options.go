package capture

import (
	"crypto/rand"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	minRing = 64 << 10
	maxRing = 2 << 30
)

// describe checks the options against the machine and makes the owner record of a new capture.
func describe(o Options) (owner, error) {
	switch {
	case !filepath.IsAbs(o.PinDir):
		return owner{}, invalid("pin directory %q is not an absolute path", o.PinDir)
	case o.Mode == ModePayload && (o.RingBytes < minRing || o.RingBytes > maxRing || o.RingBytes&(o.RingBytes-1) != 0):
		return owner{}, invalid("ring of %d bytes: want a power of two from 64 KiB to 2 GiB", o.RingBytes)
	case o.Owner == "":
		return owner{}, invalid("no owner")
	case len(o.Disks) == 0:
		return owner{}, invalid("no disks")
	}
	own := owner{Version: formatVersion, Owner: o.Owner, Mode: o.Mode, RingBytes: o.RingBytes}
	if o.Mode != ModePayload {
		own.RingBytes = 0
	}
	rand.Read(own.ID[:])
	indexes, devs := map[uint16]bool{}, map[blockdev.Dev]bool{}
	for _, d := range o.Disks {
		if indexes[d.Index] || devs[d.dev()] {
			return owner{}, invalid("disk %d (%s) is named twice", d.Index, d.dev())
		}
		indexes[d.Index], devs[d.dev()] = true, true
		od, requests, err := describeDisk(d)
		if err != nil {
			return owner{}, err
		}
		own.Disks = append(own.Disks, od)
		if !requests {
			own.silent = append(own.silent, d.Index)
		}
	}
	return own, nil
}

func describeDisk(d Disk) (_ ownedDisk, requests bool, err error) {
	info, err := blockdev.Stat(d.Path)
	switch {
	case err != nil:
		return ownedDisk{}, false, err
	case info.Partition():
		return ownedDisk{}, false, invalid("%s is a partition: whole disks are captured", d.Path)
	case info.Dev != d.dev():
		return ownedDisk{}, false, invalid("%s is device %s, not %s", d.Path, info.Dev, d.dev())
	case info.Bytes != d.Bytes:
		return ownedDisk{}, false, invalid("%s has %d bytes, not %d", d.Path, info.Bytes, d.Bytes)
	}
	return ownedDisk{Disk: d, Sequence: info.Sequence}, info.Requests, refuse(d, info)
}

// refuse says why a disk cannot be captured in any mode, nil if it can.
func refuse(d Disk, info blockdev.Info) error {
	if !info.Zoned {
		return nil
	}
	return fault.New(fault.Unsupported, "capture: open", "%s is a zoned device", d.Path).
		WithHint("zoned devices choose where a write lands after it was submitted; leave it out")
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "capture: open", format, args...)
}

// supported looks for what would make loading fail with a message that misleads.
func supported(m Mode) error {
	if err := probeBTF(); err != nil {
		return err
	}
	if m == ModePayload {
		return probeLockdown()
	}
	return nil
}
