package source

import (
	"math"

	"github.com/understudy-dr/understudy/internal/capture"
)

// bio is one write as the kernel received it. Its records alias the ring, which is not released before the bio is
// either sent whole and acknowledged, or found to need no sending; or what of the ring was copied (realias).
type bio struct {
	parts      []capture.Record
	start, end uint64 // ring offsets: of its first record, and past its last
}

// assembler puts bios together from their records. Those of one bio come from one CPU, with no other bio of that CPU
// between them.
type assembler struct {
	open map[uint32]*bio
	free []*bio

	began, ended uint64 // bios that begin below began end below ended, if at all
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

// finished notes that every program that had reserved something below the ring offset began has finished by the time
// the producer was at ended.
func (a *assembler) finished(began, ended uint64) { a.began, a.ended = began, ended }

// expire gives up the lists that can get no more records: the rest of their bios was dropped. Otherwise the first
// half of a dropped bio would hold the ring for ever. read is how far the ring has been read.
func (a *assembler) expire(read uint64) {
	if read < a.ended {
		return
	}
	for cpu, b := range a.open {
		if b.start < a.began {
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
