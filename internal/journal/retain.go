package journal

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
)

// Retention is what must stay readable.
type Retention struct {
	Since  time.Time // every second from here on
	Points []Point   // and these, whatever their age
}

// retained is a Retention in terms of versions. It only moves forward.
type retained struct {
	From     layer.Version `json:"from"` // every state from here on; the zero Version keeps all there is
	FromTime int64         `json:"fromTime"`
	Points   []Point       `json:"points"` // older than From, oldest first
}

func (p Point) version() layer.Version { return layer.Version{Epoch: p.Epoch, Position: p.Position} }

// holds tells whether a recoverable state may still be asked for.
func (r *retained) holds(v layer.Version) bool {
	return v.Compare(r.From) >= 0 || r.keeps(v)
}

// keeps tells whether a state is one of the points.
func (r *retained) keeps(v layer.Version) bool {
	_, found := slices.BinarySearchFunc(r.Points, v, func(p Point, v layer.Version) int { return p.version().Compare(v) })
	return found
}

// reach is what can be asked for of one epoch.
type reach struct{ number, from, to uint64 }

// reaches lists them by number.
func (p *published) reaches() []reach {
	var list []reach
	for e := range p.epochs {
		list = append(list, reach{number: e.Number, from: e.From, to: e.to()})
	}
	slices.SortFunc(list, func(a, b reach) int { return cmp.Compare(a.number, b.number) })
	return list
}

// retainable tells whether a point is one of this journal's that was not let go of. One that the journal lost with its disk is not: the
// state at its position is another now. Whether it ends a write is not looked up; whoever names it got it from Check.
func (r *retained) retainable(reaches []reach, at Point) bool {
	i, found := slices.BinarySearchFunc(reaches, at.Epoch, func(e reach, number uint64) int { return cmp.Compare(e.number, number) })
	if found && at.Position >= reaches[i].from && at.Position <= reaches[i].to {
		return true
	}
	return at.version().Compare(r.From) < 0 && r.keeps(at.version())
}

// flushed is the newest state that is in layers, whole; the zero Version when there is none.
func (c *catalogue) flushed() (layer.Version, int64) {
	f := c.Fold.fold(nil)
	for e := range f.epochs {
		if e.recoverable() {
			// The last bio may be later than the watermark, when the one after it was cut in two by the segment's end.
			return layer.Version{Epoch: e.Number, Position: e.to()}, max(e.toTime(), e.Clock)
		}
	}
	return layer.Version{}, 0
}

// bounded is what of a Retention takes effect on disk: nothing is let go of that the newest state in layers shows. Segments may be
// lost with the local disk, and then that state is what there is.
func (c *catalogue) bounded(r retained) retained {
	last, at := c.flushed()
	if last.Less(c.Retained.From) {
		last, at = c.Retained.From, c.Retained.FromTime
	}
	if r.From.Compare(last) <= 0 {
		return r
	}
	b := retained{From: last, FromTime: at}
	for _, p := range r.Points {
		if p.version().Less(last) {
			b.Points = append(b.Points, p)
		}
	}
	return b
}

// keep is what a merge must leave readable.
func (c *catalogue) keep(bottom bool) layer.Keep {
	k := layer.Keep{From: c.Retained.From, Bottom: bottom}
	for _, p := range c.Retained.Points {
		k.Points = append(k.Points, p.version())
	}
	for i := range c.Branches {
		k.Points = append(k.Points, c.Branches[i].Point.version())
	}
	slices.SortFunc(k.Points, layer.Version.Compare)
	k.Points = slices.Compact(k.Points)
	return k
}

// Retain says what must stay readable from now on; everything else may be reclaimed. It is cheap: nothing is read but the
// timeline around Since, and it takes effect on disk with the next step of Maintain. It only moves forward: what was let
// go of does not come back. Points that are not there any more are named in a NotFound; the others are kept.
func (j *Journal) Retain(r Retention) error {
	from, at := layer.Version{}, int64(0)
	switch p, err := j.Before(r.Since); {
	case err == nil:
		from, at = p.version(), p.Time.UnixNano()
	case !fault.Is(err, fault.NotFound): // then there is nothing that early, and everything stays
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	old := j.pub.retained
	if from.Compare(old.From) < 0 {
		from, at = old.From, old.FromTime
	}
	next, reaches := retained{From: from, FromTime: at}, j.pub.reaches()
	var errs []error
	for _, p := range r.Points {
		if !old.retainable(reaches, p) {
			errs = append(errs, fault.New(fault.NotFound, "journal: retain", "position %d of epoch %d is not kept any more", p.Position, p.Epoch))
		} else if p.version().Compare(from) < 0 {
			next.Points = append(next.Points, p)
		}
	}
	slices.SortFunc(next.Points, func(a, b Point) int { return a.version().Compare(b.version()) })
	next.Points = slices.CompactFunc(next.Points, func(a, b Point) bool { return a.version() == b.version() })
	j.pub.retained = next
	return errors.Join(errs...)
}

func (j *Journal) retention() retained {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.pub.retained
}

// Kept lists the points older than the window that stay readable, oldest first.
func (j *Journal) Kept() []Point {
	r := j.retention()
	return slices.Clone(r.Points)
}

// errLetGo is for a state that was recoverable and is not retained.
func (r *retained) errLetGo(op string, position uint64) error {
	hint := "every second from " + stamp(r.FromTime) + " on is kept"
	if n := len(r.Points); n > 0 {
		hint += ", and before that " + stamp(r.Points[n-1].Time.UnixNano()) + " and other recovery points"
	}
	return fault.New(fault.NotFound, op, "position %d is older than what is retained", position).WithHint(hint)
}
