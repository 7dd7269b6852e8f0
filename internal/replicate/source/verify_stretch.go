package source

import (
	"slices"
	"time"
)

// stretch is a run of blocks of one disk that is compared in rounds, each with a newer base, until nothing of it is left.
type stretch struct {
	disk   *disk
	part   *portion
	left   []span // not the same yet
	unused uint64 // blocks that no file system uses: not compared
	round  int

	// Of the round at hand.
	begun, based bool
	mark         uint64 // ring offset: from there on every record was held against the stretch
	acked        uint64 // position that the base must show at least
	todo         []todo
	underway     int
	differ       []uint64 // blocks, that is
	end          uint64   // ring offset: the round is judged when the stream is past it
	written      blockSet // since the round began: what differs of them is no suspect, and spares the wait for one
	pause        time.Time

	// Blocks that differed and have not been written since.
	suspects blockSet
	absent   blockSet // of those that differ: the journal has zeroes
	seen     time.Time
	quiet    bool // the disk was seen with no write under way since

	vague  bool   // what the journal has nothing of may be in no use
	untold bool   // something could not be compared
	hot    uint64 // bytes that were written in every round
	found  int    // blocks
}

type todo struct {
	span
	fine bool
}

func newStretch(p *portion, unused []Range, told bool) *stretch {
	w := &stretch{disk: p.disk, part: p, vague: !told}
	w.unused = p.end - p.start
	for _, s := range p.without(unused) {
		w.unused -= s.end - s.start
	}
	w.left = p.blocks(unused)
	return w
}

// begin begins a round. read is how far the ring has been read: what is written from now on is held against the stretch.
func (w *stretch) begin(read uint64) {
	w.begun, w.based, w.mark, w.end = true, false, read, read
	w.todo, w.differ, w.written = nil, nil, nil
	for _, s := range w.left {
		w.todo = append(w.todo, todo{s, w.round > 0})
	}
	w.left = nil
}

// wrote tells of a write.
func (w *stretch) wrote(b *bio) {
	size := w.disk.debt.BlockSize()
	for i := range b.parts {
		r := &b.parts[i]
		if r.Disk != w.disk.Index || r.Bytes == 0 {
			continue
		}
		from, to := r.Sector*512/size, (r.Sector*512+r.Bytes+size-1)/size
		for b := max(from, w.part.start); b < min(to, w.part.end); b++ {
			w.written.add(b)
			w.suspects.remove(b)
		}
	}
}

// note takes what the comparison of a run of blocks came to.
func (w *stretch) note(c *chunk, s span, next func() (same, unknown, zero bool)) {
	all, told, zeroes := true, true, true
	for range c.piecesOf(s) {
		same, unknown, zero := next()
		all, told, zeroes = all && same, told && !unknown, zeroes && zero
	}
	switch {
	case all:
	case !c.fine:
		w.todo = append(w.todo, todo{s, true})
	case !told:
		w.untold = true
	case zeroes && w.vague:
		w.untold = true
	default:
		w.differ = append(w.differ, s.start)
		w.absent.put(s.start, zeroes)
	}
}

// confirm ends a round. Findings are blocks that were suspect before it and still differ; the rest is looked at again.
func (w *stretch) confirm(now time.Time) (findings []uint64) {
	slices.Sort(w.differ)
	before := w.suspects
	w.suspects = nil
	for _, b := range w.differ {
		if !w.written.has(b) {
			if before.has(b) {
				findings = append(findings, b)
				continue
			}
			w.suspects.add(b)
		}
		w.keep(b)
	}
	w.round++
	w.begun, w.seen, w.quiet, w.pause = false, now, false, now.Add(verifyPause)
	return findings
}

func (w *stretch) keep(b uint64) {
	if n := len(w.left); n > 0 && w.left[n-1].end == b {
		w.left[n-1].end++
		return
	}
	w.left = append(w.left, span{b, b + 1})
}

// landed tells whether every write that was under way when suspects were seen has ended, as settled does of an epoch.
func (x *session) landed(w *stretch, now time.Time) bool {
	waited := now.Sub(w.seen)
	if count := x.s.cfg.InFlightWrites; !w.quiet && count != nil {
		n, err := count(w.disk.Index)
		w.quiet = err == nil && n == 0
	}
	return waited >= settleAtMost || w.quiet && waited >= settleAtLeast
}

// judge ends a round, and the stretch when nothing of it is left.
func (x *session) judge(w *stretch, now time.Time) {
	if x.recall(); !x.verifies() { // a write that nobody could have told the stretch of
		x.verifying.stretch = nil
		return
	}
	size := w.disk.debt.BlockSize()
	if found := w.confirm(now); len(found) > 0 {
		x.s.differ(w, found, now)
	}
	switch {
	case len(w.left) == 0:
	case w.suspects.any() && w.round < 3*verifyRounds:
		return
	case w.round < verifyRounds:
		return
	default:
		for _, s := range w.left {
			w.hot += (s.end - s.start) * size
		}
	}
	x.verifying.stretch = nil
	x.s.mu.Lock()
	x.s.plan.done(w, now)
	x.s.mu.Unlock()
}

// blockSet is a set of blocks of a stretch.
type blockSet map[uint64]struct{}

func (s *blockSet) add(b uint64) {
	if *s == nil {
		*s = blockSet{}
	}
	(*s)[b] = struct{}{}
}

func (s *blockSet) put(b uint64, in bool) {
	if in {
		s.add(b)
	} else {
		s.remove(b)
	}
}

func (s blockSet) remove(b uint64)   { delete(s, b) }
func (s blockSet) has(b uint64) bool { _, ok := s[b]; return ok }
func (s blockSet) any() bool         { return len(s) > 0 }
