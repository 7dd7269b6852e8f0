package source

import (
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

/*
A verify pass compares disks and journal by digest while both are written. It goes stretch by stretch, at a set pace:

	mark --> acknowledged --> Base(latest) --> Ask(coarse), read --> the same: proven
	                                                        \-> Ask(fine), read --> the same: proven
	                                                                            \-> differs: judged once the stream has caught up

Equal is equal: whatever was written meanwhile, disk and journal held the same there. A block that differs has been written
meanwhile, or is suspect. A suspect is looked at again with a newer base when every write that was under way has ended; if it
still differs, and nothing has been written to it since it was first seen, it is a finding. docs/design/2026-11-23-verify.md
says why that is sound.
*/

// Verify says how the journal is compared with the disks while replication is continuous.
type Verify struct {
	Every           time.Duration // a whole pass takes so long, where the pace allows; 0: never
	AtLeast, AtMost int64         // bytes per second while something is due; default 1 and 64 MiB
	Known           *Proofs       // of earlier runs; may be nil

	RangeBytes, WindowBytes uint64 // what is proven, and compared, as a whole; by default as the disks' sizes ask for
}

const (
	verifyWindow  = 16 << 20 // compared with one base at least
	verifyMost    = 64 << 20 // and at most
	verifyPerBase = 8        // seconds of the pace
	verifyRounds  = 8        // a block that is written during each is left alone
	verifyPause   = time.Second
	correctEvery  = 10 * time.Minute // epochs that correct are opened no more often
)

func (v *Verify) complete() {
	byDefault(&v.AtLeast, 1<<20)
	byDefault(&v.AtMost, 64<<20)
	v.AtMost = max(v.AtMost, v.AtLeast)
}

// verifying is the verify pass as one connection makes it.
type verifying struct {
	stretch *stretch
	refused bool      // the server cannot: it is older
	next    time.Time // when the pace allows more
}

// verify does what can be done now.
func (x *session) verify(now time.Time) error {
	v := &x.verifying
	if !x.verifies() {
		v.stretch = nil
		return nil
	}
	w := v.stretch
	switch {
	case w == nil:
		x.beginStretch(now)
	case now.Before(w.pause), !w.begun && w.suspects.any() && !x.landed(w, now):
	case !w.begun:
		w.begin(x.read)
	case !w.based:
		return x.openBase(w)
	case len(w.todo) > 0 || w.underway > 0:
		return x.look(w, now)
	case x.read < w.end: // what was written meanwhile has not been looked at
	default:
		x.judge(w, now)
	}
	return nil
}

// verifies tells whether a block that differs would mean something.
func (x *session) verifies() bool {
	return x.s.cfg.Verify.Every > 0 && x.version >= wire.V3 && !x.verifying.refused &&
		x.announced && !x.tainted && x.s.ep.done && x.shown && x.cap.Drops() == x.s.ep.drops && !x.s.joining()
}

// beginStretch takes up what was proven longest ago, if it is due.
func (x *session) beginStretch(now time.Time) {
	s := x.s
	if now.Before(x.verifying.next) || len(x.repairs) > 0 {
		return
	}
	if s.plan.proofs.Journal != s.ep.journal {
		s.mu.Lock()
		s.plan.reset(s.ep.journal)
		s.mu.Unlock()
	}
	p := s.plan.next(now)
	if p == nil {
		x.verifying.next = now.Add(verifyPause)
		return
	}
	if unused, told, known := s.leftOut(p.disk, now); known {
		x.verifying.stretch = newStretch(p, unused, told)
	}
}

// openBase has the server take its newest state once it has all that was written before the round began: then what
// differs was written later, is still on its way to the disk, or is wrong.
func (x *session) openBase(w *stretch) error {
	if x.released < w.mark || !x.room(2) {
		return nil
	}
	w.acked = x.s.ep.acked
	if err := x.sendBase(true); err != nil {
		return err
	}
	w.based = true
	return nil
}

// look asks about and reads what the round has left, as far as pace, link and disk allow. Captured writes go first.
func (x *session) look(w *stretch, now time.Time) error {
	for len(w.todo) > 0 && x.mayVerify(now) {
		c := x.nextLook(w)
		w.underway++
		x.verifying.next = later(x.verifying.next, now).Add(x.s.plan.takes(c.bytes))
		if err := x.sendAsk(c); err != nil {
			return err
		}
		x.s.readers.submit(c)
	}
	return nil
}

// later keeps the pace from being made up for: what could not be done is not done faster.
func later(a, b time.Time) time.Time {
	if b = b.Add(-verifyPause); a.Before(b) {
		return b
	}
	return a
}

func (x *session) mayVerify(now time.Time) bool {
	return !now.Before(x.verifying.next) && x.s.readers.idle() && x.mayAsk() &&
		x.cap.Producer()-x.read <= uint64(x.cap.RingBytes()/8)
}

func (x *session) nextLook(w *stretch) *chunk {
	d, t := w.disk, w.todo[0]
	size := d.debt.BlockSize()
	c := &chunk{disk: d, session: x.id, epoch: x.s.ep.number, stretch: w}
	c.compare = compare{stage: coarse, piece: wire.MaxPiece / wire.SectorSize, tools: x.asking.tools}
	if t.fine {
		c.compare.piece = min(size/wire.SectorSize, c.compare.piece)
	}
	most := max(min(uint64(x.s.cfg.ChunkBytes), wire.MaxPiece)/size, 1)
	for len(w.todo) > 0 && w.todo[0].fine == t.fine && most > 0 && len(c.spans) < maxSpans {
		t := &w.todo[0]
		end := min(t.end, t.start+most)
		c.spans = append(c.spans, span{t.start, end})
		c.bytes += int((end - t.start) * size)
		most -= end - t.start
		if t.start = end; t.start == t.end {
			w.todo = w.todo[1:]
		}
	}
	c.wanted = c.spans
	c.fine = t.fine
	return c
}

// looked takes a chunk back from its reader.
func (x *session) looked(c *chunk) {
	if c.stretch != x.verifying.stretch {
		return
	}
	if c.err != nil {
		x.forgetLook(c)
		return
	}
	c.compare.read = true
	x.compared(c)
}

// forgetLook gives up what cannot be told: it is neither proven nor wrong.
func (x *session) forgetLook(c *chunk) {
	delete(x.asking.waiting, c.compare.id)
	c.stretch.untold = true
	c.stretch.underway--
}

// answeredLook takes digests.
func (x *session) answeredLook(c *chunk, d *wire.Digests) {
	w := c.stretch
	switch {
	case w != x.verifying.stretch || c.err != nil:
		return
	case d.Position == 0 && !unknownAll(d.Digests):
		x.s.log.Info("the server cannot tell its newest state: disks and journal are not compared; upgrade it")
		x.verifying.refused, x.verifying.stretch = true, nil
		return
	case d.Position < w.acked:
		x.forgetLook(c) // it shows less than it has acknowledged
		return
	}
	x.compared(c)
}

func unknownAll(digests []byte) bool {
	for ; len(digests) > 0; digests = digests[wire.DigestSize:] {
		if !wire.Unknown(digests[:wire.DigestSize]) {
			return false
		}
	}
	return true
}

// compared compares once both sides' digests are there. What may have been written until then is below the producer.
func (x *session) compared(c *chunk) {
	w, p := c.stretch, &c.compare
	if !p.read || p.theirs == nil {
		return
	}
	w.underway--
	w.end = x.cap.Producer()
	at := 0
	next := func() (same, unknown, zero bool) {
		ours, theirs := p.ours[at:at+wire.DigestSize], p.theirs[at:at+wire.DigestSize]
		at += wire.DigestSize
		return wire.Same(ours, theirs), wire.Unknown(theirs), wire.Zero(theirs)
	}
	for _, s := range c.wanted {
		step := s.end - s.start
		if c.fine {
			step = 1
		}
		for b := s.start; b < s.end; b += step {
			w.note(c, span{b, b + step}, next)
		}
	}
	x.s.plan.counted += uint64(c.bytes)
}
