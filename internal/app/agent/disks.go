package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// disk is one disk to replicate, open and claimed.
type disk struct {
	path     string // as the operator named it, or the kernel: the device name of the APIs
	identity string // digest: what the disk is, whatever its path
	dev      blockdev.Dev
	sequence uint64
	bytes    uint64
	device   *blockdev.Device
	claim    *blockdev.Claim
}

type diskSet []disk

// inventory is the disks that this agent replicates. They change only while nothing is replicated; any goroutine may ask.
type inventory struct {
	dir     string
	devices []string
	list    func() ([]blockdev.Info, error) // of the machine's disks

	looking sync.Mutex // one look at a time
	ledger  ledger

	mu      sync.Mutex
	set     diskSet
	trouble error // why a disk that should be replicated is not
}

func (n *inventory) now() diskSet {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.set)
}

// openDisks finds, opens and claims the disks of this machine that are to be replicated.
func openDisks(c Config) (*inventory, error) { return openListed(c, blockdev.List) }

func openListed(c Config, list func() ([]blockdev.Info, error)) (*inventory, error) {
	n := &inventory{dir: c.StateDir, devices: c.Devices, list: list}
	var err error
	if n.ledger, err = loadKnown(c.StateDir); err != nil {
		return nil, err
	}
	first := len(n.ledger.Disks) == 0
	wanted, err := n.look(false)
	if err == nil {
		err = n.change(wanted)
	}
	if err == nil && (len(n.set) == 0 || first && n.trouble != nil) {
		if err = n.trouble; err == nil {
			err = fault.New(fault.NotFound, "agent: --devices", "none of the disks to replicate is there")
		}
	}
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// look says which disks are to be replicated now, and records what it saw before that counts. add is the policy for disks
// that were never seen.
func (n *inventory) look(add bool) ([]found, error) {
	n.looking.Lock()
	defer n.looking.Unlock()
	infos, err := n.list()
	if err != nil {
		return nil, err
	}
	all, err := n.ledger.sort(infos, n.devices)
	if err != nil {
		return nil, err
	}
	next := n.ledger
	next.Disks = slices.Clone(n.ledger.Disks)
	wanted, err := next.wanted(all, n.devices, bootID(), add)
	if err != nil {
		return nil, err
	}
	var trouble error
	wanted = slices.DeleteFunc(wanted, func(f found) bool {
		err := next.shrank(f)
		trouble = cmp.Or(trouble, err)
		return err != nil
	})
	if next.Boot != n.ledger.Boot || !slices.Equal(next.Disks, n.ledger.Disks) {
		if err := next.save(n.dir); err != nil {
			return nil, err
		}
	}
	n.ledger = next
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trouble = trouble
	return wanted, nil
}

func (d *disk) is(f *found) bool {
	return d.dev == f.Disk && d.sequence == f.Sequence && d.path == f.Path && d.bytes == f.Bytes && d.identity == f.id
}

// differs tells whether the wanted disks are others than those at hand.
func (n *inventory) differs(wanted []found) bool {
	return !slices.EqualFunc(n.now(), wanted, func(d disk, f found) bool { return d.is(&f) })
}

// change opens what has come and closes what has gone. Nothing may be using the disks.
func (n *inventory) change(wanted []found) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var next diskSet
	var failed error
	for i := range wanted {
		f := &wanted[i]
		if had := slices.IndexFunc(n.set, func(d disk) bool { return d.is(f) }); had >= 0 {
			next = append(next, n.set[had])
			n.set = slices.Delete(n.set, had, had+1)
		}
	}
	err := n.set.close() // before anything is claimed again
	n.set = next
	for i := range wanted {
		f := &wanted[i]
		if slices.ContainsFunc(next, func(d disk) bool { return d.is(f) }) {
			continue
		}
		d, err := openFound(f, "the agent of "+n.dir)
		if err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		n.set = append(n.set, d)
	}
	at := func(d disk) int { return slices.IndexFunc(wanted, func(f found) bool { return f.Path == d.path }) }
	slices.SortFunc(n.set, func(a, b disk) int { return at(a) - at(b) })
	n.trouble = cmp.Or(n.trouble, failed)
	return err
}

func openFound(f *found, owner string) (disk, error) {
	d, err := openDisk(f.Path)
	if err != nil {
		return d, err
	}
	d.identity, d.sequence = f.id, d.device.Info().Sequence
	if d.dev != f.Disk || d.sequence != f.Sequence {
		err = fault.New(fault.Transient, "agent: disks", "%s became another device while it was opened", f.Path)
	} else if d.claim, err = blockdev.ClaimDisk(d.dev, owner); err != nil {
		err = fault.Wrap("agent: --devices: "+f.Path, err)
	}
	if err != nil {
		return d, errors.Join(err, d.device.Close())
	}
	return d, nil
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

// digestOf is what the service is told of an identity: serial numbers do not leave the machine.
func digestOf(identity string) string {
	sum := sha256.Sum256([]byte("understudy disk identity 1\n" + identity))
	return hex.EncodeToString(sum[:16])
}

func (n *inventory) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.set.close()
	n.set = nil
	return err
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

// failing is why a disk that should be replicated is not, nil when all are.
func (n *inventory) failing() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trouble
}

// find is the disk that the service means; false while it has not heard of a change yet. An older service goes by names.
func (s diskSet) find(a *agentpb.AssignedDisk) (disk, bool, error) {
	for _, d := range s {
		if a.Identity == d.identity || a.Identity == "" && a.DeviceName == d.path {
			return d, true, nil
		}
	}
	if a.Identity != "" {
		return disk{}, false, nil
	}
	return disk{}, false, fault.New(fault.Conflict, "agent: disks", "the service names disk %q, which this agent does not replicate", a.DeviceName).
		WithHint("upgrade the server: it does not know of disks that change")
}
