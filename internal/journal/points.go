package journal

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Intervals lists the stretches of which everything is recoverable, oldest first. Kept lists the points before them.
func (j *Journal) Intervals() []Interval {
	p := j.snapshot()
	list := make([]Interval, 0, len(p.fold.closed)+1)
	for _, e := range append(p.fold.closed[:len(p.fold.closed):len(p.fold.closed)], p.fold.cur) {
		if e.retained(&p.retained) {
			list = append(list, Interval{
				Epoch: e.Number, From: e.From, To: e.to(), FromTime: unixTime(e.FromTime), ToTime: unixTime(e.toTime()),
			})
		}
	}
	return list
}

// retained cuts what is not retained off a recoverable epoch. It says false when nothing is left.
func (e *epoch) retained(r *retained) bool {
	if !e.recoverable() || e.Number < r.From.Epoch {
		return false
	}
	if e.Number == r.From.Epoch && r.From.Position > e.From {
		e.From, e.FromTime = r.From.Position, max(e.FromTime, r.FromTime)
	}
	return e.Number > r.From.Epoch || r.From.Position <= e.to()
}

// Latest is the newest recoverable state.
func (j *Journal) Latest() (Point, error) {
	p := j.snapshot()
	for e := range p.epochs {
		return Point{Epoch: e.Number, Position: e.to(), Time: unixTime(e.toTime())}, nil
	}
	return Point{}, fault.New(fault.NotFound, "journal: latest", "nothing is recoverable yet").
		WithHint("wait for the initial sync to complete")
}

// At is the state at instant t. NotFound: nothing is recoverable at t, the hint names the nearest instants that are.
// Transient: t is not replicated yet.
func (j *Journal) At(t time.Time) (Point, error) {
	p := j.hold()
	defer j.release(&p)
	ns := t.UnixNano()
	var before, after *epoch // nearest recoverable epochs around t
	for e := range p.epochs {
		if ns < e.FromTime {
			after = e
			continue
		}
		if ns <= e.toTime() {
			return j.pointAt(j.stop, &p, e, ns)
		}
		before = e
		break
	}
	if k := p.retained.lastBefore(ns); k != nil && k.Time.UnixNano() == ns {
		return *k, nil
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

// epochs calls yield for what is retained of recoverable epochs, from the newest to the oldest.
func (p *published) epochs(yield func(*epoch) bool) {
	for e := range p.fold.epochs {
		cut := *e
		if cut.retained(&p.retained) && !yield(&cut) {
			return
		}
	}
}

// lastBefore is the newest kept point at or before an instant, or nil.
func (r *retained) lastBefore(ns int64) *Point {
	for i := len(r.Points) - 1; i >= 0; i-- {
		if r.Points[i].Time.UnixNano() <= ns {
			return &r.Points[i]
		}
	}
	return nil
}

// Before is the newest recoverable state at or before t.
func (j *Journal) Before(t time.Time) (Point, error) {
	p := j.hold()
	defer j.release(&p)
	ns := t.UnixNano()
	var after *epoch
	for e := range p.epochs {
		if ns < e.FromTime {
			after = e
			continue
		}
		return j.pointAt(j.stop, &p, e, min(ns, e.toTime()))
	}
	if k := p.retained.lastBefore(ns); k != nil {
		return *k, nil
	}
	return Point{}, fault.New(fault.NotFound, "journal: before "+t.UTC().Format(time.RFC3339Nano), "nothing is recoverable that early").
		WithHint(nearest(nil, after))
}

// pointAt finds the last bio of epoch e that is not later than ns, which lies in the epoch's interval.
func (j *Journal) pointAt(ctx context.Context, p *published, e *epoch, ns int64) (Point, error) {
	x, err := j.lastEnd(ctx, p, e.Number,
		func(s *span) bool { return s.FirstTime <= ns },
		func(x *end) bool { return x.time <= ns })
	if err != nil {
		return Point{}, err
	}
	return Point{Epoch: e.Number, Position: max(x.version.Position, e.From), Time: unixTime(ns)}, nil
}

// Check turns a position into a Point if it is recoverable: the end of a bio, or the first recoverable one of its
// epoch. Where one epoch ended and the next began at the same position, the later is meant.
func (j *Journal) Check(position uint64) (Point, error) {
	p := j.hold()
	defer j.release(&p)
	for e := range p.epochs {
		if position >= e.From && position <= e.to() {
			return j.checkIn(j.stop, &p, e, position)
		}
	}
	for i := len(p.retained.Points) - 1; i >= 0; i-- {
		if k := p.retained.Points[i]; k.Position == position {
			return k, nil
		}
	}
	if position < p.retained.From.Position {
		return Point{}, p.retained.errLetGo("journal: check", position)
	}
	return Point{}, fault.New(fault.NotFound, "journal: check", "position %d is not recoverable", position)
}

func (j *Journal) checkIn(ctx context.Context, p *published, e *epoch, position uint64) (Point, error) {
	x, err := j.lastEnd(ctx, p, e.Number,
		func(s *span) bool { return s.First <= position },
		func(x *end) bool { return x.version.Position <= position })
	switch {
	case err != nil:
		return Point{}, err
	case position == e.From:
		return Point{Epoch: e.Number, Position: position, Time: unixTime(e.FromTime)}, nil
	case x.version.Position != position:
		return Point{}, fault.New(fault.NotFound, "journal: check", "position %d does not end a write", position).
			WithHint(fmt.Sprintf("the last one before it that does is %d", max(x.version.Position, e.From)))
	}
	return Point{Epoch: e.Number, Position: position, Time: unixTime(max(x.time, e.FromTime))}, nil
}

// AtOrBelow is the last state of an epoch at or below a position, once everything below the position is here. Transient: it is
// not yet. NotFound: it never will be, or is not retained.
func (j *Journal) AtOrBelow(number, position uint64) (Point, error) {
	const op = "journal: at or below"
	p := j.hold()
	defer j.release(&p)
	for e := range p.epochs {
		switch {
		case e.Number != number:
		case position < e.From:
			return Point{}, fault.New(fault.NotFound, op, "position %d of epoch %d is not recoverable, from %d on it is", position, number, e.From)
		case position > e.Reached && e.Number == p.fold.cur.Number:
			return Point{}, fault.New(fault.Transient, op, "position %d of epoch %d is not replicated yet", position, number)
		case position > e.Reached:
			return Point{}, fault.New(fault.NotFound, op, "epoch %d ended at %d, before position %d", number, e.Reached, position)
		default:
			x, err := j.lastEnd(j.stop, &p, number,
				func(s *span) bool { return s.First <= position },
				func(x *end) bool { return x.version.Position <= position })
			if err != nil {
				return Point{}, err
			}
			if x.version.Position <= e.From {
				return Point{Epoch: number, Position: e.From, Time: unixTime(e.FromTime)}, nil
			}
			return Point{Epoch: number, Position: x.version.Position, Time: unixTime(max(x.time, e.FromTime))}, nil
		}
	}
	return Point{}, fault.New(fault.NotFound, op, "nothing of epoch %d is recoverable", number)
}

// checkPoint tells whether a point may be viewed.
func (j *Journal) checkPoint(ctx context.Context, p *published, at Point) error {
	for e := range p.epochs {
		if e.Number == at.Epoch && at.Position >= e.From && at.Position <= e.to() {
			_, err := j.checkIn(ctx, p, e, at.Position)
			return err
		}
	}
	if p.cat.standsOn(at) || p.retained.holds(at.version()) && at.version().Compare(p.retained.From) < 0 {
		return nil
	}
	if at.version().Compare(p.retained.From) < 0 {
		return p.retained.errLetGo("journal: view", at.Position)
	}
	return fault.New(fault.NotFound, "journal: view", "position %d of epoch %d is not recoverable", at.Position, at.Epoch)
}

// lastEnd is the last end of a bio of an epoch that a monotone condition holds for; the zero end when there is none.
// maybe asks the condition of the first end in a span.
func (j *Journal) lastEnd(ctx context.Context, p *published, epoch uint64, maybe func(*span) bool, holds func(*end) bool) (end, error) {
	if t := p.tail; t != nil && anySpan(t.spans, epoch, maybe) {
		return lastIn(endsOf(t.index, t.baseEpoch), epoch, holds), nil
	}
	for i := len(p.sealed) - 1; i >= 0; i-- {
		s := p.sealed[i]
		if !anySpan(s.sum.Spans, epoch, maybe) {
			continue
		}
		ends, err := j.ends(p, s)
		return lastIn(ends, epoch, holds), err
	}
	for i := len(p.cat.Timelines) - 1; i >= 0; i-- {
		t := &p.cat.Timelines[i]
		if !anySpan(t.Spans, epoch, maybe) {
			continue
		}
		ends, err := j.timeline(ctx, t)
		return lastIn(ends, epoch, holds), err
	}
	return end{}, nil
}

func anySpan(spans []span, epoch uint64, maybe func(*span) bool) bool {
	for i := range spans {
		if spans[i].Epoch == epoch && maybe(&spans[i]) {
			return true
		}
	}
	return false
}

// lastIn relies on the order of ends: by epoch, and in one epoch by position and time.
func lastIn(ends []end, epoch uint64, holds func(*end) bool) end {
	n := sort.Search(len(ends), func(i int) bool {
		e := &ends[i]
		return e.version.Epoch > epoch || (e.version.Epoch == epoch && !holds(e))
	})
	if n == 0 || ends[n-1].version.Epoch != epoch {
		return end{}
	}
	return ends[n-1]
}
