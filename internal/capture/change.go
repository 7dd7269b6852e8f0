package capture

import (
	"errors"
	"slices"

	"github.com/cilium/ebpf"
)

/*
A pinned capture is given other disks while its programs run, by the one process that has it open. The order is that of
docs/design/2026-11-23-disks.md: what was added is debt first, then it is recorded, then the programs see it. Whoever dies
in between leaves debt too much, or a record that the next to open it makes true.
*/
type change struct {
	next     owner
	other    bool     // the record changes
	owed     []owed   // becomes debt
	replaced []uint16 // disks of which other content may be known already
}

// owed are blocks of a disk from one on.
type owed struct {
	disk uint16
	from uint64
	anew bool // in a new place
}

// become plans the change from a capture as it is pinned to one of other disks. why says what speaks against it.
func (o owner) become(want owner) (ch change, why string) {
	ch.next = o
	ch.next.silent = want.silent
	ch.next.Disks = make([]ownedDisk, 0, len(want.Disks))
	ch.other = len(o.Disks) != len(want.Disks)
	for _, d := range want.Disks {
		was := ownedDisk{}
		i := slices.IndexFunc(o.Disks, func(have ownedDisk) bool { return have.Index == d.Index })
		if i >= 0 {
			was = o.Disks[i]
		}
		same := i >= 0 && was.dev() == d.dev() && was.Sequence == d.Sequence
		switch {
		case same && was.Bytes == d.Bytes:
			was.Path = d.Path // it may be found under another name
			ch.next.Disks = append(ch.next.Disks, was)
			continue
		case o.Version < formatV3:
			return ch, "other disks"
		case same && was.Bytes < d.Bytes && was.holds(d.Bytes):
			d.place = was.place
			ch.owed = append(ch.owed, owed{disk: d.Index, from: was.Bytes >> was.Shift})
		default:
			var room bool
			if d.place, room = ch.next.find(d.Bytes); !room {
				return ch, "no room for disk " + d.Path
			}
			ch.owed = append(ch.owed, owed{disk: d.Index, anew: true})
			if i >= 0 {
				ch.replaced = append(ch.replaced, d.Index)
			}
		}
		ch.next.Disks = append(ch.next.Disks, d)
		ch.other = true
	}
	if ch.other && o.Version < formatV3 {
		return ch, "other disks"
	}
	return ch, ""
}

// change makes it so. It also ends a change that somebody else died in.
func (c *Capture) change(ch *change, ownerMap *ebpf.Map) error {
	for _, w := range ch.owed {
		b := c.bitmap(regionDebt, w.disk)
		if w.anew {
			clear(b.words) // a change that was not recorded may have left bits
		}
		b.Set(w.from, b.Blocks())
	}
	if ch.other {
		if err := ch.next.store(ownerMap); err != nil {
			return err
		}
	}
	c.coarse = len(ch.replaced) > 0
	return c.tellPrograms()
}

// tellPrograms makes the disks map what the owner record says. The kernel gives the memory of an entry that was replaced to
// the next: so each waits until no program uses the one before.
func (c *Capture) tellPrograms() error {
	wanted := map[uint32]diskEntry{}
	for _, d := range c.owner.Disks {
		wanted[deviceKey(d.dev())] = c.plan.entry(d)
	}
	var gone []uint32
	var key uint32
	var e diskEntry
	entries := c.disks.Iterate()
	for entries.Next(&key, &e) {
		want, ok := wanted[key]
		if !ok {
			gone = append(gone, key)
			continue
		}
		if want.Written = e.Written; want == e {
			delete(wanted, key)
		} else {
			wanted[key] = want
		}
	}
	if err := entries.Err(); err != nil {
		return kernelFault("list disks", err)
	}
	for _, key := range gone {
		if err := c.disks.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return kernelFault("remove a disk", err)
		}
		if err := gracePeriod(); err != nil {
			return err
		}
	}
	for key, e := range wanted {
		if err := c.disks.Put(key, e); err != nil {
			return kernelFault("change disks", err)
		}
		if err := gracePeriod(); err != nil {
			return err
		}
	}
	return nil
}
