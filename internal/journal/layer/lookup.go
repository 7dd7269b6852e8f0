package layer

import (
	"context"
	"sort"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Piece is the version of a run of sectors that a lookup found.
type Piece struct {
	Disk    uint16
	Sector  uint64
	Sectors uint64
	Version Version
	Kind    Kind

	at    extent
	cause error
}

// Clip is the part of the piece that lies in a run of sectors.
func (p Piece) Clip(sector, sectors uint64) Piece {
	from, to := max(p.Sector, sector), min(p.Sector+p.Sectors, sector+sectors)
	p.Sector, p.Sectors = from, max(to, from)-from
	return p
}

// Cause is why a Lost piece is lost, if that was found by this lookup; nil if the layer was written so.
func (p *Piece) Cause() error { return p.cause }

// Lookup visits, in order and clipped to the range, the greatest version at or below at of every span that overlaps it.
// Where the layer knows nothing it visits nothing. A damaged index block is a Lost piece over what it covered, with the greatest
// version that it may have hidden.
func (r *Reader) Lookup(ctx context.Context, disk uint16, sector, sectors uint64, at Version, visit func(Piece) error) error {
	if sectors == 0 || sectors > maxSector || sector > maxSector-sectors {
		return fault.New(fault.Invalid, "layer: lookup", "no sectors %d + %d", sector, sectors)
	}
	end := sector + sectors
	for i := r.seek(disk, sector); i < len(r.top); i++ {
		t := &r.top[i]
		if t.disk != disk || t.first >= end {
			break
		}
		if t.end <= sector || at.Less(t.oldest) {
			continue // answered by a block before, or nothing that old
		}
		ix, err := r.index(ctx, i)
		switch {
		case err == nil:
			sector, err = ix.visit(disk, sector, end, at, visit)
		case fault.Is(err, fault.Corruption):
			p := Piece{Disk: disk, Sector: t.first, Sectors: t.end - t.first, Version: at, Kind: Lost, cause: err}
			if t.newest.Less(at) {
				p.Version = t.newest
			}
			err = visit(p.Clip(sector, end-sector))
			sector = t.end
		}
		if err != nil {
			return err
		}
		if sector >= end {
			break
		}
	}
	return nil
}

// seek is the first index block that may say something of a place or what follows it.
func (r *Reader) seek(disk uint16, sector uint64) int {
	return sort.Search(len(r.top), func(i int) bool {
		t := &r.top[i]
		return t.disk > disk || t.disk == disk && t.end > sector
	})
}

// visit visits what the block knows of [sector, end) and returns up to where that was answered.
func (ix *indexBlock) visit(disk uint16, sector, end uint64, at Version, visit func(Piece) error) (uint64, error) {
	c := ix.seek(sector, at)
	for ok := true; ok && c.start < end; ok = c.record() {
		if c.end <= sector {
			continue
		}
		for c.left > 0 {
			e := c.entry()
			if at.Less(e.version) {
				continue
			}
			p := Piece{Disk: disk, Version: e.version, Kind: e.kind}
			p.Sector, p.Sectors = max(c.start, sector), min(c.end, end)-max(c.start, sector)
			p.at = extent{sector: c.start, sectors: c.end - c.start, ix: ix, raw: e.raw, sums: e.sums}
			if e.open {
				p.Version = at
			}
			if err := visit(p); err != nil {
				return sector, err
			}
			sector = c.end
			break
		}
	}
	return sector, nil
}
