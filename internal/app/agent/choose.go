package agent

import (
	"fmt"
	"strings"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// refused says why a device can never be replicated, nil if it can.
func refused(d blockdev.Info) error {
	const op = "agent: --devices"
	switch {
	case d.Partition():
		return fault.New(fault.Unsupported, op, "%s is a partition of disk %s", d.Path, d.Disk).
			WithHint("whole disks are replicated: name the disk")
	case d.Zoned:
		return fault.New(fault.Unsupported, op, "%s is a zoned device", d.Path).
			WithHint("zoned devices cannot be replicated")
	case d.Bytes < blockdev.MinBytes:
		return fault.New(fault.Unsupported, op, "%s has %d bytes, the least is %d MiB", d.Path, d.Bytes, blockdev.MinBytes>>20).
			WithHint("leave it out")
	}
	return nil
}

// made says what a device that is not hardware is made of. What is below it is replicated in its stead: a copy of the
// hardware boots, and has everything above it.
var made = []struct{ prefix, of string }{
	{"dm-", "a device-mapper device (LVM, dm-crypt, multipath)"}, {"md", "a software RAID"}, {"loop", "a file"},
	{"zram", "memory"}, {"ram", "memory"}, {"sr", "a CD"}, {"nbd", "a network disk"}, {"zd", "a ZFS volume"}, {"drbd", "a DRBD device"},
}

// unlikely says why a device is replicated only if its user insists, nil if it is what one replicates.
func unlikely(d blockdev.Info) error {
	what := ""
	for _, m := range made {
		if strings.HasPrefix(d.Name, m.prefix) {
			what = m.of
			break
		}
	}
	if what == "" && !d.Hardware {
		what = "no hardware disk"
	}
	if what == "" {
		return nil
	}
	return fault.New(fault.Unsupported, "agent: --devices", "%s is %s", d.Path, what).
		WithHint("name the hardware disks below it, or insist with --force-volumes")
}

// detect lists the disks that are replicated when nobody names any: all of the hardware.
func detect() ([]string, error) {
	all, err := blockdev.List()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, d := range all {
		if refused(d) == nil && unlikely(d) == nil {
			paths = append(paths, d.Path)
		}
	}
	if len(paths) == 0 {
		return nil, fault.New(fault.NotFound, "agent: disks", "this machine has no hardware disk that can be replicated").
			WithHint("name disks with --devices; see 'understudy agent doctor' for why each is refused")
	}
	return paths, nil
}

// choose is the disks to install for. A partition stands for its disk, as with AWS's installer.
func choose(devices []string, force bool) ([]string, error) {
	if len(devices) == 0 {
		if force {
			return nil, fault.New(fault.Invalid, "agent: --force-volumes", "it names no disks").WithHint("give --devices too")
		}
		return detect()
	}
	var paths []string
	for _, path := range devices {
		d, err := blockdev.Stat(path)
		if err != nil {
			return nil, err
		}
		if d.Partition() {
			if d, err = blockdev.Stat("/dev/" + d.Name); err != nil {
				return nil, err
			}
		}
		if err := refused(d); err != nil {
			return nil, err
		}
		if err := unlikely(d); err != nil && !force {
			return nil, err
		}
		paths = append(paths, d.Path)
	}
	return paths, nil
}

// sameDisk names the pairs that are one disk seen twice: paths of a multipath, or a disk that was copied with its name.
func sameDisk(disks []blockdev.Info) error {
	seen := map[string]string{}
	for _, d := range disks {
		name := hardwareName(d)
		if name == "" {
			continue
		}
		if other, ok := seen[name]; ok {
			return fault.New(fault.Conflict, "agent: disks", "%s and %s have one name, %s", other, d.Path, name).
				WithHint("if they are two paths to one disk, replicate one of them; if they are two disks, give them names of their own")
		}
		seen[name] = d.Path
	}
	return nil
}

func describeDisk(d blockdev.Info) string {
	return strings.TrimSuffix(fmt.Sprintf("%d MiB, %s", d.Bytes>>20, strings.TrimSpace(d.Model+" "+hardwareName(d))), ", ")
}
