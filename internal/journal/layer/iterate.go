package layer

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Iterate gives all spans from a place on, up to another if hasTo, clipped to them. Where an index block is damaged, its places are Lost
// in all versions that it may have told of. It reads ahead, and keeps nothing in the cache.
func (r *Reader) Iterate(from, to Key, hasTo bool) Iterator {
	if !hasTo {
		to = Key{Disk: 0xffff, Sector: maxSector}
	}
	return &iterator{window: window{file: &r.file}, r: r, from: from, to: to, block: r.seek(from.Disk, from.Sector)}
}

// iterator goes through the records of one index block after the other.
type iterator struct {
	window
	r        *Reader
	from, to Key
	block    int // the next index block
	ix       *indexBlock
	cur      cursor
	disk     uint16
	lost     []lostRecord // what a damaged index block left
	entries  []Entry
	err      error // it stays: what was read half cannot be taken up again
}

// lostRecord stands for records that cannot be read.
type lostRecord struct {
	start, end uint64
	more       bool
	top        *topEntry
}

func (it *iterator) Close() error {
	it.err = fault.New(fault.Bug, "layer: iterate", "closed")
	it.ix, it.entries = nil, nil
	it.window.close()
	return nil
}

func (it *iterator) Next(ctx context.Context) (Span, bool, error) {
	for it.err == nil {
		s, ok, err := it.span(ctx)
		if it.err = err; err != nil || !ok || it.to.Compare(Key{s.Disk, s.Sector}) <= 0 {
			return Span{}, false, err
		}
		if it.clip(&s) {
			return s, true, nil
		}
	}
	return Span{}, false, it.err
}

// clip cuts a span to what is wanted.
func (it *iterator) clip(s *Span) bool {
	start, end := s.Sector, s.Sector+s.Sectors
	if s.Disk == it.from.Disk {
		start = max(start, it.from.Sector)
	}
	if s.Disk == it.to.Disk {
		end = min(end, it.to.Sector)
	}
	if s.Disk < it.from.Disk || start >= end {
		return false
	}
	if start == s.Sector && end == s.Sector+s.Sectors {
		return true
	}
	s.Sector, s.Sectors = start, end-start
	for i := range s.Entries {
		s.Entries[i].sector, s.Entries[i].length = s.Sector, s.Sectors
	}
	return true
}

// span puts the records of one span together.
func (it *iterator) span(ctx context.Context) (Span, bool, error) {
	it.entries = it.entries[:0]
	start, end, more, err := it.record(ctx, Span{})
	if err != nil || start == end {
		return Span{}, false, err
	}
	s := Span{Disk: it.disk, Sector: start, Sectors: end - start}
	for more {
		if start, end, more, err = it.record(ctx, s); err != nil {
			return Span{}, false, err
		}
		if start != s.Sector || end != s.Sector+s.Sectors {
			return Span{}, false, fault.New(fault.Corruption, "layer: iterate", "layer %d: a span goes on as another", it.number)
		}
	}
	s.Entries = it.entries
	return s, true, nil
}

// record takes the next record's entries; open is the span that it has to continue, if any. Nothing is left if start equals end.
func (it *iterator) record(ctx context.Context, open Span) (start, end uint64, more bool, err error) {
	for {
		if len(it.lost) > 0 {
			l := it.lost[0]
			it.lost = it.lost[1:]
			return l.start, l.end, l.more, it.addLost(l)
		}
		if it.ix != nil {
			if it.cur.record() {
				return it.cur.start, it.cur.end, it.cur.more, it.addRecord()
			}
			it.ix = nil
		}
		if err := ctx.Err(); err != nil {
			return 0, 0, false, fault.New(fault.Transient, "layer: iterate", "%w", err)
		}
		if it.block == len(it.r.top) {
			return 0, 0, false, nil
		}
		if err := it.load(ctx, open); err != nil {
			return 0, 0, false, err
		}
	}
}

// load takes up the next index block, or what is left of it.
func (it *iterator) load(ctx context.Context, open Span) error {
	t := &it.r.top[it.block]
	ix, err := it.r.loadIndex(ctx, it.block)
	it.block++
	it.disk = t.disk
	switch {
	case err == nil:
		it.ix, it.cur = ix, ix.start()
	case fault.Is(err, fault.Corruption):
		it.damaged(t, open)
	default:
		return err
	}
	return nil
}

// damaged makes records of what the top index knows of a block: the rest of the span that goes on in it, what lies between, and the
// beginning of the span that goes on behind it.
func (it *iterator) damaged(t *topEntry, open Span) {
	start, end := t.first, t.end
	goesOn := it.block < len(it.r.top) && it.r.top[it.block].continued
	if t.continued && open.Sectors > 0 {
		chain := open.Sector + open.Sectors
		through := goesOn && it.r.top[it.block].first == open.Sector
		it.lost = append(it.lost, lostRecord{start: open.Sector, end: chain, more: through, top: t})
		if through {
			return
		}
		start = chain
	}
	if goesOn {
		next := it.r.top[it.block].first
		if start < next {
			it.lost = append(it.lost, lostRecord{start: start, end: next, top: t})
		}
		start = next
	}
	if start < end {
		it.lost = append(it.lost, lostRecord{start: start, end: end, more: goesOn, top: t})
	}
}

func (it *iterator) addLost(l lostRecord) error {
	it.disk = l.top.disk
	n, o := l.top.newest, l.top.oldest
	if len(it.entries) == 0 || n.Less(it.entries[len(it.entries)-1].Version) {
		if err := it.add(lostEntry(it.disk, l.start, l.end-l.start, n, false)); err != nil {
			return err
		}
	}
	if last := it.entries[len(it.entries)-1].Version; o.Less(last) {
		return it.add(lostEntry(it.disk, l.start, l.end-l.start, o, true))
	}
	return nil
}

func (it *iterator) addRecord() error {
	c := &it.cur
	for c.left > 0 {
		d := c.entry()
		e := Entry{Version: d.version, Kind: d.kind, open: d.open, disk: it.disk, sector: c.start, length: c.end - c.start,
			at: extent{sector: c.start, sectors: c.end - c.start, ix: c.ix, raw: d.raw, sums: d.sums}}
		if d.kind == Data {
			e.from = &it.window
		}
		if err := it.add(e); err != nil {
			return err
		}
	}
	return nil
}

// add appends an entry. What was lost before it in the same span began above it, whatever the top index could tell.
func (it *iterator) add(e Entry) error {
	if n := len(it.entries); n > 0 && !e.Version.Less(it.entries[n-1].Version) {
		last := &it.entries[n-1]
		last.Version = e.Version.next()
		if !last.open || n > 1 && !last.Version.Less(it.entries[n-2].Version) {
			if !last.open {
				return fault.New(fault.Corruption, "layer: iterate", "layer %d: versions of a span are out of order", it.number)
			}
			it.entries = it.entries[:n-1]
		}
	}
	it.entries = append(it.entries, e)
	return nil
}

// window reads the data blocks of an iteration: the file ahead, in each stream, and the last few decoded blocks.
type window struct {
	*file
	ahead [streams]ahead
	slots [6]slot
	clock uint64
	bad   int64 // the last block that could not be read or opened: its cells are asked for one by one
	cause error // why
}

// ahead is a part of the file in memory.
type ahead struct {
	buf []byte
	off int64
}

type slot struct {
	off  int64 // of the block; 0: none
	used uint64
	buf  *buffer
}

func (w *window) close() {
	for i := range w.slots {
		if b := w.slots[i].buf; b != nil {
			b.release()
		}
		w.slots[i] = slot{}
	}
	w.ahead = [streams]ahead{}
}

func (w *window) load(ctx context.Context, x *extent, disk uint16, sector uint64, dst []byte) error {
	return fault.Wrap("layer: load", readExtent(ctx, w, x, disk, sector, dst))
}

func (w *window) get(ctx context.Context, ix *indexBlock, i int) (*buffer, error) {
	w.clock++
	off, _ := ix.place(i)
	if w.cause != nil && w.bad == off {
		return nil, w.cause
	}
	oldest := &w.slots[0]
	for k := range w.slots {
		s := &w.slots[k]
		if s.off == off {
			s.used = w.clock
			s.buf.refs.Add(1)
			return s.buf, nil
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	from, to := ix.blockRaw(i)
	b := newBuffer(int(to - from))
	if err := w.into(ctx, ix, i, i+1, b.data); err != nil {
		b.release()
		if fault.Is(err, fault.Corruption) {
			w.bad, w.cause = off, err
		}
		return nil, err
	}
	if oldest.buf != nil {
		oldest.buf.release()
	}
	b.refs.Add(1)
	*oldest = slot{off: off, used: w.clock, buf: b}
	return b, nil
}

func (w *window) into(ctx context.Context, ix *indexBlock, i, j int, dst []byte) error {
	off, n := ix.run(i, j)
	which, end := ix.stream(i)
	a := &w.ahead[which]
	if off < a.off || off+int64(n) > a.off+int64(len(a.buf)) {
		if err := a.fill(ctx, w.src, off, n, end); err != nil {
			return err
		}
	}
	at := int(off - a.off)
	return w.decodeRun(ix, i, j, dst, a.buf[at:at+n])
}

// fill reads up to the end of the stream; where that fails, just what is wanted. What was read before is not read again.
func (a *ahead) fill(ctx context.Context, src Source, off int64, n int, end int64) error {
	have := 0
	if at := off - a.off; at >= 0 && at < int64(len(a.buf)) {
		have = copy(a.buf, a.buf[at:])
	}
	a.off, a.buf = off, a.buf[:have]
	size := max(n, int(min(maxRun, end-off)))
	a.buf = slices.Grow(a.buf, size-have)[:size]
	err := src.ReadAt(ctx, a.buf[have:], off+int64(have))
	if err != nil && size > n && ctx.Err() == nil {
		a.buf = a.buf[:n]
		err = src.ReadAt(ctx, a.buf[have:], off+int64(have))
	}
	if err != nil {
		a.buf = a.buf[:have]
	}
	return err
}
