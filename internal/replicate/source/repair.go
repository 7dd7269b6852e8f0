package source

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
A Repair asks for content that the server holds no longer whole. It is never absorbed by the epoch at hand: a baseline
read carries the epoch's first position, so a captured write of the same epoch that was damaged would win over it.
The epoch ends where the stream is, and the next owes the ranges too.

A Repair is not remembered over a connection: the server asks again until an epoch is opened that names it. From then on
its ranges are debt like any other, which outlives the agent.
*/

// maxRepairs bounds what waits for the next epoch. More is asked for again on another connection.
const maxRepairs = 64

func repairOf(f *wire.Frame) (r wire.Repair, err error) {
	if err := f.Unmarshal(&r); err != nil {
		return r, err
	}
	if len(r.Ranges) > wire.MaxRepair {
		return r, fault.New(fault.Corruption, "source: repair", "%d ranges in one message", len(r.Ranges))
	}
	return r, nil
}

// askedToRepair keeps a request for the next epoch, unless it waits already or the epoch at hand owes it.
func (x *session) askedToRepair(r wire.Repair) {
	waits := func(o wire.Repair) bool { return o.ID == r.ID }
	if slices.ContainsFunc(x.repairs, waits) || slices.Contains(x.s.ep.repairs, r.ID) || len(x.repairs) >= maxRepairs {
		return
	}
	x.repairs = append(x.repairs, r)
	x.s.log.Warn("the server asks for damaged content to be read again", "repair", r.ID, "ranges", len(r.Ranges))
}

// beginRepair ends an epoch whose baseline is complete when there is something to repair. One that is not complete goes
// on: there is nothing to recover from it before, and all that it has read would be for nothing.
func (x *session) beginRepair() {
	if len(x.repairs) > 0 && x.announced && !x.tainted && x.s.ep.done {
		x.endEpoch(x.read)
		x.s.log.Info("the epoch ends for a repair", "epoch", x.s.ep.number, "last", x.gap)
	}
}

// oweRepairs makes debt of what waits and notes in e that it did.
func (x *session) oweRepairs(e *epoch) {
	for _, r := range x.repairs {
		for _, g := range r.Ranges {
			x.oweRange(g)
		}
		e.repairs = append(e.repairs, r.ID)
	}
	x.repairs = nil
}

// oweRange owes every block that the range touches, as far as the disk goes.
func (x *session) oweRange(g wire.Range) {
	d := x.s.disk(g.Disk)
	if d == nil {
		return
	}
	total := d.Bytes / wire.SectorSize
	if g.Sector >= total || g.Sectors == 0 {
		return
	}
	end := g.Sector + min(g.Sectors, total-g.Sector)
	perBlock := d.debt.BlockSize() / wire.SectorSize
	d.debt.Set(g.Sector/perBlock, (end+perBlock-1)/perBlock)
}
