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
	frames    int
	torn      bool // a scan ended at a frame that is not whole
	sealing   bool // its sidecar may be there, even if writing that failed
	index     []entry
	spans     []span
	epochs    []uint64 // current at some frame

	extents []wire.Extent // scratch
	fresh   []entry       // scratch
}

func newBuilder(number uint64, before fold) *builder {
	return &builder{number: number, baseEpoch: before.cur.Number, fold: before, bytes: segHeaderSize}
}

// staged is a frame that was checked but not added yet: its bytes still have to reach the file.
type staged struct {
	fold  fold
	bytes int64
}

// stage checks a frame. What it would add to the index is in b.fresh until commit.
func (b *builder) stage(f *wire.Frame, disks diskSet) (staged, error) {
	var err error
	if b.extents, err = f.ExtentTable(b.extents); err != nil {
		return staged{}, err
	}
	clock := b.fold.cur.Clock
	s := staged{fold: b.fold, bytes: int64(len(f.Bytes))}
	if err := s.fold.apply(f, b.extents, disks); err != nil {
		return staged{}, err
	}
	if n := countEntries(b.extents); n > maxFrameEntries {
		return staged{}, refuse(fault.Invalid, &f.Header, "%d index entries, the most is %d", n, maxFrameEntries)
	}
	b.fresh = appendEntries(b.fresh[:0], &f.Header, b.extents, uint32(b.bytes), uint16(s.fold.cur.Number-b.baseEpoch), clock)
	return s, nil
}

func (b *builder) commit(s staged) {
	b.fold = s.fold
	b.bytes += s.bytes
	b.frames++
	n := s.fold.cur.Number
	if len(b.epochs) == 0 || b.epochs[len(b.epochs)-1] != n {
		b.epochs = append(b.epochs, n)
	}
	b.index = append(b.index, b.fresh...)
	for i := range b.fresh {
		if e := &b.fresh[i]; e.endsBio() {
			b.spans = addSpan(b.spans, n, e)
		}
	}
}

// fits tells whether a frame may still go into this segment.
func (b *builder) fits(f *wire.Frame, limit int64) bool {
	return b.frames == 0 || (!b.sealing && len(b.index) < maxIndex && b.bytes+int64(len(f.Bytes)) <= limit && f.Epoch-b.baseEpoch < 1<<16)
}

// segment is the sealed form.
func (b *builder) segment() *segment {
	s := &segment{number: b.number, bytes: b.bytes, baseEpoch: b.baseEpoch, entries: len(b.index)}
	s.sum = summary{Frames: b.frames, Highest: b.fold.highest, Data: b.fold.data, Bio: b.fold.bio, Spans: b.spans}
	for e := range b.fold.epochs {
		if len(b.epochs) == 0 || e.Number < b.epochs[0] {
			break
		}
		s.sum.Epochs = append(s.sum.Epochs, *e)
	}
	slices.Reverse(s.sum.Epochs)
	return s
}

// reader reads the frames of one segment in order.
type reader struct {
	f    vfs.File
	size int64
	off  int64
	buf  []byte
}

// next reads and verifies the frame at r.off and moves past it. At the end it says false.
func (r *reader) next() (f wire.Frame, ok bool, err error) {
	if r.off == r.size {
		return f, false, nil
	}
	var head [wire.HeaderSize]byte
	if err := r.read(head[:], r.off); err != nil {
		return f, false, err
	}
	h, err := wire.ParseHeader(head[:])
	if head[4] == 0 && fault.Is(err, fault.Unsupported) { // no format is 0: the magic's sector came, the next did not
		err = fault.New(fault.Corruption, "journal: frame", "torn header")
	}
	if err != nil {
		return f, false, err
	}
	if r.off+int64(h.Size()) > r.size {
		return f, false, fault.New(fault.Corruption, "journal: frame", "%d bytes, %d are left", h.Size(), r.size-r.off)
	}
	if cap(r.buf) < h.Size() {
		r.buf = make([]byte, h.Size())
	}
	r.buf = r.buf[:h.Size()]
	if err := r.read(r.buf, r.off); err != nil {
		return f, false, err
	}
	if f, err = wire.Parse(r.buf); err != nil {
		return f, false, err
	}
	r.off += int64(h.Size())
	return f, true, nil
}

func (r *reader) read(p []byte, off int64) error {
	if off+int64(len(p)) > r.size {
		return fault.New(fault.Corruption, "journal: frame", "%d bytes, %d are left", len(p), r.size-off)
	}
	return vfs.Fault("journal: read", vfs.ReadFull(r.f, p, off))
}

// scan indexes the frames of an open segment file up to its end or the first frame that is not whole. Then
// good is where that frame begins and err says why; err is nil when every byte is accounted for.
func (d *directory) scan(f vfs.File, number uint64, before fold) (b *builder, good int64, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, 0, vfs.Fault("journal: "+segName(number), err)
	}
	b = newBuilder(number, before)
	r := &reader{f: f, size: size, off: segHeaderSize}
	for {
		at := r.off
		frame, ok, err := r.next()
		if err != nil || !ok {
			b.torn = fault.Is(err, fault.Corruption)
			return b, at, d.located(number, at, err)
		}
		s, err := b.stage(&frame, d.disks)
		if err != nil {
			return b, at, d.located(number, at, err)
		}
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
	b, off, err := d.scan(f, number, before)
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
		WithHint("restore the segment from a copy, or replicate the server anew")
}

// openSegment opens a segment for reading and checks its header.
func (d *directory) openSegment(number uint64) (vfs.File, error) {
	f, err := d.fs.Open(d.path(segName(number)))
	if err != nil {
		return nil, vfs.Fault("journal: "+segName(number), err)
	}
	head := make([]byte, segHeaderSize)
	if err := vfs.ReadFull(f, head, 0); err != nil {
		_ = f.Close()
		return nil, vfs.Fault("journal: "+segName(number), err)
	}
	if err := checkSegHeader(head, d.id, number); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
