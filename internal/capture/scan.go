package capture

import (
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// Scan is the capture where the kernel lets nothing be attached: it knows of each disk only whether anything was
// written, by the kernel's counters, as of the last Flip. All it knows dies with the process.
//
// Its methods promise what those of Capture do, as docs/design/2026-11-23-capture-modes.md says.
type Scan struct {
	*counted
	owner    owner
	drops    *uint64
	plan     plan
	debt     []uint64
	disks    []scanned
	inFlight atomic.Uint64 // writes, as of the last Flip
	meta     [MetaCells]uint64
	doubts   doubts
}

// scanned is one disk as it was last looked at.
type scanned struct {
	ownedDisk
	written blockdev.Written
	dirty   bool
}

// OpenScan begins to watch. Whatever is pinned in PinDir is removed: it is of another mode.
func OpenScan(o Options) (*Scan, error) {
	o.Mode = ModeScan
	own, err := describe(o)
	if err != nil {
		return nil, err
	}
	if err := Remove(o.PinDir); err != nil {
		return nil, err
	}
	p := planFor(own.Disks)
	drops := new(uint64)
	s := &Scan{owner: own, drops: drops, counted: newCounted(drops), plan: p, debt: make([]uint64, p.words)}
	for _, d := range own.Disks {
		w, err := blockdev.WrittenTo(d.dev())
		if err != nil {
			return nil, err
		}
		s.disks = append(s.disks, scanned{ownedDisk: d, written: w})
	}
	return s, nil
}

// ID is another one for each Scan.
func (s *Scan) ID() [16]byte { return s.owner.ID }

// Mode is scan.
func (s *Scan) Mode() Mode { return ModeScan }

// Fresh is always true.
func (s *Scan) Fresh() bool { return true }

// Close forgets everything.
func (s *Scan) Close() error { return nil }

// Drops counts the looks that found something written, or could not tell.
func (s *Scan) Drops() uint64 { return atomic.LoadUint64(s.drops) }

// Flip looks at the counters. What completed before is in Drops when it returns.
func (s *Scan) Flip() error {
	inFlight := uint64(0)
	for i := range s.disks {
		d := &s.disks[i]
		n, _ := blockdev.InFlightWrites(d.dev()) // what keeps this from being read is met below
		inFlight += n
		w, err := blockdev.WrittenTo(d.dev())
		s.doubts.change(func(n *Doubts) {
			delete(n.Unaudited, d.Index)
			switch {
			case err != nil:
				n.Unaudited[d.Index] = err.Error()
			case w == d.written:
				n.Proven[d.Index] = time.Now()
			}
		})
		if err != nil || w != d.written {
			d.written, d.dirty = w, true
			atomic.AddUint64(s.drops, 1)
		}
	}
	s.inFlight.Store(inFlight)
	return nil
}

// ClearIdle has nothing to clear: while nothing was written there is nothing, and else a new epoch wants it.
func (s *Scan) ClearIdle() {}

// DirtyToDebt owes the whole of every disk that was written.
func (s *Scan) DirtyToDebt() {
	for i := range s.disks {
		if d := &s.disks[i]; d.dirty {
			b := s.Debt(d.Index)
			b.Set(0, b.Blocks())
			d.dirty = false
		}
	}
}

// LateToDebt has nothing to move: a completion is a drop.
func (s *Scan) LateToDebt() bool { return false }

// Debt is the debt bitmap of a disk.
func (s *Scan) Debt(disk uint16) Bitmap {
	p, ok := s.plan.disks[disk]
	if !ok {
		return Bitmap{}
	}
	return p.bitmap(s.debt)
}

// DirtyBytes is how much DirtyToDebt would make debt now, debt that there is included.
func (s *Scan) DirtyBytes() uint64 {
	n := uint64(0)
	for _, d := range s.disks {
		b := s.Debt(d.Index)
		if d.dirty {
			n += b.Blocks() << b.shift
		} else {
			n += b.Count() << b.shift
		}
	}
	return n
}

// Coarse is always true.
func (s *Scan) Coarse() bool { return true }

// OutstandingDropped counts the writes in flight, as of the last Flip.
func (s *Scan) OutstandingDropped() uint64 { return s.inFlight.Load() }

// LateDropped says how many writes there are; when they complete that is a drop.
func (s *Scan) LateDropped() (uint64, error) { return s.inFlight.Load(), nil }

// BeginDrain does nothing: nothing marks completions.
func (s *Scan) BeginDrain() {}

// Draining is never true, so no block is read while a write from before may be in flight.
func (s *Scan) Draining() bool { return false }

// EndDrain does nothing.
func (s *Scan) EndDrain() {}

// Meta reads a cell, which lives as long as the Scan.
func (s *Scan) Meta(cell int) uint64 { return atomic.LoadUint64(&s.meta[cell]) }

// SetMeta writes a cell.
func (s *Scan) SetMeta(cell int, v uint64) { atomic.StoreUint64(&s.meta[cell], v) }

// Doubts may be asked for by any goroutine.
func (s *Scan) Doubts() Doubts { return s.doubts.copy() }
