package source

import (
	"time"
)

/*
Writes that outrun the link give up their order before their data. One epoch is opened for as long as that lasts, behind a
drop that it counts as its own: so none of its captured writes is ever sent, and it is never complete. Its baseline goes
round and round: what was written during one round is the debt of the next, however often it was written. Where blocks are
mostly written again, the next round waits: to read them each time would take from those who write, and spare nothing at
the end. When the link outruns the writes again the next epoch is opened, whose captured writes are sent.

	continuous --drop--> overflow --round, round, ...--> the next epoch --baseline--> continuous

The state under it needs no order: of two baseline reads the later wins, and no captured write of the same epoch is there to
win over both. docs/design/2026-11-22-replication.md has the invariants.
*/
type overflow struct {
	epoch uint64    // that holds no captured write; 0: none
	since time.Time // it was opened
	round time.Time // when the last began
	paid  time.Time // it owed nothing any more; zero: it does yet
	wrote uint64    // bytes, by the load's count, when the last began
	sent  uint64    // bytes before compression, by then
	times float64   // so often was each byte that it owed written since the round before, on average
}

const (
	outrun      = 0.8             // of what the link takes: more leaves too little for the baseline
	overflowTry = 5 * time.Minute // then the next epoch is tried all the same, for the measure may be wrong
	restAtMost  = 5 * time.Second // between rounds
	restTimes   = 7               // the time that a round took, at most
	noLoad      = 64 << 10        // bytes per second
	busyEnough  = 0.25            // of the time the sender must have waited for the link, else it says nothing of it
)

// overload measures what is written and what the link takes, in bytes per second before compression.
type overload struct {
	written, raw      uint64
	counted           bool // written is what the kernel counts, else what was captured
	busy              int64
	last              float64 // what was written in the last second
	writing, capacity float64 // writing is the less of the last two seconds: a burst is no load
}

// sample is called about once a second. busy is how long the sender was at work, in ns.
func (o *overload) sample(seconds float64, written, raw uint64, busy int64) {
	now := float64(written-o.written) / seconds
	o.writing, o.last = min(now, o.last), now
	if at := float64(busy-o.busy) / 1e9; at >= busyEnough*seconds {
		o.capacity = float64(raw-o.raw) / at
	}
	o.written, o.raw, o.busy = written, raw, busy
}

// took tells that so much was read, sent and acknowledged in a time. A link that was slow when it was last busy may not be any more,
// and what little a round sends does not make it busy.
func (o *overload) took(raw uint64, d time.Duration) {
	if d > 0 {
		o.capacity = max(o.capacity, float64(raw)/d.Seconds())
	}
}

// written counts the bytes written to the disks, as the kernel does, which counts also what the ring had no room for; else what the
// ring got. Where one count takes the other's place there is nothing to compare it with yet.
func (s *Source) written() (bytes uint64, comparable bool) {
	was := s.meter.load.counted
	s.meter.load.counted = s.cfg.Written != nil
	for i := 0; i < len(s.disks) && s.meter.load.counted; i++ {
		n, err := s.cfg.Written(s.disks[i].Index)
		bytes += n
		s.meter.load.counted = err == nil
	}
	if !s.meter.load.counted {
		bytes = s.cap.Producer()
	}
	return bytes, s.meter.load.counted == was
}

// outrun tells whether a baseline would have no chance beside what is written.
func (s *Source) outrun() bool {
	if s.outran != nil {
		return s.outran()
	}
	o := &s.meter.load
	return o.writing > noLoad && o.writing > outrun*o.capacity && o.capacity > 0
}

// overflows decides whether the epoch that follows a gap is one of rounds.
func (x *session) overflows(e *epoch) bool {
	return e.reason == reasonGap && x.s.cfg.Pacer == nil && x.cap.Drops() > 0 && x.s.outrun()
}

// overflowing tells whether the epoch at hand is one of rounds, and for how long.
func (x *session) overflowing(now time.Time) bool {
	o := &x.s.overflow
	return o.epoch != 0 && o.epoch == x.s.ep.number && len(x.repairs) == 0 && x.s.outrun() && now.Sub(o.since) < overflowTry
}

// resting tells whether the ring is left full. Nothing of it would be sent, and a full ring costs those who write no copying.
func (x *session) resting(now time.Time) bool {
	return x.announced && x.tainted && x.s.meter.load.counted && x.overflowing(now)
}

// rested tells whether the ring has room again, after an overflow: an epoch that began with a full ring would end at once.
func (x *session) rested() bool {
	return x.s.overflow.epoch != x.s.ep.number || x.cap.Producer()-x.cap.Consumer() <= uint64(x.cap.RingBytes()/2)
}

// again begins another round of an overflow while it lasts; false when it is time for the next epoch.
func (x *session) again(now time.Time) (bool, error) {
	o := &x.s.overflow
	if !x.overflowing(now) {
		return !x.rested(), nil
	}
	if o.paid.IsZero() {
		o.paid = now
		x.s.meter.load.took(x.s.meter.raw.Load()-o.sent, now.Sub(o.round))
	}
	if now.Sub(o.round) < cycleEvery || now.Sub(o.paid) < o.rest() {
		return true, nil
	}
	o.round, o.paid, o.sent = now, time.Time{}, x.s.meter.raw.Load()
	return true, x.renew()
}

// rest is how long the next round waits after the last. A round that read what was written once only is followed by the next at
// once: it is so much less to read at the end. On a slow link the longest wait is little beside the round itself.
func (o *overflow) rest() time.Duration {
	again := min(max(o.times-1, 0), restTimes)
	return min(time.Duration(again*float64(o.paid.Sub(o.round))), restAtMost)
}

// inDebt is what is to be read of the disk, in bytes.
func (d *disk) inDebt() uint64 { return min(d.debt.Count()*d.debt.BlockSize(), d.Bytes) }

func (s *Source) inDebt() (bytes uint64) {
	for _, d := range s.disks {
		bytes += d.inDebt()
	}
	return bytes
}

// owes is told what a new round owes.
func (o *overflow) owes(bytes, written uint64) {
	o.times = 0
	if bytes > 0 && written > o.wrote {
		o.times = float64(written-o.wrote) / float64(bytes)
	}
	o.wrote = written
}

// renew makes debt of what is dirty, as open does, within an epoch that holds no captured write. Writes that are in flight
// now may reach the disk after their blocks were read, so the capture drains. What was late in the round before is debt of
// this one, else the next epoch would have all of it to read.
func (x *session) renew() error {
	s := x.s
	x.cap.BeginDrain()
	if err := x.flip(x.cap.Producer()); err != nil {
		return err
	}
	s.keepDebt()
	x.cap.LateToDebt()
	x.cap.DirtyToDebt()
	s.overflow.owes(s.inDebt(), s.meter.load.written)
	s.ep.settled = false
	s.memory.put(fieldSettled, 0)
	s.settle = settling{}
	x.base = baseline{}
	s.meter.rounds.Add(1)
	return nil
}
