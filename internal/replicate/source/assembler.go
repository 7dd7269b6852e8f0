package source

import (
	"math"

	"github.com/understudy-dr/understudy/internal/capture"
)

// bio is one write as the kernel received it. Its records alias the ring, which is not released before the bio is
// either sent whole and acknowledged, or found to need no sending.
type bio struct {
	parts      []capture.Record
	start, end uint64 // ring offsets: of its first record, and past its last
	deadline   uint64 // a list that is open when all of the ring before this has been read was dropped; 0: not known
}

// assembler puts bios together from their records. Those of one bio come from one CPU, with no other bio of that CPU
// between them.
type assembler struct {
	open map[uint32]*bio
	free []*bio
}

// add takes the next record of the ring and returns the bio that it completes, if it does.
func (a *assembler) add(r *capture.Record) *bio {
	b := a.open[r.CPU]
	if r.Flags&capture.First != 0 {
		if b != nil { // dropped halfway
			a.drop(r.CPU, b)
		}
		b = a.fresh()
		b.start = r.Start
		a.open[r.CPU] = b
	}
	if b == nil {
		return nil // the rest of a bio that was given up
	}
	b.parts = append(b.parts, *r)
	if r.Flags&capture.Last == 0 {
		return nil
	}
	b.end = r.End
	delete(a.open, r.CPU)
	return b
}

func (a *assembler) fresh() *bio {
	if a.open == nil {
		a.open = map[uint32]*bio{}
	}
	if n := len(a.free); n > 0 {
		b := a.free[n-1]
		a.free = a.free[:n-1]
		return b
	}
	return &bio{}
}

// recycle takes back a bio that add returned.
func (a *assembler) recycle(b *bio) {
	clear(b.parts)
	*b = bio{parts: b.parts[:0]}
	a.free = append(a.free, b)
}

func (a *assembler) drop(cpu uint32, b *bio) {
	delete(a.open, cpu)
	a.recycle(b)
}

// endBy notes that the programs behind all open lists have finished, so that what there is of their bios lies below
// the ring offset producer.
func (a *assembler) endBy(producer uint64) {
	for _, b := range a.open {
		if b.deadline == 0 {
			b.deadline = producer
		}
	}
}

// expire gives up the lists that were still open at their deadline: the rest of their bios was dropped. Otherwise the
// first half of a dropped bio would hold the ring for ever.
func (a *assembler) expire(read uint64) {
	for cpu, b := range a.open {
		if b.deadline != 0 && read >= b.deadline {
			a.drop(cpu, b)
		}
	}
}

// oldest is where the oldest open bio begins.
func (a *assembler) oldest() uint64 {
	o := uint64(math.MaxUint64)
	for _, b := range a.open {
		o = min(o, b.start)
	}
	return o
}
