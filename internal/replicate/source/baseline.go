package source

import (
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

/*
The baseline pays the debt: it reads every block whose bit is set and sends it at the epoch's first position. It goes
round the disks in passes. While an epoch is complete there is only what joins to be paid. A bit is cleared when the block's frame is acknowledged, never before, and debt is added
only while no chunk is under way: so no acknowledgement can clear a bit that was set after its block was read.
*/
type baseline struct {
	disk      int      // where the pass is
	block     uint64   // next block of that disk
	found     bool     // the pass found debt
	held      bool     // the pass left debt behind to be tried later
	empty     bool     // a whole pass found none
	underway  int      // chunks being read, waiting for room or in flight
	bytes     int      // of them
	ready     []*chunk // read, waiting for room
	finishing *finish  // BaselineDone is to be sent
	told      bool     // it was
}

// finish is the end of a baseline whose captured writes are still to be sent up to a ring offset.
type finish struct {
	producer uint64
	time     int64
}

// paid tells whether the epoch owes nothing and nothing is under way. One that cannot be announced as it is owes nothing. Neither does one
// that was being left when the agent was killed: what is dirty is debt already, and read in this epoch it would lose to captured
// writes from before the drop.
func (x *session) paid() bool {
	return (x.s.ep.done || x.base.empty || x.changing || x.s.left) && x.base.underway == 0
}

func (x *session) baseline(now time.Time) error {
	e, b := &x.s.ep, &x.base
	if !x.announced || e.done && b.underway == 0 && !x.s.joining() {
		return nil
	}
	x.pushReady()
	settled := x.settled(now)
	if !settled && !x.s.settle.draining {
		return nil // what is read now may be stale, and nothing would tell
	}
	for x.mayRead() {
		c, err := x.nextRead(now)
		if err != nil {
			return err
		}
		if c == nil {
			break
		}
		b.bytes += c.held
		x.s.readers.submit(c)
	}
	return x.tellDone()
}

// mayRead: captured writes go first, because what does not fit the ring must be read again.
func (x *session) mayRead() bool {
	if x.base.bytes >= x.s.cfg.Window || !x.s.readers.idle() || x.changing || x.s.left || x.s.ep.done && x.tainted {
		return false
	}
	return x.tainted || x.abreast()
}

// abreast tells whether the link takes what is written as fast as it comes, however late it is acknowledged.
func (x *session) abreast() bool { return x.cap.Producer()-x.read <= uint64(x.cap.RingBytes()/4) }

// nextRead is what a reader should do next; nil when there is nothing, or no room to ask about it.
func (x *session) nextRead(now time.Time) (*chunk, error) {
	b := &x.base
	if c := x.nextDiffering(); c != nil {
		return c, nil
	}
	compares := x.compares()
	if b.empty || compares && !x.mayAsk() {
		return nil, nil
	}
	c := x.nextChunk(now)
	if c == nil {
		return nil, nil
	}
	b.underway++
	if compares {
		return c, x.ask(c)
	}
	c.held = c.bytes
	return c, nil
}

// nextChunk collects debt of one disk. At the end of a pass it waits for the chunks under way, so that no block is
// read twice at a time.
func (x *session) nextChunk(now time.Time) *chunk {
	b := &x.base
	for {
		if b.disk == len(x.s.disks) {
			if b.underway > 0 {
				return nil
			}
			b.empty = !b.found
			wait := b.held
			b.disk, b.block, b.found, b.held = 0, 0, false, false
			x.asking.based = false // another pass, another base
			if b.empty {
				x.cycled = time.Time{} // do not wait a second to say so
				return nil
			}
			if wait {
				return nil
			}
		}
		d := x.s.disks[b.disk]
		if now.Before(d.retryAt) {
			owes := x.owes(d)
			b.found, b.held = b.found || owes, b.held || owes
		} else if c := x.collect(d); c != nil {
			b.found = true
			return c
		}
		b.disk, b.block = b.disk+1, 0
	}
}

func (x *session) collect(d *disk) *chunk {
	c := &chunk{disk: d, session: x.id, epoch: x.s.ep.number, first: x.s.ep.first, time: x.s.ep.opened,
		version: x.version, zeros: x.s.ep.zeros}
	size := d.debt.BlockSize()
	from, to := x.due(d)
	x.base.block = max(x.base.block, from)
	most := max(uint64(x.s.cfg.ChunkBytes)/size, 1)
	for most > 0 && len(c.spans) < maxSpans {
		start, end, ok := d.debt.NextSet(x.base.block)
		if !ok || start >= to {
			break
		}
		end = min(end, start+most, to)
		c.spans = append(c.spans, span{start, end})
		c.bytes += int((end - start) * size)
		most -= end - start
		x.base.block = end
	}
	if len(c.spans) == 0 {
		return nil
	}
	c.wanted = c.spans
	return c
}

// chunkRead takes a chunk back from the readers.
func (x *session) chunkRead(c *chunk) {
	x.s.readers.taken()
	if c.session != x.id || c.epoch != x.s.ep.number {
		return // asked for on an earlier connection; its debt stands
	}
	if c.stretch != nil {
		x.looked(c)
		return
	}
	if c.err != nil {
		if c.disk.err == nil {
			x.s.log.Error("cannot read disk, its debt stands", "disk", c.disk.Device, "err", c.err)
		}
		c.disk.err, c.disk.retryAt = c.err, time.Now().Add(x.s.cfg.RetryRead)
		x.forget(c)
		return
	}
	if c.disk.err != nil {
		x.s.log.Info("disk can be read again", "disk", c.disk.Device)
		c.disk.err = nil
	}
	if c.compare.stage == coarse {
		c.compare.read = true
		x.decide(c)
		return
	}
	x.base.ready = append(x.base.ready, c)
	x.pushReady()
}

// forget gives up a chunk whose debt stands.
func (x *session) forget(c *chunk) {
	x.base.underway--
	x.base.bytes -= c.held
	delete(x.asking.waiting, c.compare.id)
}

// pushReady queues the frames of chunks that were read.
func (x *session) pushReady() {
	b := &x.base
	for len(b.ready) > 0 {
		c := b.ready[0]
		for len(c.frames) > 0 {
			if !x.room(2) { // one is left to captured writes
				return
			}
			f := sent{typ: wire.TypeBaseline, epoch: c.epoch}
			if len(c.frames) == 1 {
				f.chunk = c
			}
			x.send(outgoing{made: c.frames[0]}, f)
			c.frames, c.sent = c.frames[1:], true
		}
		if !c.sent {
			x.chunkDone(c) // all zeroes, or all the same, and the journal has nothing else there
		}
		b.ready = b.ready[1:]
	}
}

// chunkDone: the chunk is durable, its debt is paid.
func (x *session) chunkDone(c *chunk) {
	for _, s := range c.spans {
		c.disk.debt.Clear(s.start, s.end)
	}
	c.disk.rescan += uint64(c.bytes)
	c.disk.same += c.same
	x.base.underway--
	x.base.bytes -= c.held
	x.s.meter.paid.Add(uint64(c.bytes))
}

// finish looks whether the baseline is complete as of producer, which was read before the last Flip: then what was
// dropped before it is counted, and what was in flight at the opening has completed and is marked late.
func (x *session) finish(producer uint64, now int64) {
	b, e := &x.base, &x.s.ep
	if e.done || b.told || b.finishing != nil || x.tainted || !x.paid() || !e.settled {
		return
	}
	x.unsettle()
	if !e.settled || x.outstanding() {
		return
	}
	x.remember(fieldZeros) // every block was read once; before the debt, for an agent that is killed between the two
	x.s.keepDebt()
	if x.cap.LateToDebt() {
		b.empty = false
		return
	}
	if x.cap.Drops() != e.drops {
		return
	}
	b.finishing = &finish{producer: producer, time: now}
}

// outstanding tells whether a dropped write may still reach the disk. One that has not completed although its disk was seen
// without a write in flight, or after the longest settling, never will: its completion went uncounted. Its blocks are read
// once more, and it is not waited for again.
func (x *session) outstanding() bool {
	s := x.s
	n := x.cap.OutstandingDropped()
	if n <= s.forgiven {
		s.forgiven, s.waiting = n, settling{}
		return false
	}
	now := time.Now()
	if s.waiting.since.IsZero() {
		s.waiting = settling{since: now, quiet: map[uint16]bool{}}
	}
	if waited := now.Sub(s.waiting.since); waited < settleAtLeast || waited < settleAtMost && !x.quiet(&s.waiting) {
		return true
	}
	found, err := x.cap.LateDropped()
	if err != nil {
		s.log.Error("dropped writes cannot be listed; the baseline waits for them", "err", err)
		return true
	}
	s.log.Warn("dropped writes never completed, their blocks are read again", "writes", found)
	s.forgiven, s.waiting = n, settling{}
	return false
}

// recall taints the epoch when a dropped write that is waited for no more has completed after all: its blocks, which
// are late now, were read too early, and only another epoch reads them again.
func (x *session) recall() {
	n := x.cap.OutstandingDropped()
	if n >= x.s.forgiven {
		return
	}
	x.s.forgiven = n
	complete := x.s.ep.done || x.base.told || x.base.finishing != nil // and finish looks for late blocks no more
	if complete && x.announced && !x.tainted {
		x.taint(x.read)
	}
}

// doubt taints an epoch whose baseline is complete and that owes something all the same: a write that was not waited
// for has completed while nobody looked. Where every one was waited for it is what this epoch has dropped, and the records say
// where that began.
func (x *session) doubt() {
	if n := x.cap.OutstandingDropped(); x.cap.Drops() == x.s.ep.drops {
		x.s.forgiven = n // what completes from now on, recall notices
	}
	x.s.keepDebt()
	owes := x.cap.LateToDebt()
	for _, d := range x.s.disks {
		from, _ := x.due(d)
		start, _, any := d.debt.NextSet(0)
		owes = owes || any && start < from // what joins may owe
	}
	if owes && (x.s.waited != x.s.ep.number || x.cap.Drops() == x.s.ep.drops) {
		x.taint(x.read)
	}
}

// tellDone sends BaselineDone after all captured writes below its position, and a mark that says so.
func (x *session) tellDone() error {
	b, e := &x.base, &x.s.ep
	if b.finishing == nil || x.read < b.finishing.producer || x.out != nil || !x.room(3) || !x.flush() {
		return nil
	}
	// From where the stream is now, not from the producer of then: that is the position whose time is known.
	x.position = max(x.position, e.first, e.position(b.finishing.producer))
	x.running = max(x.running, b.finishing.time)
	x.control(wire.TypeBaselineDone, e.number, e.first, x.position, x.running)
	x.control(wire.TypeMark, e.number, x.position, x.position, x.running)
	x.spoke = time.Now()
	b.finishing, b.told = nil, true
	return nil
}
