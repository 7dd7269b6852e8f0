package source

import (
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/wire"
)

// piece is one extent of a bio.
type piece struct {
	extent  wire.Extent
	part    int // of the bio, whose data it is a part of
	from, n int
}

// stream turns what is new in the ring into frames, as far as the link has room.
func (x *session) stream() error {
	x.recall() // before anything is said that came after
	now := time.Now()
	for {
		if x.resting(now) {
			return nil
		}
		if x.out != nil && !x.emit() {
			return nil
		}
		if !x.room(1) {
			return nil
		}
		ok, err := x.cap.Next(x.read, &x.rec)
		if err != nil {
			return ringErr(err)
		}
		x.recall() // what was submitted after such a write had completed is seen after its completion is
		// All of the epoch before lies below the gap, so at the gap, or the end of the ring, it is time.
		if !x.announced && (!ok || x.rec.Start >= x.gapOffset()) {
			if done, err := x.announce(); !done {
				return err
			}
		}
		if !ok {
			x.drained()
			return nil
		}
		x.take(&x.rec)
	}
}

func (x *session) gapOffset() uint64 {
	if x.s.ep.gap == 0 {
		return 0
	}
	return x.s.ep.offset(x.s.ep.gap)
}

// take adds one record. The first whose drop counter is larger than the epoch's ends the epoch before it.
func (x *session) take(r *capture.Record) {
	if x.announced && !x.tainted && r.Drops > x.s.ep.drops && r.Start >= x.s.ep.producer {
		x.taint(r.Start)
	}
	x.read = r.End
	if b := x.bios.add(r); b != nil {
		x.place(b)
	}
}

// place decides what becomes of a whole bio.
func (x *session) place(b *bio) {
	e := &x.s.ep
	x.reached(b.end - 1)
	if w := x.verifying.stretch; w != nil {
		w.wrote(b)
	}
	p := e.position(b.end)
	switch {
	case p <= x.durable: // the server has it
		x.bios.recycle(b)
	case !x.announced && x.before != 0 && p > x.beforeFirst:
		x.cut(b, p)
	case !x.announced, x.tainted, b.end <= e.producer:
		// Its blocks are in the debt, or in a generation that is not cleared before it is added to the debt.
		x.bios.recycle(b)
	default:
		x.cut(b, p)
	}
}

// cut divides a bio into extents that fit frames and starts emitting it.
func (x *session) cut(b *bio, position uint64) {
	last := &b.parts[len(b.parts)-1]
	x.running = max(x.running, x.s.clock.wall(last.Time))
	x.pieces, x.next = x.pieces[:0], 0
	for i := range b.parts {
		x.cutPart(b, i, position)
	}
	if n := len(x.pieces); n > 0 {
		x.pieces[n-1].extent.Flags |= wire.EndOfBio
		x.out = b
		return
	}
	x.position = position // a flush: nothing to send
	x.bios.recycle(b)
}

func (x *session) cutPart(b *bio, part int, position uint64) {
	r := &b.parts[part]
	d := x.s.disk(r.Disk)
	if d == nil || r.Sector*wire.SectorSize >= d.Bytes {
		return // beyond the disk as it was registered
	}
	bytes := min(r.Bytes, d.Bytes-r.Sector*wire.SectorSize)
	e := wire.Extent{Disk: r.Disk, Position: position, Sector: r.Sector, Bytes: bytes, Time: x.running}
	if r.Flags&capture.FUA != 0 {
		e.Flags |= wire.FUA
	}
	if r.Flags&capture.Preflush != 0 {
		e.Flags |= wire.Preflush
	}
	switch {
	case bytes == 0:
		return
	case r.Op == capture.WriteZeroes:
		e.Kind = wire.KindZero
	case r.Op == capture.Discard || r.Op == capture.SecureErase:
		e.Kind = wire.KindDiscard
	default:
		e.Kind = wire.KindData
		x.cutData(e, part, int(bytes))
		return
	}
	x.pieces = append(x.pieces, piece{extent: e})
}

func (x *session) cutData(e wire.Extent, part, bytes int) {
	for from := 0; from < bytes; {
		n := min(bytes-from, x.s.cfg.FrameBytes)
		e.Bytes = uint64(n)
		x.pieces = append(x.pieces, piece{extent: e, part: part, from: from, n: n})
		e.Sector += uint64(n) / wire.SectorSize
		e.Flags &^= wire.Preflush
		from += n
	}
}

// emit puts the bio at hand into frames; false when the link has no room for all of it yet.
func (x *session) emit() bool {
	for ; x.next < len(x.pieces); x.next++ {
		p := &x.pieces[x.next]
		if b := x.builder; b != nil && !b.Empty() &&
			(b.RawBytes()+p.n > x.s.cfg.FrameBytes || !b.Fits(p.extent.Position, p.n)) && !x.flush() {
			return false
		}
		x.frame(p).Add(p.extent, x.out.parts[p.part].Data[p.from:p.from+p.n])
	}
	x.position = x.pieces[len(x.pieces)-1].extent.Position
	x.building.position = x.position
	x.bios.recycle(x.out)
	x.out = nil
	return true
}

// frame is the builder of captured writes, begun if need be.
func (x *session) frame(p *piece) *wire.Builder {
	stamp := x.s.clock.wall(x.out.parts[0].Time)
	if x.builder == nil {
		x.builder = builders.Get().(*wire.Builder)
		epoch := x.s.ep.number
		if !x.announced {
			epoch = x.before
		}
		x.builder.Reset(wire.TypeData, epoch)
		x.building = sent{typ: wire.TypeData, epoch: epoch, oldest: stamp}
		x.heldFrom = time.Now()
	}
	x.building.newest, x.building.time = stamp, p.extent.Time
	return x.builder
}

// flush queues the frame at hand; false when there is no room.
func (x *session) flush() bool {
	if x.builder == nil || x.builder.Empty() {
		return true
	}
	if !x.room(1) {
		return false
	}
	x.building.release = x.safe()
	x.send(outgoing{builder: x.builder}, x.building)
	x.builder, x.spoke = nil, time.Now()
	return true
}

// drained: the ring holds nothing more for now. The drop counter is read while nothing is left that came before it.
func (x *session) drained() {
	x.bios.expire(x.read)
	if x.announced && !x.tainted && x.cap.Drops() > x.s.ep.drops {
		x.taint(x.read)
	}
	x.reached(x.read)
	// A write after a pause goes at once; while one follows the other they share frames, which cost both sides much each.
	if now := time.Now(); now.Sub(x.spoke) >= holdFrame || now.Sub(x.heldFrom) >= holdFrame {
		x.flush()
	}
	x.passed()
}
