// Package backlog keeps captured writes in bounded memory, in order, when they have to wait for longer than the kernel's
// ring lasts.
//
// internal/replicate/source puts it between itself and the capture; nobody else imports it. The rules are those of
// docs/design/2026-11-23-backlog.md.
package backlog

import (
	"slices"
	"sort"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Ring is what a backlog empties; internal/capture says what each method promises.
type Ring interface {
	Next(offset uint64, r *capture.Record) (bool, error)
	Consumer() uint64
	Release(offset uint64)
}

// Backlog is the records that were moved out of a ring, followed by what is still in it. It belongs to one goroutine.
type Backlog struct {
	ring  Ring
	size  int // of a slab
	most  int // slabs
	slabs []*slab
	kept  uint64 // what is below was released; while there are slabs
	end   uint64 // behind the last record of the slabs
	last  cursor
}

// cursor is where the last Next ended: the next one most often begins there.
type cursor struct {
	slab   *slab
	at     int
	offset uint64
}

// New makes a backlog that takes at most limit bytes of memory, all of its own included; 0 moves nothing.
func New(ring Ring, limit int) *Backlog {
	size := max(min(limit/slabsAtLeast, slabAtMost)/pageSize*pageSize, pageSize)
	return &Backlog{ring: ring, size: size, most: limit / size}
}

// Limit is the memory that it may take, Used what it takes.
func (b *Backlog) Limit() int { return b.most * b.size }

// Used is the memory that it takes.
func (b *Backlog) Used() int { return len(b.slabs) * b.size }

// Holds tells whether memory holds anything that the ring has no more.
func (b *Backlog) Holds() bool { return len(b.slabs) > 0 }

// Emptied is the ring offset below which the ring holds nothing more.
func (b *Backlog) Emptied() uint64 {
	if b.Holds() {
		return b.end
	}
	return b.ring.Consumer()
}

// Consumer is the ring offset up to which everything was released.
func (b *Backlog) Consumer() uint64 {
	if b.Holds() {
		return b.kept
	}
	return b.ring.Consumer()
}

// Next is the ring's Next over memory and ring. Data of a record is valid until Release passes its Start, or Move moves it.
func (b *Backlog) Next(offset uint64, r *capture.Record) (bool, error) {
	if !b.Holds() || offset >= b.end {
		return b.ring.Next(offset, r)
	}
	if offset < b.kept {
		return false, fault.New(fault.Bug, "backlog: next", "offset %d is below %d", offset, b.kept)
	}
	for i := sort.Search(len(b.slabs), func(i int) bool { return b.slabs[i].end > offset }); i < len(b.slabs); i++ {
		s, at := b.slabs[i], 0
		if b.last.slab == s && b.last.offset <= offset {
			at = b.last.at
		}
		if next, ok := s.find(at, offset, r); ok {
			b.last = cursor{s, next, r.End}
			return true, nil
		}
	}
	return b.ring.Next(b.end, r)
}

// Move copies the oldest records of the ring into memory, as far as there is room, at most about so many bytes of the ring.
// Then it calls moved with where they began and end in the ring: Next serves the copies by then, and whoever holds Data of them must
// take it anew. Then the ring gets its place back.
func (b *Backlog) Move(most uint64, moved func(from, to uint64)) error {
	from, held := b.Emptied(), b.Holds()
	to, failed := b.copy(from, most)
	if to == from {
		return failed
	}
	if !held {
		b.kept = from
	}
	b.end = to
	moved(from, to)
	b.ring.Release(to)
	return failed
}

// copy appends records from a ring offset on and says how far it came.
func (b *Backlog) copy(from, most uint64) (to uint64, err error) {
	var r capture.Record
	for to = from; to-from < most; to = r.End {
		ok, err := b.ring.Next(to, &r)
		if err != nil || !ok {
			return to, err
		}
		n := recordBytes(&r)
		if len(b.slabs) == 0 || !b.slabs[len(b.slabs)-1].fits(n) {
			if len(b.slabs) == b.most || n > b.size {
				return to, nil
			}
			s, err := newSlab(b.size, r.Start)
			if err != nil {
				b.most = len(b.slabs)
				return to, err
			}
			b.slabs = append(b.slabs, s)
		}
		b.slabs[len(b.slabs)-1].append(&r)
	}
	return to, nil
}

// Release gives up what lies below a ring offset, in memory and in the ring.
func (b *Backlog) Release(offset uint64) {
	if !b.Holds() || offset >= b.end {
		b.Close()
		b.ring.Release(offset)
		return
	}
	b.kept = max(b.kept, offset)
	n := 0
	for ; b.slabs[n].end <= offset; n++ {
		b.slabs[n].free()
	}
	b.slabs = slices.Delete(b.slabs, 0, n)
}

// Close gives the memory back; what it held is lost.
func (b *Backlog) Close() {
	for _, s := range b.slabs {
		s.free()
	}
	b.slabs, b.last = nil, cursor{}
}
