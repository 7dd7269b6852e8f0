package layer

import "slices"

// healer finds content for what was lost: the sums of a place tell whether another version, from the source or elsewhere, holds
// the same bytes.
type healer struct {
	now, next []int32 // per entry: the entry that has its content, or one of these
	zeroes    [cellBytes]byte
}

const (
	notHealed int32 = -1
	healZero  int32 = -2
)

// apply heals the lost entries of a fragment as far as all its cells can be treated alike, and shortens it to that.
func (h *healer) apply(s *Span, entries []Entry) {
	if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Kind == Lost && e.summed() }) {
		return
	}
	end := s.Sector + s.Sectors
	at := h.cell(s.Sector, end, entries, &h.now)
	for at < end {
		next := h.cell(at, end, entries, &h.next)
		if !slices.Equal(h.now, h.next) {
			break
		}
		at = next
	}
	s.Sectors = at - s.Sector
	for i, from := range h.now {
		switch e := &entries[i]; from {
		case notHealed:
		case healZero:
			e.Kind, e.at = Zero, extent{}
		default:
			e.Kind, e.at, e.from = Data, entries[from].at, entries[from].from
		}
	}
}

// cell decides for the part of the fragment in one cell, and returns where that ends.
func (h *healer) cell(sector, end uint64, entries []Entry, decisions *[]int32) uint64 {
	d := (*decisions)[:0]
	for i := range entries {
		d = append(d, notHealed)
		if e := &entries[i]; e.Kind == Lost && e.summed() {
			d[i] = h.find(e, sector, entries)
		}
	}
	*decisions = d
	return min(end, sector&^(CellSectors-1)+CellSectors)
}

// find compares whole cells as they were written, so that a cut inside of one does not matter.
func (h *healer) find(lost *Entry, sector uint64, entries []Entry) int32 {
	from, to, sum := lost.at.cell(sector)
	if sum == 0 {
		return notHealed
	}
	if Sum(lost.disk, from, h.zeroes[:(to-from)*SectorSize]) == sum {
		return healZero
	}
	for i := range entries {
		if e := &entries[i]; e.Kind == Data {
			if f, t, s := e.at.cell(sector); s == sum && f == from && t == to {
				return int32(i)
			}
		}
	}
	return notHealed
}

// cell is what the extent has of the cell of a sector.
func (x *extent) cell(sector uint64) (from, to, sum uint64) {
	i := int(sector/CellSectors - x.sector/CellSectors)
	from, to = part(x.sector, x.sectors, i)
	return from, to, x.sum(i)
}
