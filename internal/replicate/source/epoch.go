package source

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

// taint notes that writes were dropped: what this epoch can give ends before the ring offset at. From there on its
// records are not sent. Their blocks are dirty and no generation is cleared any more, so the next epoch reads them.
func (x *session) taint(at uint64) {
	x.endEpoch(at)
	x.keep = math.MaxUint64 // the drop counter tells every later session

	if x.s.overflow.epoch == x.s.ep.number { // it was opened so
		return
	}
	x.s.meter.gaps.Add(1)
	level := slog.LevelWarn
	if x.s.cfg.Pacer != nil { // as all are
		level = slog.LevelDebug
	}
	x.s.log.Log(context.Background(), level, "writes were dropped", "epoch", x.s.ep.number, "drops", x.cap.Drops()-x.s.ep.drops, "last", x.gap,
		"complete", x.s.ep.done)
}

// endEpoch sends nothing more of this epoch from the ring offset at on; succeed opens the next. If the connection breaks
// before it does, the epoch goes on, so the ring keeps what was written since.
func (x *session) endEpoch(at uint64) {
	x.tainted, x.gap, x.keep = true, x.s.ep.position(at), at
	x.cycle = 0
	x.base.finishing = nil
	x.verifying.stretch = nil
}

// leave ends an epoch that an agent was killed while leaving, where no drop does. What became debt then must not be paid in it.
func (x *session) leave() {
	if x.announced && x.s.left && !x.tainted && x.cap.Drops() == x.s.ep.drops {
		x.endEpoch(max(x.read, x.s.ep.producer))
	}
}

// succeed opens the next epoch once the tainted one owes nothing. While it does, reading its debt goes first: what is
// written meanwhile is read once, afterwards, however often it is written.
func (x *session) succeed() error {
	if !x.tainted || !x.s.ep.openAcked || !x.paid() || x.out != nil || !x.flush() {
		return nil
	}
	if p := x.s.cfg.Pacer; p != nil && !x.changing && !p.MayOpen() {
		return nil
	}
	now := time.Now()
	if again, err := x.again(now); again {
		return err
	}
	e := x.s.ep
	e.number++
	e.gap, e.reason, e.fresh, e.repairs = x.gap, reasonGap, false, nil
	switch {
	case len(x.repairs) > 0:
		e.reason = reasonRepair
	case x.changing && !x.s.ep.done && (x.s.ep.reason == reasonTrackingLost || x.s.ep.reason == reasonRolledBack):
		e.reason = x.s.ep.reason // and is compared on
	case x.s.findings.any() && x.cap.Drops() == e.drops:
		e.reason = reasonVerify
	case x.changing:
		e.reason = reasonDisks
	case x.s.cfg.Coarse != nil && x.s.cfg.Coarse():
		e.reason = reasonTrackingLost
	}
	before := x.s.overflow
	x.s.overflow = overflow{}
	if before.epoch != x.s.ep.number && x.overflows(&e) {
		x.s.overflow = overflow{epoch: e.number, since: now, round: now, wrote: x.s.meter.load.written, sent: x.s.meter.raw.Load()}
	}
	return x.open(e, false)
}

// openAll opens an epoch that owes every block.
func (x *session) openAll(reason uint64, w *wire.Welcome) error {
	x.s.overflow = overflow{}
	e := epoch{
		number: w.Epoch + 1, reason: reason, journal: w.Journal, base: x.s.ep.base, acked: w.Durable, frames: w.Frames,
		fresh: w.Epoch == 0 && w.Highest == 0,
	}
	if e.base == 0 || e.position(x.cap.Producer()) < w.Highest {
		e.base = w.Highest + 1
	}
	return x.open(e, true)
}

// open begins an epoch behind everything in the ring. The order matters:
//
//   - Draining comes first: a write that is in flight now may reach the disk after its block was read.
//   - The drop counter is read before the producer position: a write that was dropped and counted comes before
//     every record of the new epoch, so none of them can hide what the baseline reads of it.
//   - Dirty bits become debt last: they cover all that was dropped and all that lies in the ring below the producer.
func (x *session) open(e epoch, all bool) error {
	s := x.s
	x.cap.BeginDrain()
	e.opened = s.clock.now()
	if err := x.flip(x.cap.Producer()); err != nil {
		return err
	}
	e.drops = x.cap.Drops()
	if e.number == s.overflow.epoch {
		e.drops-- // so a drop comes before all that it captures
	}
	e.producer = x.cap.Producer()
	e.first = e.position(e.producer) + 1
	s.memory.leave(s.ep.number) // from here on the debt is the successor's, whoever opens it
	if all {
		for _, d := range s.disks {
			d.debt.Set(0, d.debt.Blocks())
		}
	}
	x.oweRepairs(&e)
	e.doubt = s.findings.told(time.Now(), min(correctEvery, s.plan.v.Every/100))
	x.cap.LateToDebt() // else it is read twice: now, for it is dirty, and when the rest has been read
	x.cap.DirtyToDebt()
	e.openAcked, e.done, e.settled = false, false, false
	e.zeros = !e.fresh
	s.memory.commit(&e)
	s.memory.leave(0)
	s.ep, s.left = e, false
	s.cap.opened()
	s.waited = 0
	s.settle, s.waiting = settling{}, settling{}
	for _, d := range s.disks {
		d.rescan, d.same, d.unused = 0, 0, 0
	}
	if all {
		s.find()
	} else {
		s.keepDebt()
	}
	x.announced, x.before, x.tainted, x.changing, x.cycle = false, 0, false, false, 0
	x.verifying.stretch, x.shown, x.keep = nil, false, math.MaxUint64
	x.base, x.asking = baseline{}, asking{key: x.asking.key, tools: x.asking.tools, last: x.asking.last}
	s.log.Info("epoch opened", "epoch", e.number, "reason", e.why(), "first", e.first)
	return nil
}

// announce tells the server of the epoch at hand, after all of the one before; false when there is no room yet.
func (x *session) announce() (bool, error) {
	if !x.flush() || !x.room(1) {
		return false, nil
	}
	e := &x.s.ep
	disks, joining := x.s.table()
	frame, err := wire.Message(wire.TypeEpochOpen, e.number, e.first, e.first, e.opened,
		wire.EpochOpen{Capture: x.s.id, Reason: e.why(), Disks: disks, Joining: joining, Repairs: e.repairs, Doubt: e.doubt})
	if err != nil {
		return false, final{err}
	}
	x.announced = true
	x.running = max(x.running, e.opened)
	x.position = e.first
	x.send(outgoing{message: frame}, sent{typ: wire.TypeEpochOpen, epoch: e.number, time: e.opened, release: x.safe()})
	x.leave()
	return true, nil
}

// settling waits until the writes that were in flight when the epoch was opened have completed.
type settling struct {
	since    time.Time
	draining bool // completions have been marked late all the while
	quiet    map[uint16]bool
}

// settled tells whether they have. It may be asked often.
func (x *session) settled(now time.Time) bool {
	t, e := &x.s.settle, &x.s.ep
	if e.settled {
		return true
	}
	if t.since.IsZero() {
		*t = settling{since: now, draining: x.cap.Draining(), quiet: map[uint16]bool{}}
	}
	waited, least := now.Sub(t.since), settleAtLeast
	if x.s.cfg.Tracked {
		least = 0
	}
	if waited < least || (waited < settleAtMost && !x.quiet(t)) {
		return false
	}
	if t.draining {
		x.cap.EndDrain()
	}
	x.remember(fieldSettled)
	return true
}

// quiet tells whether every disk was once seen without a write in flight.
func (x *session) quiet(t *settling) bool {
	if x.s.cfg.InFlightWrites == nil {
		return false
	}
	all := true
	for _, d := range x.s.disks {
		if !t.quiet[d.Index] {
			n, err := x.s.cfg.InFlightWrites(d.Index)
			t.quiet[d.Index] = err == nil && n == 0
		}
		all = all && t.quiet[d.Index]
	}
	return all
}

// unsettle begins anew when the capture drains again: it lost count of the dropped writes in flight.
func (x *session) unsettle() {
	e := &x.s.ep
	if !e.settled || e.done || !x.cap.Draining() {
		return
	}
	e.settled = false
	x.s.memory.put(fieldSettled, 0)
	x.s.settle = settling{}
}
