package source

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/understudy-dr/understudy/internal/wire"
)

// journal is a list of frames. Those before durable are synced.
type journal struct {
	id      string
	frames  []stored
	durable int
	repairs []wire.Repair // asked for
}

type stored struct {
	wire.Header
	extents []wire.Extent
	payload []byte
	open    wire.EpochOpen
}

func newJournal(rng *rand.Rand) *journal {
	return &journal{id: fmt.Sprintf("%016x-%016x", rng.Uint64(), rng.Uint64())}
}

// welcome folds all frames, as a journal opened anew would.
func (j *journal) welcome() wire.Welcome {
	w := wire.Welcome{Journal: j.id, Frames: uint64(len(j.frames))}
	for i := range j.frames {
		f := &j.frames[i]
		w.Highest = max(w.Highest, f.Last)
		switch f.Type {
		case wire.TypeEpochOpen:
			if f.Epoch != w.Epoch {
				w.BaselineDone = false
			}
			w.Epoch, w.First, w.Capture = f.Epoch, f.First, f.open.Capture
			w.Disks, w.Joining = f.open.Disks, f.open.Joining
		case wire.TypeBaselineDone:
			w.BaselineDone = true
		case wire.TypeData:
			for _, e := range f.extents {
				if e.Flags&wire.EndOfBio != 0 {
					w.Durable = max(w.Durable, e.Position)
				}
			}
		}
	}
	return w
}

// add checks a frame as a journal does, and appends it.
func (j *journal) add(f *wire.Frame, version uint32) error {
	s := stored{Header: f.Header}
	var err error
	if s.extents, err = f.ExtentTable(nil); err != nil {
		return err
	}
	raw, err := f.Payload(nil)
	if err != nil {
		return err
	}
	s.payload = slices.Clone(raw)
	if err := checkSums(f, &s, version); err != nil {
		return err
	}
	w := j.welcome()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("frame of type %d, epoch %d, %d-%d: %s", f.Type, f.Epoch, f.First, f.Last, fmt.Sprintf(format, args...))
	}
	if f.Type == wire.TypeEpochOpen {
		if err := f.Unmarshal(&s.open); err != nil {
			return err
		}
		if f.Epoch != w.Epoch+1 && !(f.Epoch == w.Epoch && f.First == w.First && s.open.Capture == w.Capture) {
			return bad("the journal is at epoch %d", w.Epoch)
		}
		if f.Epoch != w.Epoch && f.First < w.Highest {
			return bad("below %d", w.Highest)
		}
	} else if f.Epoch != w.Epoch {
		return bad("the journal is at epoch %d", w.Epoch)
	}
	if err := j.checkOrder(&s, &w); err != nil {
		return bad("%v", err)
	}
	if err := j.checkDisks(&s, &w); err != nil {
		return bad("%v", err)
	}
	j.frames = append(j.frames, s)
	return nil
}

// checkSums: what the agent's memory held is what came, and a server of protocol 1 is not sent what it cannot read.
func checkSums(f *wire.Frame, s *stored, version uint32) error {
	if version < wire.V2 && f.Format > wire.FormatV1 {
		return fmt.Errorf("format %d in protocol %d", f.Format, version)
	}
	sums, err := f.Sums(nil)
	if err != nil {
		return err
	}
	if want := wire.SumsOf(nil, s.extents, s.payload); !slices.Equal(sums, want) {
		return fmt.Errorf("sums %x, the payload's are %x", sums, want)
	}
	if summed := f.Format >= wire.FormatV2; version >= wire.V2 && summed != (len(sums) > 0) {
		return fmt.Errorf("format %d with %d sums", f.Format, len(sums))
	}
	return nil
}

// answered is the frame that opens the epoch which reads again what a repair asked for.
func (j *journal) answered(id uint64) (frame int, ok bool) {
	for i := range j.frames[:j.durable] {
		if slices.Contains(j.frames[i].open.Repairs, id) {
			return i, true
		}
	}
	return 0, false
}

func (j *journal) checkOrder(s *stored, w *wire.Welcome) error {
	last, open := j.lastExtent(w.Epoch)
	switch s.Type {
	case wire.TypeData:
		for _, e := range s.extents {
			if e.Position <= w.First || e.Position < last || (e.Position == last && !open) || (e.Position > last && open) {
				return fmt.Errorf("position %d after %d (open %v)", e.Position, last, open)
			}
			last, open = e.Position, e.Flags&wire.EndOfBio == 0
		}
	case wire.TypeBaseline:
		if s.First != w.First || s.Last != w.First {
			return errors.New("baseline out of place")
		}
	case wire.TypeBaselineDone:
		if w.BaselineDone || s.Last < w.First {
			return errors.New("done out of place")
		}
	case wire.TypeMark:
		if open && s.Last >= last {
			return errors.New("mark inside a bio")
		}
	}
	return nil
}

// lastExtent is the last captured extent of an epoch, and whether its bio has not ended.
func (j *journal) lastExtent(epoch uint64) (position uint64, open bool) {
	for i := len(j.frames) - 1; i >= 0 && j.frames[i].Epoch == epoch; i-- {
		if f := &j.frames[i]; f.Type == wire.TypeData {
			e := f.extents[len(f.extents)-1]
			return e.Position, e.Flags&wire.EndOfBio == 0
		}
	}
	return 0, false
}

// interval is what can be recovered of one epoch.
type interval struct {
	epoch, from uint64
	capture     string
	ends        []uint64 // of bios, from from on
	marks       []mark
}

// last is its newest position.
func (i *interval) last() uint64 {
	p := i.from
	if n := len(i.ends); n > 0 {
		p = max(p, i.ends[n-1])
	}
	return p
}

type mark struct {
	position uint64
	time     int64
}

func (j *journal) intervals() []interval {
	var all []interval
	var cur interval
	done := false
	reached := uint64(0)
	flush := func() {
		if done && reached >= cur.from {
			cur.ends = slices.DeleteFunc(cur.ends, func(p uint64) bool { return p < cur.from })
			cur.marks = slices.DeleteFunc(cur.marks, func(m mark) bool { return m.position < cur.from })
			all = append(all, cur)
		}
	}
	for _, f := range j.frames[:j.durable] {
		switch f.Type {
		case wire.TypeEpochOpen:
			if f.Epoch == cur.epoch {
				continue
			}
			flush()
			cur, done, reached = interval{epoch: f.Epoch, capture: f.open.Capture}, false, 0
			continue
		case wire.TypeBaselineDone:
			done, cur.from = true, f.Last
		case wire.TypeMark:
			reached = max(reached, f.Last)
		case wire.TypeData:
			for _, e := range f.extents {
				if e.Flags&wire.EndOfBio != 0 {
					cur.ends = append(cur.ends, e.Position)
					reached = max(reached, e.Position)
				}
			}
		}
		if f.Type == wire.TypeData && f.extents[len(f.extents)-1].Flags&wire.EndOfBio == 0 {
			continue // its end has not been reached
		}
		if f.Type != wire.TypeBaseline {
			cur.marks = append(cur.marks, mark{f.Last, f.Time})
		}
	}
	flush()
	return all
}

// disks at a position of an epoch: all extents up to it, by position, then by arrival. What a repair asked for is garbage
// in all that came before its answer.
func (j *journal) disks(epoch, position uint64, like [][]byte) [][]byte {
	type entry struct {
		wire.Extent
		data  []byte
		frame int
	}
	var entries []entry
	for i, f := range j.frames[:j.durable] {
		raw := f.payload
		for _, e := range f.extents {
			x := entry{Extent: e, frame: i}
			if e.Kind == wire.KindData {
				x.data, raw = raw[:e.Bytes], raw[e.Bytes:]
			}
			if f.Epoch <= epoch && e.Position <= position {
				entries = append(entries, x)
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.Position, b.Position) })
	out := make([][]byte, len(like))
	for i := range like {
		out[i] = make([]byte, len(like[i]))
	}
	for _, e := range entries {
		if int(e.Disk) >= len(out) {
			continue
		}
		b := out[e.Disk]
		b = b[min(e.Sector*wire.SectorSize, uint64(len(b))):]
		b = b[:min(e.Bytes, uint64(len(b)))]
		if e.Kind == wire.KindData {
			copy(b, e.data)
		} else {
			clear(b)
		}
		for _, r := range j.repairs {
			if at, ok := j.answered(r.ID); ok && j.frames[at].Epoch <= epoch && e.frame < at {
				damage(out, r.Ranges)
			}
		}
	}
	return out
}

func damage(disks [][]byte, ranges []wire.Range) {
	for _, g := range ranges {
		if int(g.Disk) >= len(disks) {
			continue
		}
		d := disks[g.Disk]
		for s := g.Sector; s < min(g.Sector+g.Sectors, uint64(len(d)/wire.SectorSize)); s++ {
			for i := range wire.SectorSize {
				d[s*wire.SectorSize+uint64(i)] = 0xdb
			}
		}
	}
}
