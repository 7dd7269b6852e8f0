package layer

import (
	"cmp"
	"context"
	"slices"
	"unsafe"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Memory is a segment in memory: extents in the order of their arrival become spans. It is filled first and
// iterated then.
type Memory struct {
	extents []memExtent
	bytes   int64
}

type memExtent struct {
	version Version
	sector  uint64
	sectors uint64
	data    []byte
	sums    []uint64
	disk    uint16
	kind    Kind
}

// Add takes one extent. Of two with the same version the later wins where they overlap. Data and sums are kept by
// reference; data without sums gets them here, data of the wrong length is lost.
func (m *Memory) Add(disk uint16, sector, sectors uint64, v Version, k Kind, data []byte, sums []uint64) {
	if sectors == 0 || sectors > maxSector || sector > maxSector-sectors {
		return
	}
	x := memExtent{version: v, sector: sector, sectors: sectors, disk: disk, kind: k}
	if k != Zero && len(sums) == cells(sector, sectors) {
		x.sums = sums
	}
	switch {
	case k == Data && uint64(len(data)) != sectors*SectorSize:
		x.kind = Lost
	case k == Data:
		x.data = data
		if x.sums == nil {
			x.sums = Sums(nil, disk, sector, data)
		}
	}
	m.extents = append(m.extents, x)
	m.bytes += int64(len(x.data) + 8*len(x.sums))
}

// Bytes is about how much memory is held, data included.
func (m *Memory) Bytes() int64 {
	return m.bytes + int64(cap(m.extents))*int64(unsafe.Sizeof(memExtent{}))
}

// Iterate gives the spans. Several iterators may run at once; nothing may be added any more.
func (m *Memory) Iterate() Iterator {
	it := &memIterator{m: m, order: make([]int32, len(m.extents))}
	for i := range it.order {
		it.order[i] = int32(i)
	}
	slices.SortFunc(it.order, func(a, b int32) int {
		x, y := &m.extents[a], &m.extents[b]
		if x.disk != y.disk {
			return cmp.Compare(x.disk, y.disk)
		}
		if x.sector != y.sector {
			return cmp.Compare(x.sector, y.sector)
		}
		return cmp.Compare(a, b)
	})
	return it
}

// load verifies the cells that it touches: what was summed long ago may have changed in memory since.
func (m *Memory) load(_ context.Context, x *extent, disk uint16, sector uint64, dst []byte) error {
	from, to := x.whole(sector, uint64(len(dst)/SectorSize))
	data := x.mem.data
	if err := x.verify(disk, from, data[(from-x.sector)*SectorSize:(to-x.sector)*SectorSize]); err != nil {
		return err
	}
	copy(dst, data[(sector-x.sector)*SectorSize:])
	return nil
}

// memIterator sweeps over the extents in the order of where they begin.
type memIterator struct {
	m       *Memory
	order   []int32
	next    int     // in order
	active  []int32 // those that cover the place, in the order of a span's entries
	disk    uint16
	at      uint64
	entries []Entry
}

func (it *memIterator) Close() error { it.m = nil; return nil }

func (it *memIterator) Next(ctx context.Context) (Span, bool, error) {
	if it.m == nil {
		return Span{}, false, fault.New(fault.Bug, "layer: iterate", "closed")
	}
	if err := ctx.Err(); err != nil {
		return Span{}, false, fault.New(fault.Transient, "layer: iterate", "%w", err)
	}
	extents := it.m.extents
	it.active = slices.DeleteFunc(it.active, func(i int32) bool { return extents[i].sector+extents[i].sectors <= it.at })
	if len(it.active) == 0 {
		if it.next == len(it.order) {
			return Span{}, false, nil
		}
		first := &extents[it.order[it.next]]
		it.disk, it.at = first.disk, first.sector
	}
	end := it.enter()
	for _, i := range it.active {
		end = min(end, extents[i].sector+extents[i].sectors)
	}
	s := Span{Disk: it.disk, Sector: it.at, Sectors: end - it.at, Entries: it.list(end)}
	it.at = end
	return s, true, nil
}

// enter takes up the extents that begin here and returns where the next one begins.
func (it *memIterator) enter() uint64 {
	extents := it.m.extents
	for ; it.next < len(it.order); it.next++ {
		i := it.order[it.next]
		x := &extents[i]
		if x.disk != it.disk {
			break
		}
		if x.sector != it.at {
			return x.sector
		}
		at, _ := slices.BinarySearchFunc(it.active, i, func(a, b int32) int {
			if c := extents[b].version.Compare(extents[a].version); c != 0 {
				return c
			}
			return cmp.Compare(b, a)
		})
		it.active = slices.Insert(it.active, at, i)
	}
	return maxSector
}

func (it *memIterator) list(end uint64) []Entry {
	it.entries = it.entries[:0]
	for _, i := range it.active {
		x := &it.m.extents[i]
		if n := len(it.entries); n > 0 && it.entries[n-1].Version == x.version {
			continue // overwritten by a later arrival
		}
		it.entries = append(it.entries, Entry{Version: x.version, Kind: x.kind, disk: x.disk, sector: it.at, length: end - it.at,
			at: extent{sector: x.sector, sectors: x.sectors, mem: x}, from: it.m})
	}
	return it.entries
}
