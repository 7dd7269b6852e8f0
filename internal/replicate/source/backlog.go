package source

import (
	"math"
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/backlog"
)

const (
	movePiece = 4 << 20 // of the ring, between two looks at anything else
	moveAbove = 2       // one part in so many of the ring waits before anything is copied

	burstAtMost = 5 * time.Second // writes that the link has not caught up with for so long outrun it
)

// buffered is the capture with a backlog behind its ring. docs/design/2026-11-23-backlog.md has the invariants.
type buffered struct {
	Capture
	backlog *backlog.Backlog
	memory  memory
	lost    lost
}

// lost is what an earlier agent had in its memory only. It ends the epoch at hand, whatever that is, until the next is opened.
type lost struct {
	from, to uint64 // ring offsets; the same: nothing
	told     bool
}

func (l *lost) any() bool { return l.from < l.to }

func newBuffered(c Capture, limit int) *buffered {
	b := &buffered{Capture: c, backlog: backlog.New(c, limit), memory: memory{cells: c}}
	if from, ok := b.memory.marked(); ok && from < c.Consumer() {
		b.lost = lost{from: from, to: c.Consumer()}
	}
	b.mark()
	return b
}

// Next is the capture's, over memory and ring.
func (b *buffered) Next(offset uint64, r *capture.Record) (bool, error) {
	return b.backlog.Next(offset, r)
}

// Consumer is the ring offset up to which all was released, by whoever asks for it.
func (b *buffered) Consumer() uint64 { return b.backlog.Consumer() }

// Release is the capture's, over memory and ring.
func (b *buffered) Release(offset uint64) {
	b.backlog.Release(offset)
	b.mark()
}

// mark keeps for the next agent what would be lost if this one died now.
func (b *buffered) mark() {
	switch {
	case b.lost.any():
		b.memory.mark(b.lost.from)
	case b.backlog.Holds():
		b.memory.mark(b.backlog.Consumer())
	default:
		b.memory.unmark()
	}
}

// opened notes that the epoch at hand was opened behind everything in the ring.
func (b *buffered) opened() {
	b.lost = lost{}
	b.mark()
}

// waits is what of the ring is neither released nor moved.
func (b *buffered) waits() uint64 { return b.Producer() - b.backlog.Emptied() }

// spill moves the oldest records out of the ring while too much of it waits. x is the session at hand, or nil. What follows a
// drop is never sent, so it need not be kept. Before the baseline is complete only a burst is: captured writes go first, so those
// that outrun the link would hold the baseline up for as long as memory lasts, and a drop sooner than later lets it be read.
func (s *Source) spill(x *session) error {
	b := s.cap
	if b.backlog.Limit() == 0 || b.waits() <= uint64(b.RingBytes()/moveAbove) || b.Drops() != s.ep.drops {
		return nil
	}
	if !s.ep.done && (x == nil || time.Since(x.abreastAt) >= burstAtMost) {
		return nil
	}
	var failed error
	err := b.backlog.Move(movePiece, func(from, to uint64) {
		if x != nil {
			failed = x.realias(from, to)
		}
		b.mark()
	})
	if fault.Is(err, fault.OutOfSpace) {
		s.log.Warn("the backlog stays smaller than it might be", "bytes", b.backlog.Limit(), "err", err)
		err = nil
	}
	if failed != nil {
		err = failed
	}
	return ringErr(err)
}

// realias points what is held of the records of [from, to) at their copies.
func (x *session) realias(from, to uint64) error {
	for _, b := range x.bios.open {
		if err := x.realiasBio(b, from, to); err != nil {
			return err
		}
	}
	if x.out == nil {
		return nil
	}
	return x.realiasBio(x.out, from, to)
}

func (x *session) realiasBio(b *bio, from, to uint64) error {
	var r capture.Record
	for i := range b.parts {
		p := &b.parts[i]
		if p.Start < from || p.Start >= to {
			continue
		}
		ok, err := x.cap.Next(p.Start, &r)
		if err != nil {
			return err
		}
		if !ok || r.Start != p.Start {
			return fault.New(fault.Bug, "source: backlog", "the record at %d was not kept", p.Start)
		}
		p.Data = r.Data
	}
	return nil
}

// curtail makes the epoch before the one at hand end where a lost range begins: what it lacks is not in the ring either.
func (s *Source) curtail() {
	l, e := &s.cap.lost, &s.ep
	if from := e.position(l.from); l.any() && e.gap > from {
		e.gap = from
		s.memory.put(fieldGap, from)
	}
}

// mourn ends the epoch at hand where a lost range begins, if there is one.
func (x *session) mourn() {
	l, e := &x.s.cap.lost, &x.s.ep
	if !l.any() {
		return
	}
	x.endEpoch(max(l.from, e.producer))
	x.keep = math.MaxUint64 // the mark tells every later session
	if !l.told {
		l.told = true
		x.s.meter.gaps.Add(1)
		x.s.log.Warn("the agent before ended while it held writes in memory: their blocks are read again", "epoch", e.number,
			"bytes", l.to-l.from, "last", x.gap)
	}
}
