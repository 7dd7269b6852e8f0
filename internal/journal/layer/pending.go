package layer

import (
	"context"
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pending is a span on its way into a file, with the content of all its versions.
type pending struct {
	disk    uint16
	sector  uint64
	sectors uint64 // 0: there is none
	entries []pendingEntry
	part    Entry // being loaded; here because it would be allocated for each elsewhere
}

type pendingEntry struct {
	version Version
	kind    Kind
	open    bool
	summed  bool     // Data, and Lost that is known by its sums
	data    []byte   // of Data
	sums    []uint64 // 0: not known yet, or never if lost
}

// load takes a part of a span and its content. Corruption of a single cell is told by the entry; of several it is returned, and
// the caller looks at them one by one.
func (p *pending) load(ctx context.Context, s *Span, sector, sectors uint64) error {
	p.disk, p.sector, p.sectors = s.Disk, sector, sectors
	if n := len(s.Entries); cap(p.entries) < n {
		p.entries = append(p.entries[:cap(p.entries)], make([]pendingEntry, n-cap(p.entries))...)
	}
	p.entries = p.entries[:len(s.Entries)]
	for i := range s.Entries {
		p.part = s.Entries[i].cut(sector, sectors)
		if err := p.entries[i].load(ctx, &p.part, cells(sector, min(sectors, widestSpan)) == 1); err != nil {
			p.sectors = 0
			return err
		}
	}
	return nil
}

// load fills p; with lose, damage makes it a lost entry.
func (p *pendingEntry) load(ctx context.Context, e *Entry, lose bool) error {
	data := p.data[:0]
	*p = pendingEntry{version: e.Version, kind: e.Kind, open: e.open, data: data, sums: p.sums[:0]}
	if e.Kind == Data {
		p.data = grow(data, int(e.length)*SectorSize)
		if err := e.Load(ctx, p.data); err != nil {
			if !lose || !fault.Is(err, fault.Corruption) {
				return err
			}
			p.kind, p.data = Lost, data
		}
	}
	p.summed = e.summed()
	p.sums = e.Sums(p.sums)
	return nil
}

// together reports whether the newest version has so much content in common with the one before it that they should lie in one block, where
// they compress against each other. Otherwise nobody who reads the newest state should have to read older ones.
func (p *pending) together() bool {
	if p.entries[0].kind != Data {
		return false
	}
	for i := 1; i < len(p.entries); i++ {
		if p.entries[i].kind == Data {
			return alike(p.entries[0].data, p.entries[i].data)
		}
	}
	return false
}

// alike reports whether an eighth of the content is the same at the same place, zeroes aside: they compress anywhere.
func alike(a, b []byte) bool {
	same := 0
	for i := 0; i+8 <= min(len(a), len(b)); i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]); x != 0 && x == binary.LittleEndian.Uint64(b[i:]) {
			same += 8
		}
	}
	return same > 0 && same >= len(a)/8
}

// joins reports whether q goes on where p ends, with the same versions.
func (p *pending) joins(q *pending, summed int) bool {
	g := grid(summed)
	if p.sectors == 0 || p.disk != q.disk || p.sector+p.sectors != q.sector || p.sector/g != q.sector/g || len(p.entries) != len(q.entries) {
		return false
	}
	for i := range p.entries {
		a, b := &p.entries[i], &q.entries[i]
		if a.version != b.version || a.kind != b.kind || a.open != b.open || a.summed != b.summed ||
			a.kind == Lost && a.summed && q.sector%CellSectors != 0 {
			return false
		}
	}
	return true
}

// join appends q to p. A cell that lay in both has a new sum.
func (p *pending) join(q *pending) {
	for i := range p.entries {
		a, b := &p.entries[i], &q.entries[i]
		a.data = append(a.data, b.data...)
		sums := b.sums
		if q.sector%CellSectors != 0 && len(sums) > 0 {
			a.sums[len(a.sums)-1] = 0
			sums = sums[1:]
		}
		a.sums = append(a.sums, sums...)
	}
	p.sectors += q.sectors
}
