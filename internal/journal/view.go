package journal

import (
	"context"
	"sort"
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// View is the state of all disks at one Point. It is safe for concurrent use.
type View struct {
	j      *Journal
	point  Point
	maps   map[uint16][]piece
	closed atomic.Bool
}

// Extent is a run of a disk; a hole reads as zeroes.
type Extent struct {
	Offset, Length int64
	Hole           bool
}

// View is the disks at p, immutable from then on. It costs memory for every live extent, see Memory.
func (j *Journal) View(ctx context.Context, p Point) (*View, error) {
	if err := j.isClosed(); err != nil {
		return nil, err
	}
	snap := j.snapshot()
	if err := j.checkPoint(&snap, p); err != nil {
		return nil, err
	}
	mergers := map[uint16]*merger{}
	for index := range j.disks {
		mergers[index] = &merger{}
	}
	for _, s := range snap.sealed {
		if err := ctx.Err(); err != nil {
			return nil, fault.New(fault.Transient, "journal: view", "%w", err)
		}
		index, err := j.entries(snap.sealed, s)
		if err != nil {
			return nil, err
		}
		addEntries(mergers, index, s.number, s.baseEpoch, p)
	}
	if t := snap.tail; t != nil {
		addEntries(mergers, t.index, t.number, t.baseEpoch, p)
	}
	v := &View{j: j, point: p, maps: make(map[uint16][]piece, len(mergers))}
	for disk, m := range mergers {
		v.maps[disk] = m.finish()
	}
	return v, nil
}

func (j *Journal) checkPoint(snap *published, p Point) error {
	for e := range snap.fold.epochs {
		if e.Number == p.Epoch && e.recoverable() && p.Position >= e.From && p.Position <= e.to() {
			_, err := j.checkIn(snap, e, p.Position)
			return err
		}
	}
	return fault.New(fault.NotFound, "journal: view", "position %d of epoch %d is not recoverable", p.Position, p.Epoch)
}

// addEntries leaves out later epochs whatever their positions: a baseline lies at the position where the epoch before
// it ended.
func addEntries(mergers map[uint16]*merger, index []entry, number, baseEpoch uint64, p Point) {
	for i := range index {
		e := &index[i]
		if baseEpoch+uint64(e.epoch) > p.Epoch {
			return // epochs only grow
		}
		if m := mergers[e.disk]; m != nil && e.pos <= p.Position {
			m.add(e, number)
		}
	}
}

// Point is the state that this View shows.
func (v *View) Point() Point { return v.point }

// Disks of the server at that point.
func (v *View) Disks() []wire.Disk { return v.j.meta.Disks }

// Memory is what the View's maps take, in bytes.
func (v *View) Memory() int64 {
	n := int64(0)
	for _, m := range v.maps {
		n += int64(cap(m)) * 40
	}
	return n
}

// Close lets go of the View.
func (v *View) Close() error {
	v.closed.Store(true)
	return nil
}

func (v *View) check(disk uint16, off, length int64) ([]piece, error) {
	if v.closed.Load() {
		return nil, fault.New(fault.Conflict, "journal: view", "closed")
	}
	if err := v.j.isClosed(); err != nil {
		return nil, err
	}
	d, ok := v.j.disks[disk]
	if !ok {
		return nil, fault.New(fault.NotFound, "journal: view", "disk %d is unknown", disk)
	}
	if off < 0 || length < 0 || uint64(off) > d.Bytes || uint64(length) > d.Bytes-uint64(off) {
		return nil, fault.New(fault.Invalid, "journal: view", "range %d+%d is outside disk %d of %d bytes", off, length, disk, d.Bytes)
	}
	return v.maps[disk], nil
}

// from is the pieces that end after off.
func from(m []piece, off int64) []piece {
	return m[sort.Search(len(m), func(i int) bool { return int64(m[i].end())*wire.SectorSize > off }):]
}

// ReadAt fills p from off of a disk, or fails: damage is a Corruption that names segment, offset, disk and range.
func (v *View) ReadAt(disk uint16, p []byte, off int64) error {
	m, err := v.check(disk, off, int64(len(p)))
	if err != nil {
		return err
	}
	clear(p)
	end := off + int64(len(p))
	for _, x := range from(m, off) {
		start := int64(x.start) * wire.SectorSize
		if start >= end {
			return nil
		}
		lo, hi := max(off, start), min(end, int64(x.end())*wire.SectorSize)
		if err := v.readPiece(disk, x, p[lo-off:hi-off], lo); err != nil {
			return err
		}
	}
	return nil
}

func (v *View) readPiece(disk uint16, x piece, p []byte, off int64) error {
	data, err := v.pieceData(disk, x, off, int64(len(p)))
	if err != nil {
		return fault.New(fault.KindOf(err), "journal: "+segName(uint64(x.segment)), "frame at offset %d, disk %d, bytes %d to %d: %w",
			x.frame, disk, off, off+int64(len(p)), err)
	}
	copy(p, data)
	return nil
}

func (v *View) pieceData(disk uint16, x piece, off, n int64) ([]byte, error) {
	f, err := v.j.frames.get(frameKey{x.segment, x.frame})
	if err != nil {
		return nil, err
	}
	in := off - int64(x.start)*wire.SectorSize
	head := in % wire.SectorSize // the table speaks of whole sectors
	data, err := f.at(disk, uint64(off)/wire.SectorSize, int64(x.raw)*wire.SectorSize+in-head, head+n)
	if err != nil {
		return nil, err
	}
	return data[head:], nil
}

// Extents covers [off, off+length) of a disk without gaps, in order, neighbours differing in kind.
func (v *View) Extents(disk uint16, off, length int64) ([]Extent, error) {
	m, err := v.check(disk, off, length)
	if err != nil {
		return nil, err
	}
	var list []Extent
	add := func(to int64, hole bool) {
		if n := len(list); n > 0 && list[n-1].Hole == hole {
			list[n-1].Length += to - off
		} else if to > off {
			list = append(list, Extent{Offset: off, Length: to - off, Hole: hole})
		}
		off = to
	}
	end := off + length
	for _, x := range from(m, off) {
		start := int64(x.start) * wire.SectorSize
		if start >= end {
			break
		}
		if start > off {
			add(start, true)
		}
		add(min(end, int64(x.end())*wire.SectorSize), false)
	}
	if off < end {
		add(end, true)
	}
	return list, nil
}
