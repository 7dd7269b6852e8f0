package source

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/wire"
)

/*
The disks of an epoch never change. What was added to the capture, a disk or the end of one that grew, joins: an epoch names
it so, and while that epoch is complete its debt is read beside the captured writes. When it owes nothing, another epoch opens
of which it is part. The journal's Welcome says how far that is; docs/design/2026-11-23-disks.md is the argument.
*/

// settleDisks takes from a Welcome what of each disk is part of the newest epoch of the journal. It tells whether that
// epoch has another table than the disks at hand need, and whether it has one that is gone.
func (s *Source) settleDisks(w *wire.Welcome) (changed, gone bool) {
	all := w.Version < wire.V4 || w.Epoch == 0
	joining := 0
	for _, d := range s.disks {
		d.shown = d.Bytes
		if all {
			continue
		}
		if i := indexOf(w.Disks, d.Index); i < 0 {
			d.shown = 0
		} else {
			d.shown = min(w.Disks[i].Bytes, d.Bytes)
		}
		if d.joins() {
			joining++
			i := indexOf(w.Joining, d.Index)
			changed = changed || i < 0 || w.Joining[i].Bytes != d.Bytes
		}
	}
	if all {
		return false, false
	}
	for _, d := range w.Disks {
		gone = gone || s.disk(d.Index) == nil
	}
	for _, d := range w.Joining {
		changed = changed || s.disk(d.Index) == nil
	}
	// Without payloads epochs are too short to join in; and some disk must be part of an epoch.
	nothing := !slices.ContainsFunc(s.disks, func(d *disk) bool { return d.shown > 0 })
	if s.cfg.Pacer != nil || nothing {
		changed = changed || joining > 0
		s.join()
	}
	return changed || gone, gone
}

func indexOf(disks []wire.Disk, index uint16) int {
	return slices.IndexFunc(disks, func(d wire.Disk) bool { return d.Index == index })
}

// join makes all of every disk part of the next epoch.
func (s *Source) join() {
	for _, d := range s.disks {
		d.shown = d.Bytes
	}
}

func (d *disk) joins() bool { return d.shown < d.Bytes }

func (s *Source) joining() bool { return slices.ContainsFunc(s.disks, (*disk).joins) }

// table is what the epoch at hand has of the disks.
func (s *Source) table() (disks, joining []wire.Disk) {
	for _, d := range s.disks {
		w := wire.Disk{Index: d.Index, Device: d.Device, Bytes: d.Bytes}
		if d.joins() {
			joining = append(joining, w)
			w.Bytes = d.shown
		}
		if d.shown > 0 {
			disks = append(disks, w)
		}
	}
	return disks, joining
}

// due are the blocks of a disk whose debt is to be read now: what is part of the epoch until that is complete, what joins
// from then on. A block that has both is part of it.
func (x *session) due(d *disk) (from, to uint64) {
	size := d.debt.BlockSize()
	part := (d.shown + size - 1) / size
	if x.s.ep.done {
		return part, d.debt.Blocks()
	}
	return 0, part
}

// owes tells whether a disk has debt that is due.
func (x *session) owes(d *disk) bool {
	from, to := x.due(d)
	start, _, ok := d.debt.NextSet(from)
	return ok && start < to
}

// joined ends a complete epoch when what joins owes nothing more; the next has all of it.
func (x *session) joined() {
	b := &x.base
	if !x.s.ep.done || x.tainted || !x.announced || !b.empty || b.underway > 0 || !x.s.joining() {
		return
	}
	x.s.join()
	x.changing = true
	x.endEpoch(x.read)
	x.s.log.Info("the epoch ends for disks that have been copied", "epoch", x.s.ep.number, "last", x.gap)
}

// backlog is what the epoch owes of a disk, about.
func (d *disk) backlog() uint64 { return d.owed - min(d.owed, d.Bytes-d.shown) }
