package layer

import (
	"context"
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Entry is what one version says of a span. Its data is fetched only when wanted.
type Entry struct {
	Version Version
	Kind    Kind

	open   bool // of Lost: whatever came after it and before the next newer entry is lost too
	disk   uint16
	sector uint64 // the span that it was cut to
	length uint64
	at     extent
	from   loader
}

// Span is a run of sectors over which the same versions are known, newest first and distinct.
type Span struct {
	Disk    uint16
	Sector  uint64
	Sectors uint64
	Entries []Entry
}

// Iterator gives spans in the order of their places. They do not overlap, and are valid until the next call.
type Iterator interface {
	Next(ctx context.Context) (Span, bool, error)
	Close() error
}

// extent is where the content of one version over one run of sectors is: in memory or in a layer.
type extent struct {
	sector, sectors uint64
	mem             *memExtent
	ix              *indexBlock
	raw             uint32 // where its data begins among that of the index block
	sums            uint32 // where its sums begin in the index block; 0: unknown
}

// sum is that of the i-th cell, 0 if unknown.
func (x *extent) sum(i int) uint64 {
	switch {
	case x.mem != nil && x.mem.sums != nil:
		return x.mem.sums[i]
	case x.ix != nil && x.sums != 0:
		return binary.LittleEndian.Uint64(x.ix.bytes[int(x.sums)+8*i:])
	}
	return 0
}

func (x *extent) summed() bool {
	return x.mem != nil && x.mem.sums != nil || x.ix != nil && x.sums != 0
}

// whole widens a run of sectors to the whole cells of the extent: what must be read to verify it.
func (x *extent) whole(sector, sectors uint64) (from, to uint64) {
	return max(x.sector, sector&^(CellSectors-1)), min(x.sector+x.sectors, (sector+sectors+CellSectors-1)&^(CellSectors-1))
}

// verify checks data, which are whole cells of the extent.
func (x *extent) verify(disk uint16, sector uint64, data []byte) error {
	for i := int(sector/CellSectors - x.sector/CellSectors); len(data) > 0; i++ {
		from, to := part(x.sector, x.sectors, i)
		n := int(to-from) * SectorSize
		if Sum(disk, from, data[:n]) != x.sum(i) {
			return fault.New(fault.Corruption, "layer: read", "disk %d, sector %d: content does not have the sum it was written with", disk, from)
		}
		data = data[n:]
	}
	return nil
}

// loader fetches the content of extents.
type loader interface {
	load(ctx context.Context, x *extent, disk uint16, sector uint64, dst []byte) error
}

// Load reads the content of a Data entry: exactly the span's bytes, verified.
func (e *Entry) Load(ctx context.Context, dst []byte) error {
	if e.Kind != Data || e.from == nil || uint64(len(dst)) != e.length*SectorSize {
		return fault.New(fault.Bug, "layer: load", "%d bytes wanted of an entry of kind %d and %d sectors", len(dst), e.Kind, e.length)
	}
	return e.from.load(ctx, &e.at, e.disk, e.sector, dst)
}

// Sums appends the sums of the entry's cells. One that is unknown is 0: that of lost content, or of a part of a cell
// that was cut, which is known once it was loaded.
func (e *Entry) Sums(dst []uint64) []uint64 {
	if !e.summed() {
		return dst
	}
	for i := range cells(e.sector, e.length) {
		dst = append(dst, e.sum(i))
	}
	return dst
}

func (e *Entry) summed() bool { return e.Kind != Zero && e.at.summed() }

func (e *Entry) sum(i int) uint64 {
	from, to := part(e.sector, e.length, i)
	k := int(from/CellSectors - e.at.sector/CellSectors)
	if f, t := part(e.at.sector, e.at.sectors, k); f != from || t != to {
		return 0
	}
	return e.at.sum(k)
}

// cut is the entry over a part of its span.
func (e *Entry) cut(sector, sectors uint64) Entry {
	c := *e
	c.sector, c.length = sector, sectors
	return c
}

// lostEntry is one of which nothing else is known.
func lostEntry(disk uint16, sector, sectors uint64, v Version, open bool) Entry {
	return Entry{Version: v, Kind: Lost, open: open, disk: disk, sector: sector, length: sectors, at: extent{sector: sector, sectors: sectors}}
}
