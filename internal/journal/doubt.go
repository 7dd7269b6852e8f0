package journal

import (
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

// Doubt is what a verify pass of the source found: journal and disks differed for no reason that it knows of. The epoch that reads it
// again is right; which of the states before it are wrong there nobody can say.
type Doubt struct {
	Epoch  uint64       // that corrects it
	Since  time.Time    // they were last proven to be the same; zero: never before
	Until  time.Time    // the first recoverable instant of Epoch; zero while there is none
	Bytes  uint64       // that differed
	Absent uint64       // of these: that the journal had nothing of, written unseen or allocated and never written
	Ranges []wire.Range // of them, wire.MaxDoubt at most
}

// Covers tells whether a state may be wrong in the ranges.
func (d *Doubt) Covers(p Point) bool { return p.Epoch < d.Epoch && p.Time.After(d.Since) }

// Doubts lists, oldest first, what was found that any state that is retained may suffer from.
func (j *Journal) Doubts() (list []Doubt) {
	p := j.snapshot()
	for e := range p.fold.epochs {
		if e.doubts(&p.retained) {
			list = append(list, e.finding())
		}
	}
	slices.Reverse(list)
	return list
}

func (e *epoch) finding() Doubt {
	d := Doubt{Epoch: e.Number, Since: unixTime(e.Doubt.Since), Bytes: e.Doubt.Bytes, Absent: min(e.Doubt.Absent, e.Doubt.Bytes), Ranges: slices.Clone(e.Doubt.Ranges)}
	if e.recoverable() {
		d.Until = unixTime(e.FromTime)
	}
	return d
}

// doubts tells whether a state that is retained is doubtful for what this epoch corrects.
func (e *epoch) doubts(r *retained) bool {
	if e.Doubt == nil {
		return false
	}
	d := Doubt{Epoch: e.Number, Since: unixTime(e.Doubt.Since)}
	return e.Number > r.From.Epoch || slices.ContainsFunc(r.Points, d.Covers)
}

// maxDoubts bounds how many findings a catalogue remembers apart, 256 KiB of them or so.
const maxDoubts = 256

// gatherDoubts makes one of the two oldest findings while there are too many: then more is called doubtful than is, never less. The slice is
// changed, what its epochs point to is not.
func gatherDoubts(closed []epoch) {
	n := 0
	for i := range closed {
		if closed[i].Doubt != nil {
			n++
		}
	}
	oldest := -1
	for i := 0; i < len(closed) && n > maxDoubts; i++ {
		switch {
		case closed[i].Doubt == nil:
			continue
		case oldest >= 0:
			closed[i].Doubt, closed[oldest].Doubt = closed[oldest].Doubt.With(closed[i].Doubt), nil
			n--
		}
		oldest = i
	}
}
