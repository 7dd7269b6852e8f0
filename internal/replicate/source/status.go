package source

import (
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
)

// Phase is what a Source is doing.
type Phase string

// The phases.
const (
	PhaseConnecting  Phase = "connecting"   // no connection
	PhaseInitialSync Phase = "initial_sync" // the first baseline of a journal
	PhaseRescan      Phase = "rescan"       // a later baseline
	PhaseBacklog     Phase = "backlog"      // baseline complete, captured writes are late
	PhaseContinuous  Phase = "continuous"   // baseline complete, captured writes are sent as they come
	PhaseStopped     Phase = "stopped"
)

// backlogLag is how late captured writes may be in PhaseContinuous.
const backlogLag = 5 * time.Second

// Status is a snapshot. Everything in it was measured.
type Status struct {
	Phase     Phase
	Connected bool
	Err       error // why there is no connection, or which disk cannot be read; nil when all is well

	Epoch    uint64
	Reason   string // why that epoch was opened
	Complete bool   // its baseline is complete
	Settling bool   // writes from before the epoch may still be in flight
	Acked    uint64 // highest position acknowledged

	Disks     []DiskStatus
	RingBytes uint64 // capacity
	RingUsed  uint64 // not yet acknowledged
	Backlog   uint64 // memory that older writes may take
	Waiting   uint64 // and take: they are acknowledged before those in the ring
	Drops     uint64 // since the capture was made
	Gaps      uint64 // stretches of drops found by this Source
	Overflow  bool   // writes outrun the link: what is written is read in rounds, without order
	Rounds    uint64 // of overflows

	RawBytes  uint64        // sent by this Source, before compression
	WireBytes uint64        // and after, everything included
	Rate      float64       // wire bytes per second, smoothed
	Limit     int64         // of the same, as SetBandwidth set it; 0 is none
	ETA       time.Duration // until the debt is paid; 0 when there is none or nothing is known

	Verify VerifyStatus

	Lag     time.Duration // age of the oldest captured write not acknowledged; 0 when there is none
	Latency Latency       // from write to acknowledgement, of recent frames

	oldest int64
}

// DiskStatus is how one disk stands, in bytes.
type DiskStatus struct {
	Index      uint16
	Device     string
	Total      uint64
	Replicated uint64    // Total without debt
	Rescanned  uint64    // read and acknowledged in this epoch, or found the same
	Same       uint64    // of them, not sent: the journal has them already
	Unused     uint64    // not read in this epoch: no file system uses it
	Backlogged uint64    // debt of what is part of the epoch
	Joining    bool      // it, or the end that it grew by, is part of no point yet
	Proven     uint64    // once found the same by a verify pass
	Oldest     time.Time // of those proofs; zero while something was never proven
	Err        error     // of the last read; nil once one succeeds
}

// Status is what the Source last knew.
func (s *Source) Status() Status {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	st.Limit = s.limit()
	if st.oldest != 0 {
		_, wall := s.cfg.Clock()
		st.Lag = max(0, time.Duration(wall.UnixNano()-st.oldest))
	}
	return st
}

// meter counts what the owner and its workers did.
type meter struct {
	raw, wire, paid, gaps atomic.Uint64
	rounds                atomic.Uint64 // of overflows
	busy                  atomic.Int64  // ns that senders worked
	load                  overload
	lag                   window

	last               time.Time // of the slow measurements
	lastWire, lastPaid uint64
	rate, paying       float64 // smoothed, bytes per second
	latency            Latency
}

// publish makes a new snapshot. Only Run's goroutine calls it.
func (s *Source) publish(p Phase, err error) {
	now := time.Now()
	if now.Sub(s.meter.last) >= time.Second {
		s.measure(now)
	}
	e := &s.ep
	st := Status{
		Phase: p, Connected: p != PhaseConnecting && p != PhaseStopped, Err: err,
		Epoch: e.number, Complete: e.done, Settling: e.number != 0 && !e.settled, Acked: e.acked,
		RingBytes: uint64(s.cap.RingBytes()), RingUsed: s.cap.waits(), Drops: s.cap.Drops(),
		Backlog: uint64(s.cap.backlog.Limit()), Waiting: uint64(s.cap.backlog.Used()),
		Gaps: s.meter.gaps.Load(), Rounds: s.meter.rounds.Load(),
		Overflow: e.number != 0 && e.number == s.overflow.epoch, RawBytes: s.meter.raw.Load(), WireBytes: s.meter.wire.Load(), Rate: s.meter.rate,
		Latency: s.meter.latency, oldest: s.oldest(), Verify: s.verifyStatus(),
	}
	if e.number != 0 {
		st.Reason = e.why()
	}
	owed := uint64(0)
	for i, d := range s.disks {
		owed += d.owed
		st.Disks = append(st.Disks, DiskStatus{Index: d.Index, Device: d.Device, Total: d.Bytes,
			Replicated: d.Bytes - d.owed, Rescanned: min(d.rescan, d.Bytes), Same: min(d.same, d.Bytes), Unused: d.unused, Backlogged: d.backlog(), Joining: d.joins(), Err: d.err})
		st.Disks[i].Proven, st.Disks[i].Oldest = s.plan.proofs.Disks[i].sum()
		if st.Err == nil {
			st.Err = d.err
		}
	}
	if owed > 0 && s.meter.paying > 0 && !e.done {
		st.ETA = time.Duration(float64(owed) / s.meter.paying * float64(time.Second))
	}
	s.mu.Lock()
	s.status = st
	s.mu.Unlock()
}

// refresh publishes again, with the phase and the error as they were.
func (s *Source) refresh() {
	s.mu.Lock()
	p, err := s.status.Phase, s.status.Err
	s.mu.Unlock()
	s.publish(p, err)
}

// measure does what is too dear for every snapshot.
func (s *Source) measure(now time.Time) {
	m := &s.meter
	if wire, paid := m.wire.Load(), m.paid.Load(); !m.last.IsZero() {
		seconds := now.Sub(m.last).Seconds()
		m.rate = smooth(m.rate, float64(wire-m.lastWire)/seconds)
		m.paying = smooth(m.paying, float64(paid-m.lastPaid)/seconds)
		if written, comparable := s.written(); comparable {
			m.load.sample(seconds, written, m.raw.Load(), m.busy.Load())
		} else {
			m.load.written = written
		}
		m.lastWire, m.lastPaid = wire, paid
	} else {
		m.load.written, _ = s.written()
	}
	m.last = now
	m.latency = m.lag.quantiles()
	for _, d := range s.disks {
		d.owed = d.Bytes // before the first epoch nothing is replicated
		if s.ep.number != 0 {
			d.owed = d.inDebt()
		}
	}
}

func smooth(old, sample float64) float64 {
	if old == 0 {
		return sample
	}
	return 0.7*old + 0.3*sample
}

// oldest is when the oldest write that memory or the ring still keeps was submitted; 0 when they keep none.
func (s *Source) oldest() int64 {
	var r capture.Record
	if ok, err := s.cap.Next(s.cap.Consumer(), &r); !ok || err != nil {
		return 0
	}
	return s.clock.wall(r.Time)
}

func (x *session) phase() Phase {
	e := &x.s.ep
	switch {
	case !e.done && (e.reason == reasonInitial || e.reason == reasonJournalChanged):
		return PhaseInitialSync
	case x.s.cfg.Pacer != nil && e.reason == reasonGap && (!e.done || x.tainted):
		return PhaseBacklog // between two points
	case !e.done || x.tainted:
		return PhaseRescan
	}
	now := x.s.clock.now() // first: a step of the clock is no lag
	if oldest := x.s.oldest(); oldest != 0 && now-oldest > int64(backlogLag) {
		return PhaseBacklog
	}
	return PhaseContinuous
}
