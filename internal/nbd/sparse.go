package nbd

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// sparseReply answers a read piece by piece, with the holes that are found on the way.
type sparseReply struct {
	s      *session
	cookie uint64
	end    int64
	hole   span // what was found last and not said yet, for it may go on
}

func (s *session) readSparse(ctx context.Context, cookie uint64, whole span) error {
	r := sparseReply{s: s, cookie: cookie, end: whole.end()}
	for _, p := range pieces([]span{whole}, pieceSize) {
		if err := r.piece(ctx, p); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	r.sayHole()
	return nil
}

// piece reads and sends one piece, within the session's memory.
func (r *sparseReply) piece(ctx context.Context, p span) error {
	if err := r.s.mem.Acquire(ctx, p.length); err != nil {
		return err
	}
	defer r.s.mem.Release(p.length)
	f := takeFrame(p.length)
	defer f.free()
	data := f.frame.data()
	var holes holeList
	if err := r.s.sparse.ReadSparse(ctx, data, p.off, holes.add); err != nil {
		return err
	}
	at, last := p.off, p.off
	for _, h := range holes {
		if h.off < last || h.length <= 0 || h.end() > p.end() {
			return fault.New(fault.Bug, "nbd: read", "backend found a hole of %d bytes at %d in %d+%d", h.length, h.off, p.off, p.length)
		}
		last = h.end()
		if h.length < minReadHole && h.off > p.off && h.end() < p.end() { // at the edges it may go on
			clear(data[h.off-p.off : h.end()-p.off])
			continue
		}
		r.sayData(f.frame, p, at, h.off)
		r.addHole(h)
		at = h.end()
	}
	r.sayData(f.frame, p, at, p.end())
	return nil
}

// sayData sends [from, to), of which the frame holds what lies in p.
func (r *sparseReply) sayData(f frame, p span, from, to int64) {
	if from == to {
		return
	}
	r.sayHole()
	r.s.send(f.part(from-p.off, to-from).chunk(r.cookie, from, to == r.end))
}

func (r *sparseReply) addHole(h span) {
	if r.hole.length == 0 {
		r.hole = h
		return
	}
	r.hole.length += h.length // data are sent between holes that do not touch
}

func (r *sparseReply) sayHole() {
	if r.hole.length > 0 {
		r.s.send(holeChunk(r.cookie, r.hole, r.hole.end() == r.end))
	}
	r.hole = span{}
}

// holeList joins holes that touch.
type holeList []span

func (l *holeList) add(off, length int64) {
	if n := len(*l); n > 0 && (*l)[n-1].end() == off {
		(*l)[n-1].length += length
		return
	}
	*l = append(*l, span{off: off, length: length, hole: true})
}
