package journal

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/wire"
)

// View is the state of all disks at one Point. It is safe for concurrent use. The files it reads stay until it is closed.
type View struct {
	j      *Journal
	point  Point
	files  published
	disks  []wire.Disk
	sizes  diskSizes
	maps   map[uint16][]piece // of what is not in layers yet
	parent *View              // of a branch
	closed atomic.Bool
}

// Extent is a run of a disk; a hole reads as zeroes.
type Extent struct {
	Offset, Length int64
	Hole           bool
}

// View is the disks at p, immutable from then on. It costs memory for what is not flushed to layers yet, see Memory, and
// must be closed.
func (j *Journal) View(ctx context.Context, p Point) (_ *View, err error) {
	if err := j.isClosed(); err != nil {
		return nil, err
	}
	v := &View{j: j, point: p, files: j.hold()}
	v.disks = v.files.fold.tables.of(p.Epoch).Disks
	v.sizes = sizesOf(v.disks)
	defer func() {
		if err != nil {
			j.release(&v.files)
		}
	}()
	if !j.isBranchPoint(p) {
		if err := j.checkPoint(ctx, &v.files, p); err != nil {
			return nil, err
		}
	}
	if v.maps, err = j.mapUnflushed(ctx, &v.files, v.disks, p); err != nil {
		return nil, err
	}
	if j.meta.Parent != nil {
		if v.parent, err = j.viewParent(ctx); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// mapUnflushed finds what the segments that are not in layers say at p.
func (j *Journal) mapUnflushed(ctx context.Context, files *published, disks []wire.Disk, p Point) (map[uint16][]piece, error) {
	mappers := map[uint16]*mapper{}
	for _, d := range disks {
		mappers[d.Index] = &mapper{}
	}
	for _, s := range files.sealed {
		if err := ctx.Err(); err != nil {
			return nil, fault.New(fault.Transient, "journal: view", "%w", err)
		}
		index, err := j.entries(files, s)
		if err != nil {
			return nil, err
		}
		addEntries(mappers, index, s.number, s.baseEpoch, p)
	}
	if t := files.tail; t != nil {
		addEntries(mappers, t.index, t.number, t.baseEpoch, p)
	}
	maps := make(map[uint16][]piece, len(mappers))
	for disk, m := range mappers {
		maps[disk] = m.finish()
	}
	return maps, nil
}

// addEntries leaves out later epochs whatever their positions: a baseline lies at the position where the epoch before
// it ended.
func addEntries(mappers map[uint16]*mapper, index []entry, number, baseEpoch uint64, p Point) {
	for i := range index {
		e := &index[i]
		if baseEpoch+uint64(e.epoch) > p.Epoch {
			return // epochs only grow
		}
		if m := mappers[e.disk]; m != nil && e.version(baseEpoch).Compare(p.version()) <= 0 {
			m.add(e, number, baseEpoch)
		}
	}
}

// Point is the state that this View shows.
func (v *View) Point() Point { return v.point }

// Disks of the server at that point.
func (v *View) Disks() []wire.Disk { return v.disks }

// Memory is what the View's maps take, in bytes.
func (v *View) Memory() int64 {
	n := int64(0)
	for _, m := range v.maps {
		n += int64(cap(m)) * 48
	}
	if v.parent != nil {
		n += v.parent.Memory()
	}
	return n
}

// Close lets go of the View and the files it held. It is idempotent.
func (v *View) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	v.j.release(&v.files)
	if v.parent != nil {
		return v.parent.Close()
	}
	return nil
}

func (v *View) check(disk uint16, off, length int64) error {
	if v.closed.Load() {
		return fault.New(fault.Conflict, "journal: view", "closed")
	}
	if err := v.j.isClosed(); err != nil {
		return err
	}
	bytes, ok := v.sizes[disk]
	if !ok {
		return fault.New(fault.NotFound, "journal: view", "disk %d is unknown", disk)
	}
	if off < 0 || length < 0 || uint64(off) > bytes || uint64(length) > bytes-uint64(off) {
		return fault.New(fault.Invalid, "journal: view", "range %d+%d is outside disk %d of %d bytes", off, length, disk, bytes)
	}
	return nil
}

// fragment is a run of sectors and the one place that its content comes from.
type fragment struct {
	start, sectors uint64
	version        layer.Version
	kind           layer.Kind
	layer          *layer.Reader // of found; nil when it comes from a segment
	ref            *layerRef     // of layer
	found          layer.Piece
	piece          *piece // of a View's map, when it comes from a segment
}

func (f fragment) begin() uint64     { return f.start }
func (f fragment) end() uint64       { return f.start + f.sectors }
func (f fragment) at() layer.Version { return f.version }

func (f fragment) from(sector uint64) fragment {
	f.sectors, f.start = f.end()-sector, sector
	return f
}

func (f fragment) to(sector uint64) fragment {
	f.sectors = sector - f.start
	return f
}

// finder is the memory that a look at a View needs for a moment.
type finder struct {
	list   []fragment // what was found
	older  []fragment // what a run said
	merged []fragment
	parts  []layer.Part
}

var finders = sync.Pool{New: func() any { return new(finder) }}

func takeFinder() *finder { return finders.Get().(*finder) } //nolint:forcetypeassert // the pool has nothing else

// free gives the memory back, unless it has grown large. What it still names stays until the collector has emptied the pool.
func (f *finder) free() {
	if cap(f.list)+cap(f.older)+cap(f.merged) <= maxFinder {
		finders.Put(f)
	}
}

const maxFinder = 8192 // fragments

// fragments finds what the journal itself says of [start, end) of a disk, in order. What is missing is the parent's, or
// zeroes.
func (v *View) fragments(ctx context.Context, f *finder, disk uint16, start, end uint64) error {
	f.list = v.mapped(f.list[:0], disk, start, end)
	runs := v.files.cat.Runs
	for i := len(runs) - 1; i >= 0; i-- {
		layers := runs[i].overlapping(disk, start, end)
		f.older = f.older[:0]
		for k := range layers {
			ref := &layers[k]
			if ref.Info.Oldest.Compare(v.point.version()) > 0 || settled(f.list, start, end, ref.Info.Newest) {
				continue
			}
			if err := v.lookup(ctx, f, ref, disk, start, end); err != nil {
				return err
			}
		}
		switch {
		case len(f.older) == 0:
		case len(f.list) == 0:
			f.list, f.older = f.older, f.list
		default:
			f.merged = overlayInto(f.merged[:0], f.older, f.list)
			f.list, f.merged = f.merged, f.list
		}
	}
	return nil
}

// mapped is what the unflushed segments say.
func (v *View) mapped(list []fragment, disk uint16, start, end uint64) []fragment {
	m := v.maps[disk]
	for i := sort.Search(len(m), func(i int) bool { return m[i].end() > start }); i < len(m) && m[i].start < end; i++ {
		p := &m[i]
		f := fragment{start: p.start, sectors: uint64(p.sectors), version: p.version, kind: layer.Data, piece: p}
		if p.kind != wire.KindData {
			f.kind = layer.Zero
		}
		if f.start < start {
			f = f.from(start)
		}
		if f.end() > end {
			f = f.to(end)
		}
		list = append(list, f)
	}
	return list
}

// settled tells whether nothing at or below a version can show through a list any more.
func settled(list []fragment, start, end uint64, newest layer.Version) bool {
	for i := range list {
		if list[i].start != start || list[i].version.Compare(newest) < 0 {
			return false
		}
		start = list[i].end()
	}
	return start == end
}

// lookup adds what a layer says.
func (v *View) lookup(ctx context.Context, f *finder, ref *layerRef, disk uint16, start, end uint64) error {
	if k := (layer.Key{Disk: disk, Sector: start}); ref.From.Compare(k) > 0 {
		start = ref.From.Sector
	}
	if k := (layer.Key{Disk: disk, Sector: end}); ref.To.Compare(k) < 0 {
		end = ref.To.Sector
	}
	r, err := v.j.layer(ctx, ref)
	if unreadable(err) { // whatever it said last up to the point is lost; what is newer counts all the same
		v.j.noteLost(ref.Name, v.j.lostRanges(ref, ref.From, ref.To))
		at := v.point.version()
		if ref.Info.Newest.Less(at) {
			at = ref.Info.Newest
		}
		f.older = append(f.older, fragment{start: start, sectors: end - start, version: at, kind: layer.Lost, ref: ref})
		return nil
	}
	if err != nil {
		return err
	}
	err = r.Lookup(ctx, disk, start, end-start, v.point.version(), func(p layer.Piece) error {
		f.older = append(f.older, fragment{start: p.Sector, sectors: p.Sectors, version: p.Version, kind: p.Kind, layer: r, ref: ref, found: p})
		return nil
	})
	if err != nil {
		return fault.Wrap("journal: "+ref.Name, err)
	}
	return nil
}

// overlapping is the layers of a run that say something of [start, end) of a disk.
func (r *run) overlapping(disk uint16, start, end uint64) []layerRef {
	return r.between(layer.Key{Disk: disk, Sector: start}, layer.Key{Disk: disk, Sector: end})
}

// between is the layers of a run that have a part in [from, to).
func (r *run) between(from, to layer.Key) []layerRef {
	first := sort.Search(len(r.Layers), func(i int) bool { return r.Layers[i].To.Compare(from) > 0 })
	last := first
	for last < len(r.Layers) && r.Layers[last].From.Compare(to) < 0 {
		last++
	}
	return r.Layers[first:last]
}

// place names the file that a fragment comes from.
func (f *fragment) place() string {
	if f.ref != nil {
		return f.ref.Name
	}
	return segName(uint64(f.piece.segment))
}

// offset tells where in a segment.
func (f *fragment) offset() string {
	if f.ref != nil {
		return ""
	}
	return fmt.Sprintf("frame at offset %d, ", f.piece.frame)
}

// Extents covers [off, off+length) of a disk without gaps, in order, neighbours differing in kind.
func (v *View) Extents(ctx context.Context, disk uint16, off, length int64) ([]Extent, error) {
	if err := v.check(disk, off, length); err != nil {
		return nil, err
	}
	l := extentList{at: off}
	step := int64(minExtents)
	for limit := off + length; l.at < limit; {
		n, err := v.extents(ctx, &l, disk, min(limit, (l.at/step+1)*step))
		if err != nil {
			return nil, err
		}
		switch {
		case n < fewFragments:
			step = min(2*step, maxExtents)
		case n > 4*fewFragments:
			step = max(step/2, minExtents)
		}
	}
	return l.list, nil
}

// A disk is mapped in windows: large where little is known, small where there is much, so that what is looked at stays in the
// processor's cache.
const (
	minExtents   = 4 << 20
	maxExtents   = 256 << 20
	fewFragments = 256
)

// extents adds what is known up to a limit, and tells of how many fragments that consists.
func (v *View) extents(ctx context.Context, l *extentList, disk uint16, limit int64) (int, error) {
	start, end := uint64(l.at)/wire.SectorSize, uint64(limit+wire.SectorSize-1)/wire.SectorSize
	found := takeFinder()
	defer found.free()
	if err := v.fragments(ctx, found, disk, start, end); err != nil {
		return 0, err
	}
	for i := range found.list {
		f := &found.list[i]
		if err := v.gapExtents(ctx, l, disk, min(limit, int64(f.start)*wire.SectorSize)); err != nil {
			return 0, err
		}
		l.add(min(limit, int64(f.end())*wire.SectorSize), f.kind == layer.Zero)
	}
	return len(found.list), v.gapExtents(ctx, l, disk, limit)
}

func (v *View) gapExtents(ctx context.Context, l *extentList, disk uint16, to int64) error {
	switch {
	case l.at >= to:
		return nil
	case v.parent == nil:
		l.add(to, true)
		return nil
	}
	_, err := v.parent.extents(ctx, l, disk, to)
	return err
}

// extentList joins neighbours of one kind.
type extentList struct {
	at   int64
	list []Extent
}

func (l *extentList) add(to int64, hole bool) {
	if to <= l.at {
		return
	}
	if n := len(l.list); n > 0 && l.list[n-1].Hole == hole {
		l.list[n-1].Length += to - l.at
	} else {
		l.list = append(l.list, Extent{Offset: l.at, Length: to - l.at, Hole: hole})
	}
	l.at = to
}
