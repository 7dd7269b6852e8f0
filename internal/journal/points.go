package journal

import (
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Intervals lists what is recoverable, oldest first.
func (j *Journal) Intervals() []Interval {
	p := j.snapshot()
	list := make([]Interval, 0, len(p.fold.closed)+1)
	for _, e := range append(p.fold.closed[:len(p.fold.closed):len(p.fold.closed)], p.fold.cur) {
		if e.recoverable() {
			list = append(list, Interval{
				Epoch: e.Number, From: e.From, To: e.to(), FromTime: unixTime(e.FromTime), ToTime: unixTime(e.toTime()),
			})
		}
	}
	return list
}

// Latest is the newest recoverable state.
func (j *Journal) Latest() (Point, error) {
	p := j.snapshot()
	for e := range p.fold.epochs {
		if e.recoverable() {
			return Point{Epoch: e.Number, Position: e.to(), Time: unixTime(e.toTime())}, nil
		}
	}
	return Point{}, fault.New(fault.NotFound, "journal: latest", "nothing is recoverable yet").
		WithHint("wait for the initial sync to complete")
}

// At is the state at instant t. NotFound: nothing is recoverable at t, the hint names the nearest instants that are.
// Transient: t is not replicated yet.
func (j *Journal) At(t time.Time) (Point, error) {
	p := j.snapshot()
	ns := t.UnixNano()
	var before, after *epoch // nearest recoverable epochs around t
	for e := range p.fold.epochs {
		if !e.recoverable() {
			continue
		}
		if ns < e.FromTime {
			after = e
			continue
		}
		if ns <= e.toTime() {
			return j.pointAt(&p, e, ns)
		}
		before = e
		break
	}
	if after == nil && before != nil && before.Number == p.fold.cur.Number {
		return Point{}, fault.New(fault.Transient, "journal: at "+t.UTC().Format(time.RFC3339Nano), "not replicated yet").
			WithHint("replicated up to " + stamp(before.toTime()) + "; try again later, or ask for the latest")
	}
	return Point{}, fault.New(fault.NotFound, "journal: at "+t.UTC().Format(time.RFC3339Nano), "nothing is recoverable at that time").
		WithHint(nearest(before, after))
}

func nearest(before, after *epoch) string {
	switch {
	case before != nil && after != nil:
		return fmt.Sprintf("the nearest recoverable times are %s and %s", stamp(before.toTime()), stamp(after.FromTime))
	case before != nil:
		return "the nearest recoverable time is " + stamp(before.toTime())
	case after != nil:
		return "the nearest recoverable time is " + stamp(after.FromTime)
	}
	return "wait for the initial sync to complete"
}

func stamp(ns int64) string { return unixTime(ns).Format(time.RFC3339Nano) }

// Before is the newest recoverable state at or before t.
func (j *Journal) Before(t time.Time) (Point, error) {
	p := j.snapshot()
	ns := t.UnixNano()
	var after *epoch
	for e := range p.fold.epochs {
		if !e.recoverable() {
			continue
		}
		if ns < e.FromTime {
			after = e
			continue
		}
		return j.pointAt(&p, e, min(ns, e.toTime()))
	}
	return Point{}, fault.New(fault.NotFound, "journal: before "+t.UTC().Format(time.RFC3339Nano), "nothing is recoverable that early").
		WithHint(nearest(nil, after))
}

// pointAt finds the last bio of epoch e that is not later than ns, which lies in the epoch's interval.
func (j *Journal) pointAt(p *published, e *epoch, ns int64) (Point, error) {
	pos, err := j.lastEnd(p, e.Number,
		func(s *span) bool { return s.FirstTime <= ns },
		func(x *entry) bool { return x.time <= ns })
	if err != nil {
		return Point{}, err
	}
	return Point{Epoch: e.Number, Position: max(pos.pos, e.From), Time: unixTime(ns)}, nil
}

// Check turns a position into a Point if it is recoverable: the end of a bio, or the first recoverable one of its
// epoch. Where one epoch ended and the next began at the same position, the later is meant.
func (j *Journal) Check(position uint64) (Point, error) {
	p := j.snapshot()
	for e := range p.fold.epochs {
		if e.recoverable() && position >= e.From && position <= e.to() {
			return j.checkIn(&p, e, position)
		}
	}
	return Point{}, fault.New(fault.NotFound, "journal: check", "position %d is not recoverable", position)
}

func (j *Journal) checkIn(p *published, e *epoch, position uint64) (Point, error) {
	x, err := j.lastEnd(p, e.Number,
		func(s *span) bool { return s.First <= position },
		func(x *entry) bool { return x.pos <= position })
	switch {
	case err != nil:
		return Point{}, err
	case position == e.From:
		return Point{Epoch: e.Number, Position: position, Time: unixTime(e.FromTime)}, nil
	case x.pos != position:
		return Point{}, fault.New(fault.NotFound, "journal: check", "position %d does not end a write", position).
			WithHint(fmt.Sprintf("the last one before it that does is %d", max(x.pos, e.From)))
	}
	return Point{Epoch: e.Number, Position: position, Time: unixTime(max(x.time, e.FromTime))}, nil
}

// lastEnd is the last end of a bio of an epoch that a monotone condition holds for; the zero entry when there is none.
// maybe asks the condition of the first end in a span.
func (j *Journal) lastEnd(p *published, epoch uint64, maybe func(*span) bool, holds func(*entry) bool) (entry, error) {
	if t := p.tail; t != nil && anySpan(t.spans, epoch, maybe) {
		return lastIn(t.index, uint16(epoch-t.baseEpoch), holds), nil
	}
	for i := len(p.sealed) - 1; i >= 0; i-- {
		s := p.sealed[i]
		if !anySpan(s.sum.Spans, epoch, maybe) {
			continue
		}
		index, err := j.cachedEntries(p.sealed, s)
		if err != nil {
			return entry{}, err
		}
		return lastIn(index, uint16(epoch-s.baseEpoch), holds), nil
	}
	return entry{}, nil
}

func anySpan(spans []span, epoch uint64, maybe func(*span) bool) bool {
	for i := range spans {
		if spans[i].Epoch == epoch && maybe(&spans[i]) {
			return true
		}
	}
	return false
}

func lastIn(index []entry, epoch uint16, holds func(*entry) bool) entry {
	for i := len(index) - 1; i >= 0; i-- {
		if e := &index[i]; e.epoch == epoch && e.endsBio() && holds(e) {
			return *e
		}
	}
	return entry{}
}
