package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// behind is what still reads behind damage. Nothing says any more what came before it, so it is of no use but to tell what was lost.
type behind struct {
	frames  int
	highest uint64
	writes  []written
}

// written is a run of a disk and the first write to it that was lost.
type written struct {
	disk            uint16
	begin, end      uint64
	epoch, position uint64
	time            int64
}

// maxStretches bounds what one ending tells: beyond that neighbours are told as one.
const maxStretches = 1000

// lookBehind reads what there is behind an ending, up to segment last. What cannot be read is not told, and stops nothing.
func (j *Journal) lookBehind(e *ending, last uint64) *behind {
	b := &behind{}
	for n := e.segment; n <= last; n++ {
		f, err := j.openSegment(n)
		if err != nil {
			continue
		}
		from := f.start
		if n == e.segment {
			from = e.good
		}
		if err := errors.Join(b.survey(f, from), f.Close()); err != nil {
			j.log.Warn("journal: what lies behind damage cannot be told", "dir", j.dir, "segment", segName(n), "err", err)
		}
	}
	return b
}

// survey finds the records of a segment from an offset on that verify, wherever they begin. Those of version 1 are not looked for: in
// the clear, the content of a disk could pass for a frame.
func (b *behind) survey(f *segFile, from int64) error {
	if f.cipher == nil {
		return nil
	}
	r, err := newReader(f)
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for r.off = from; r.off < r.size; {
		if frame, ok, err := r.next(); err == nil && ok {
			b.add(&frame)
			continue
		}
		if r.off, err = r.seek(r.off+1, buf); err != nil {
			return err
		}
	}
	return nil
}

// unreadStep is how much is passed over at once of what the disk cannot read: the kernel reads pages.
const unreadStep = 4 << 10

// seek is where the next record may begin, from an offset on, or the segment's end.
func (r *reader) seek(off int64, buf []byte) (int64, error) {
	magic := binary.LittleEndian.AppendUint32(nil, recMagic)
	slow := int64(0) // up to here by pages: the disk cannot read all of it
	for off+recHeaderSize <= r.size {
		end := min(off+int64(len(buf)), r.size)
		if off < slow {
			end = min((off+recHeaderSize+unreadStep-1)/unreadStep*unreadStep, r.size)
		}
		part := buf[:end-off]
		err := vfs.ReadFull(r.f, part, off)
		switch {
		case vfs.Unreadable(err) && off < slow:
			off = end
			continue
		case vfs.Unreadable(err):
			slow = end
			continue
		case err != nil:
			return 0, vfs.Fault("journal: read "+segName(r.f.number), err)
		}
		if i := bytes.Index(part, magic); i >= 0 {
			return off + int64(i), nil
		}
		off = end - int64(len(magic)) + 1
	}
	return r.size, nil
}

func (b *behind) add(f *wire.Frame) {
	b.frames++
	b.highest = max(b.highest, f.Header.Last)
	extents, err := f.ExtentTable(nil)
	if err != nil {
		return // it is counted at least
	}
	for i := range extents {
		x := &extents[i]
		if n := x.Bytes / wire.SectorSize; n > 0 {
			b.writes = append(b.writes, written{x.Disk, x.Sector, x.Sector + n, f.Header.Epoch, x.Position, cmp.Or(x.Time, f.Header.Time)})
		}
	}
}

// damage tells what an ending took: first the moment from which on nothing is left, then what is known to have been written after it.
func (b *behind) damage(e *ending) []Damage {
	now, c := time.Now().UTC(), &e.fold.cur
	d := Damage{File: asideName(e.segment, e.good), Cut: true, Epoch: c.Number, Position: c.Last, Written: unixTime(max(c.Clock, c.Water)), FoundAt: now}
	list := []Damage{d}
	for _, w := range joinWrites(b.writes) {
		d.Disk, d.Sector, d.Sectors = w.disk, w.begin, w.end-w.begin
		d.Epoch, d.Position, d.Written = w.epoch, w.position, unixTime(w.time)
		list = append(list, d)
	}
	return list
}

// joinWrites is the stretches that writes cover, in order. Where they are too many, small gaps between them are covered, too.
func joinWrites(list []written) []written {
	slices.SortFunc(list, func(a, b written) int { return cmp.Or(cmp.Compare(a.disk, b.disk), cmp.Compare(a.begin, b.begin)) })
	for gap := uint64(0); ; gap = max(8, 4*gap) {
		out := list[:0]
		for _, w := range list {
			if n := len(out); n > 0 && out[n-1].disk == w.disk && w.begin <= out[n-1].end+gap {
				out[n-1].join(&w)
			} else {
				out = append(out, w)
			}
		}
		if list = out; len(list) <= maxStretches || gap > 1<<60 {
			return list
		}
	}
}

func (w *written) join(o *written) {
	w.end = max(w.end, o.end)
	if cmp.Or(cmp.Compare(o.epoch, w.epoch), cmp.Compare(o.position, w.position)) < 0 {
		w.epoch, w.position, w.time = o.epoch, o.position, o.time
	}
}
