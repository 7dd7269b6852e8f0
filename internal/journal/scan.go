package journal

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// builder makes the index of a segment, frame by frame, on top of the fold of everything before it.
type builder struct {
	number    uint64
	baseEpoch uint64
	fold      fold
	bytes     int64 // of the segment so far, header included
	raw       int64 // of the frames' payloads: what a flush holds in memory
	frames    int
	torn      bool // a scan ended at a frame that is not whole
	sealing   bool // its sidecar may be there, even if writing that failed
	index     []entry
	sums      []uint64 // of the data of index, in order; 0 where the frame had none
	spans     []span
	epochs    []uint64 // current at some frame

	extents []wire.Extent // scratch
	fresh   []entry       // scratch
	summed  []uint64      // scratch
}

func newBuilder(f *segFile, before fold) *builder {
	return &builder{number: f.number, baseEpoch: before.cur.Number, fold: before, bytes: f.start}
}

// staged is a frame that was checked but not added yet: its bytes still have to reach the file.
type staged struct {
	fold  fold
	raw   int64
	bytes int64 // in the segment; whoever stages knows
}

// stage checks a frame. What it would add to the index is in b.fresh until commit.
func (b *builder) stage(f *wire.Frame) (staged, error) {
	var err error
	if b.extents, err = f.ExtentTable(b.extents); err != nil {
		return staged{}, err
	}
	clock := b.fold.cur.Clock
	s := staged{fold: b.fold, raw: int64(f.Header.RawBytes)}
	if err := s.fold.apply(f, b.extents); err != nil {
		return staged{}, err
	}
	if n := countEntries(b.extents); n > maxFrameEntries {
		return staged{}, refuse(fault.Invalid, &f.Header, "%d index entries, the most is %d", n, maxFrameEntries)
	}
	b.fresh = appendEntries(b.fresh[:0], &f.Header, b.extents, uint32(b.bytes), uint16(s.fold.cur.Number-b.baseEpoch), clock)
	if b.summed, err = b.sumsOf(f); err != nil {
		return staged{}, err
	}
	return s, nil
}

// sumsOf is the agent's sums; a frame of format 1 has none, and summing it here would prove nothing.
func (b *builder) sumsOf(f *wire.Frame) ([]uint64, error) {
	if f.Header.Summed() {
		return f.Sums(b.summed[:0])
	}
	return append(b.summed[:0], make([]uint64, countSums(b.fresh))...), nil
}

func (b *builder) commit(s staged) {
	b.fold = s.fold
	b.bytes += s.bytes
	b.raw += s.raw
	b.frames++
	n := s.fold.cur.Number
	if len(b.epochs) == 0 || b.epochs[len(b.epochs)-1] != n {
		b.epochs = append(b.epochs, n)
	}
	b.index = append(b.index, b.fresh...)
	b.sums = append(b.sums, b.summed...)
	for i := range b.fresh {
		if e := &b.fresh[i]; e.endsBio() {
			b.spans = addSpan(b.spans, n, e)
		}
	}
}

// fits tells whether a frame may still go into this segment.
func (b *builder) fits(f *wire.Frame, limit int64) bool {
	return b.frames == 0 || (!b.sealing && len(b.index) < maxIndex && f.Epoch-b.baseEpoch < 1<<16 &&
		b.bytes+int64(len(f.Bytes)) <= limit && b.raw+int64(f.Header.RawBytes) <= maxRawSegment)
}

// segment is the sealed form.
func (b *builder) segment() *segment {
	s := &segment{number: b.number, bytes: b.bytes, baseEpoch: b.baseEpoch, entries: len(b.index)}
	s.sum = summary{Frames: b.frames, Highest: b.fold.highest, Data: b.fold.data, Bio: b.fold.bio, Spans: b.spans, Tables: b.fold.tables[1:]}
	for e := range b.fold.epochs {
		if len(b.epochs) == 0 || e.Number < b.epochs[0] {
			break
		}
		s.sum.Epochs = append(s.sum.Epochs, *e)
	}
	slices.Reverse(s.sum.Epochs)
	return s
}

// scan indexes the frames of an open segment file up to its end or the first frame that is not whole. Then
// good is where that frame begins and err says why; err is nil when every byte is accounted for.
func (d *directory) scan(f *segFile, before fold) (b *builder, good int64, err error) {
	r, err := newReader(f)
	if err != nil {
		return nil, 0, err
	}
	number := f.number
	b = newBuilder(f, before)
	for {
		at := r.off
		frame, ok, err := r.next()
		if err != nil || !ok {
			b.torn = fault.Is(err, fault.Corruption) && !vfs.Unreadable(err) // a torn write reads, as something else
			return b, at, d.located(number, at, err)
		}
		s, err := b.stage(&frame)
		if err != nil {
			return b, at, d.located(number, at, err)
		}
		s.bytes = r.off - at
		b.commit(s)
	}
}

func (d *directory) located(number uint64, off int64, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.KindOf(err), "journal: "+segName(number), "offset %d: %w", off, err)
}

// scanSealed indexes a segment in which nothing may be torn.
func (d *directory) scanSealed(number uint64, before fold) (*builder, error) {
	f, err := d.openSegment(number)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, off, err := d.scan(f, before)
	if err != nil {
		return nil, damage(number, off, err)
	}
	return b, nil
}

// damage is what an error found in stored bytes means: a frame that is whole but makes no sense is damage too.
func damage(number uint64, off int64, err error) error {
	if fault.Is(err, fault.Transient) || fault.Is(err, fault.Unsupported) {
		return err
	}
	return fault.New(fault.Corruption, "journal: "+segName(number), "damaged at offset %d: %w", off, err).
		WithHint("opening the journal sets it aside and goes on from what is whole; the source server sends the rest again")
}
