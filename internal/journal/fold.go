package journal

import (
	"encoding/json"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// epoch is all that is remembered of one epoch. It is stored in sidecars.
type epoch struct {
	Number  uint64 `json:"number"`
	First   uint64 `json:"first"`
	Capture string `json:"captureId"`
	Reason  string `json:"reason,omitempty"`
	// Doubt is what a verify pass found, and this epoch corrects: states of epochs before it may be wrong there. Builds from before it was
	// remembered drop it, and lose nothing else. It is never changed in place.
	Doubt *wire.Doubt `json:"doubt,omitempty"`

	Done     bool   `json:"done"`     // baseline complete
	From     uint64 `json:"from"`     // recoverable from here on
	FromTime int64  `json:"fromTime"` // no write at or below From is later

	Last    uint64 `json:"last"`    // position of the last captured extent
	Open    bool   `json:"open"`    // its bio has not ended
	Bio     uint64 `json:"bio"`     // last position that ends a bio
	Clock   int64  `json:"clock"`   // running maximum of the times of captured extents
	Reached uint64 `json:"reached"` // everything captured at or below it is here
	Water   int64  `json:"water"`   // everything submitted up to this time is at or below Reached
}

// recoverable follows invariant 6 of the replication note. Reached is asked too: the baseline may be declared complete
// while captured writes below From are still on their way.
func (e *epoch) recoverable() bool { return e.Done && e.Reached >= e.From }

func (e *epoch) to() uint64    { return max(e.From, e.Bio) }
func (e *epoch) toTime() int64 { return max(e.FromTime, e.Water) }

// fold is what a sequence of frames amounts to. It is a value: copying it is a snapshot, because closed epochs
// never change and the slice of them is only appended to.
type fold struct {
	closed  []epoch
	cur     epoch
	highest uint64 // named by anything
	data    uint64 // of captured extents, over all epochs
	bio     uint64 // that ends a bio, over all epochs
	tables  tables
	limits  diskSizes // of the last table; nil until it is asked for
}

func refuse(kind fault.Kind, h *wire.Header, format string, args ...any) error {
	return fault.Wrap("journal: frame", fault.New(kind, typeName(h.Type), format, args...))
}

func typeName(t wire.Type) string {
	switch t {
	case wire.TypeData:
		return "data"
	case wire.TypeBaseline:
		return "baseline"
	case wire.TypeEpochOpen:
		return "epoch open"
	case wire.TypeBaselineDone:
		return "baseline done"
	case wire.TypeMark:
		return "mark"
	}
	return "other"
}

// apply checks a frame against everything before it and adds it.
func (s *fold) apply(f *wire.Frame, extents []wire.Extent) error {
	h := &f.Header
	if !h.Type.Durable() {
		return refuse(fault.Invalid, h, "type %d is not stored", h.Type)
	}
	if h.First > h.Last || h.Last >= 1<<63 {
		return refuse(fault.Invalid, h, "positions %d to %d", h.First, h.Last)
	}
	if h.Type == wire.TypeEpochOpen {
		return s.openEpoch(f)
	}
	if h.Epoch != s.cur.Number || s.cur.Number == 0 {
		return refuse(fault.Conflict, h, "epoch %d, the journal is at %d", h.Epoch, s.cur.Number)
	}
	if s.limits == nil {
		s.limits = s.tables.last().limits()
	}
	if err := s.limits.contain(h, extents); err != nil {
		return err
	}
	var err error
	switch h.Type {
	case wire.TypeData:
		err = s.addData(h, extents)
	case wire.TypeBaseline:
		err = s.addBaseline(h, extents)
	case wire.TypeBaselineDone:
		err = s.finishBaseline(h, extents)
	case wire.TypeMark:
		err = s.addMark(h, extents)
	}
	s.highest = max(s.highest, h.Last)
	return err
}

func (s *fold) openEpoch(f *wire.Frame) error {
	h := &f.Header
	if h.Extents != 0 {
		return refuse(fault.Invalid, h, "carries extents")
	}
	raw, err := f.Payload(nil)
	if err != nil {
		return err
	}
	var open wire.EpochOpen
	if err := json.Unmarshal(raw, &open); err != nil {
		return refuse(fault.Invalid, h, "%w", err)
	}
	next, err := s.tables.begin(h.Epoch, &open)
	if err != nil {
		return refuse(fault.KindOf(err), h, "%w", err)
	}
	if c := &s.cur; h.Epoch == c.Number && h.First == c.First && open.Capture == c.Capture && h.Epoch != 0 && len(next) == len(s.tables) {
		return nil // said again after a lost acknowledgement
	}
	if h.Epoch <= s.cur.Number {
		return refuse(fault.Conflict, h, "epoch %d, the journal is at %d", h.Epoch, s.cur.Number)
	}
	if h.First < s.data {
		return refuse(fault.Conflict, h, "begins at %d, below the captured position %d", h.First, s.data)
	}
	if h.First < s.cur.First {
		return refuse(fault.Conflict, h, "begins at %d, below the epoch before it at %d", h.First, s.cur.First)
	}
	if s.cur.Number != 0 {
		s.closed = append(s.closed, s.cur)
	}
	s.tables, s.limits = next, nil
	s.cur = epoch{Number: h.Epoch, First: h.First, Capture: open.Capture, Reason: open.Reason, Doubt: open.Doubt.Bounded()}
	s.highest = max(s.highest, h.Last)
	return nil
}

func (s *fold) addData(h *wire.Header, extents []wire.Extent) error {
	c := s.cur
	for i := range extents {
		x := &extents[i]
		switch {
		case x.Position <= c.First:
			return refuse(fault.Invalid, h, "position %d is not above the epoch's first, %d", x.Position, c.First)
		case x.Position < c.Last || (x.Position == c.Last && !c.Open):
			return refuse(fault.Conflict, h, "position %d after %d", x.Position, c.Last)
		case x.Position > c.Last && c.Open:
			return refuse(fault.Invalid, h, "position %d while the bio at %d has not ended", x.Position, c.Last)
		}
		c.Clock = max(c.Clock, x.Time)
		c.Last, c.Open = x.Position, x.Flags&wire.EndOfBio == 0
		if !c.Open {
			c.Bio = x.Position
			if c.Done && x.Position <= c.From {
				c.FromTime = max(c.FromTime, c.Clock)
			}
		}
	}
	if h.Last < c.Last || (h.Last > c.Last && c.Open) {
		return refuse(fault.Invalid, h, "ends at %d, its extents at %d", h.Last, c.Last)
	}
	c.reach(h)
	s.cur = c
	s.data, s.bio = max(s.data, c.Last), max(s.bio, c.Bio)
	return nil
}

// reach moves the watermark. While a bio is open its position is not reached.
func (e *epoch) reach(h *wire.Header) {
	if e.Open {
		e.Reached = max(e.Reached, e.Bio)
		return
	}
	e.Reached = max(e.Reached, h.Last)
	e.Water = max(e.Water, h.Time, e.Clock)
}

func (s *fold) addBaseline(h *wire.Header, extents []wire.Extent) error {
	for i := range extents {
		if s.cur.Done && !s.tables.last().joins(&extents[i]) {
			return refuse(fault.Conflict, h, "the baseline of epoch %d is complete", h.Epoch)
		}
		if extents[i].Position != s.cur.First {
			return refuse(fault.Invalid, h, "position %d, the epoch's first is %d", extents[i].Position, s.cur.First)
		}
	}
	return nil
}

func (s *fold) finishBaseline(h *wire.Header, extents []wire.Extent) error {
	c := &s.cur
	switch {
	case len(extents) != 0:
		return refuse(fault.Invalid, h, "carries extents")
	case h.Last < c.First:
		return refuse(fault.Invalid, h, "at %d, below the epoch's first, %d", h.Last, c.First)
	case c.Done && c.From == h.Last:
		return nil // said again after a lost acknowledgement
	case c.Done:
		return refuse(fault.Conflict, h, "at %d, it was at %d already", h.Last, c.From)
	}
	c.Done, c.From, c.FromTime = true, h.Last, max(h.Time, c.Clock)
	if c.From == c.First {
		c.Reached = max(c.Reached, c.First) // nothing can have been captured below it
	}
	return nil
}

func (s *fold) addMark(h *wire.Header, extents []wire.Extent) error {
	switch {
	case len(extents) != 0:
		return refuse(fault.Invalid, h, "carries extents")
	case s.cur.Open && h.Last >= s.cur.Last:
		return refuse(fault.Invalid, h, "at %d while the bio at %d has not ended", h.Last, s.cur.Last)
	}
	if h.Last >= s.cur.Bio {
		s.cur.reach(h)
	}
	return nil
}

// restore adds the epochs of a sealed segment's summary.
func (s *fold) restore(sum *summary) {
	for _, e := range sum.Epochs {
		if s.cur.Number != 0 && s.cur.Number != e.Number {
			s.closed = append(s.closed, s.cur)
		}
		s.cur = e
	}
	s.highest, s.data, s.bio = sum.Highest, sum.Data, sum.Bio
	if n := len(s.tables) - 1; len(sum.Tables) > n {
		s.tables, s.limits = append(s.tables[:len(s.tables):len(s.tables)], sum.Tables[n:]...), nil
	}
}

// epochs calls yield from the newest to the oldest.
func (s *fold) epochs(yield func(*epoch) bool) {
	if s.cur.Number != 0 && !yield(&s.cur) {
		return
	}
	for i := len(s.closed) - 1; i >= 0; i-- {
		if !yield(&s.closed[i]) {
			return
		}
	}
}
