package agent

import (
	"errors"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// disk is one disk to replicate, open and claimed.
type disk struct {
	path   string // as the operator named it: the device name of the APIs
	dev    blockdev.Dev
	bytes  uint64
	device *blockdev.Device
	claim  *blockdev.Claim
}

type diskSet []disk

// openDisks opens and claims every device, or none.
func openDisks(c Config) (_ diskSet, err error) {
	var set diskSet
	defer func() {
		if err != nil {
			err = errors.Join(err, set.close())
		}
	}()
	seen := map[blockdev.Dev]string{}
	for _, path := range c.Devices {
		d, err := openDisk(path)
		if err != nil {
			return set, err
		}
		set = append(set, d)
		if other, ok := seen[d.dev]; ok {
			return set, fault.New(fault.Invalid, "agent: --devices", "%s and %s are the same disk", other, path)
		}
		seen[d.dev] = path
	}
	for i, d := range set {
		if set[i].claim, err = blockdev.ClaimDisk(d.dev, "the agent of "+c.StateDir); err != nil {
			return set, fault.Wrap("agent: --devices: "+d.path, err)
		}
	}
	return set, nil
}

func openDisk(path string) (d disk, err error) {
	d.path = path
	if d.device, err = blockdev.Open(path); err != nil {
		return d, err
	}
	info := d.device.Info()
	if err = refused(info); err == nil {
		d.dev = info.Disk
		d.bytes, err = d.device.Size()
	}
	if err != nil {
		return d, errors.Join(err, d.device.Close())
	}
	return d, nil
}

func (s diskSet) close() error {
	var err error
	for _, d := range s {
		if d.claim != nil {
			err = errors.Join(err, d.claim.Close())
		}
		err = errors.Join(err, d.device.Close())
	}
	return err
}

// resized tells of a disk that no longer has the size it is replicated with: every write beyond its old end is a drop,
// so no baseline ever completes, and nothing else says why.
func (s diskSet) resized() error {
	for _, d := range s {
		if n, err := d.device.Size(); err == nil && n != d.bytes {
			return fault.New(fault.Conflict, "agent: disks", "%s has %d bytes now, %d are replicated", d.path, n, d.bytes).
				WithHint("stop replication, then run the agent again and start replication anew: all disks are copied")
		}
	}
	return nil
}

func (s diskSet) find(path string) (disk, error) {
	for _, d := range s {
		if d.path == path {
			return d, nil
		}
	}
	return disk{}, fault.New(fault.Conflict, "agent: disks", "the service names disk %q, which this agent does not replicate", path)
}
