package source

import (
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// sent is what must be remembered of a frame until it is acknowledged.
type sent struct {
	typ      wire.Type
	epoch    uint64
	release  uint64 // ring offset that its acknowledgement frees
	position uint64 // the last bio that ends in it; 0: none does
	time     int64
	oldest   int64  // unix ns of its first captured write; 0: none
	newest   int64  // and of its last
	chunk    *chunk // whose last frame this is
}

// acknowledge takes note that the server made a prefix of the frames durable.
func (x *session) acknowledge(h *wire.Header) error {
	if h.First < x.ackedFrames {
		return nil
	}
	n := h.First - x.ackedFrames
	if n > uint64(len(x.flight)) {
		return fault.New(fault.Corruption, "source: acknowledgement", "of %d frames, %d were sent", h.First,
			x.ackedFrames+uint64(len(x.flight)))
	}
	x.ackedFrames = h.First
	x.s.ep.frames = x.stored + h.First // before what it proves: see settleFrame
	x.s.memory.put(fieldFrames, x.s.ep.frames)
	free := uint64(0)
	wall := x.s.clock.now()
	for i := range x.flight[:n] {
		f := &x.flight[i]
		x.settleFrame(f, wall)
		free = max(free, f.release)
	}
	x.flight = append(x.flight[:0], x.flight[n:]...)
	x.release(free)
	return nil
}

// settleFrame records what one acknowledged frame proves. What the server may be held to is written first, so that
// an agent killed here never believes less of the server than it released.
func (x *session) settleFrame(f *sent, wall int64) {
	e := &x.s.ep
	if f.position > e.acked {
		e.acked = f.position
		x.s.memory.put(fieldAcked, f.position)
	}
	if f.time > e.time {
		e.time = f.time
		x.s.memory.put(fieldTime, uint64(f.time))
	}
	switch {
	case f.typ == wire.TypeEpochOpen && f.epoch == e.number:
		x.remember(fieldOpenAcked)
	case f.typ == wire.TypeBaselineDone && f.epoch == e.number:
		x.remember(fieldDone)
		if x.s.forgiven == 0 {
			x.s.waited = e.number
		}
		x.base = baseline{told: true} // from now on for what joins
		x.completed()
		x.s.log.Info("baseline complete", "epoch", e.number, "reason", e.why())
	}
	// What comes after BaselineDone is at or past its position: only then the server has a state to show.
	if e.done && f.epoch == e.number && (f.typ == wire.TypeMark || f.position != 0) {
		x.shown = true
	}
	if f.chunk != nil {
		x.chunkDone(f.chunk)
	}
	if f.oldest != 0 {
		x.s.meter.lag.add(wall-f.oldest, wall-f.newest)
	}
}

// passed notes that the ring needs no keeping below safe once everything in flight is acknowledged. Only when no
// captured write is held in the builder.
func (x *session) passed() {
	if x.builder != nil && !x.builder.Empty() {
		return
	}
	if n := len(x.flight); n > 0 {
		x.flight[n-1].release = max(x.flight[n-1].release, x.safe())
		return
	}
	x.release(x.safe())
}

// release gives the ring back, and with it the generation whose writes are all acknowledged now.
func (x *session) release(offset uint64) {
	if offset > x.released {
		x.cap.Release(offset)
		x.released = offset
	}
	if x.cycle != 0 && x.released >= x.cycle {
		x.cap.ClearIdle()
		x.cycle = 0
	}
}
