package journal

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/wire"
)

// piece is one run of a disk and the place in the journal that its content comes from.
type piece struct {
	start   uint64 // sector
	pos     uint64
	sectors uint32
	segment uint32
	frame   uint32 // offset of the frame in the segment
	raw     uint16 // offset in the raw payload, in sectors
	kind    wire.Kind
}

func (p *piece) end() uint64 { return p.start + uint64(p.sectors) }

// from is p without what is before sector.
func (p piece) from(sector uint64) piece {
	d := sector - p.start
	p.start, p.sectors = sector, p.sectors-uint32(d)
	if p.kind == wire.KindData {
		p.raw += uint16(d)
	}
	return p
}

// to is p without what is from sector on.
func (p piece) to(sector uint64) piece {
	p.sectors = uint32(sector - p.start)
	return p
}

// merger builds the map of one disk from entries in order of arrival. It keeps sorted runs without overlaps whose
// lengths grow like those of a merge sort, so memory follows what is alive, not what was written.
type merger struct {
	runs [][]piece
	cur  []piece // the run being made: ascending as it comes, which a baseline does for long stretches
}

func (m *merger) add(e *entry, segment uint64) {
	if e.sectors == 0 {
		return
	}
	p := piece{
		start: e.sector, pos: e.pos, sectors: e.sectors, segment: uint32(segment), frame: e.frame, raw: e.raw, kind: e.kind,
	}
	if n := len(m.cur); n > 0 && p.start < m.cur[n-1].end() {
		m.push()
	}
	m.cur = append(m.cur, p)
}

func (m *merger) push() {
	if len(m.cur) == 0 {
		return
	}
	m.runs = append(m.runs, slices.Clone(m.cur))
	m.cur = m.cur[:0]
	for n := len(m.runs); n > 1 && len(m.runs[n-2]) <= 2*len(m.runs[n-1]); n = len(m.runs) {
		m.fold()
	}
}

// fold merges the two newest runs.
func (m *merger) fold() {
	n := len(m.runs)
	merged := merge(m.runs[n-2], m.runs[n-1])
	m.runs[n-1] = nil
	m.runs = append(m.runs[:n-2], merged)
}

// finish is the map: sorted, without overlaps, data only. What is missing reads as zeroes.
func (m *merger) finish() []piece {
	m.push()
	for len(m.runs) > 1 {
		m.fold()
	}
	if len(m.runs) == 0 {
		return nil
	}
	return slices.Clip(slices.DeleteFunc(m.runs[0], func(p piece) bool { return p.kind != wire.KindData }))
}

// merge merges two runs of which all of older arrived before all of newer. Of two pieces the one with the higher
// position wins, of equal ones the one that arrived later (invariant 5 of the replication note).
func merge(older, newer []piece) []piece {
	out := make([]piece, 0, len(older)+len(newer))
	for len(older) > 0 && len(newer) > 0 {
		a, b := &older[0], &newer[0]
		switch {
		case a.end() <= b.start:
			out, older = append(out, *a), older[1:]
		case b.end() <= a.start:
			out, newer = append(out, *b), newer[1:]
		case b.pos >= a.pos:
			out, older = carve(out, older, b)
		default:
			out, newer = carve(out, newer, a)
		}
	}
	out = append(out, older...)
	return append(out, newer...)
}

// carve takes what the winner covers out of the head of the losing run. What is left before the winner is done.
// The runs belong to the merger, so a head may be shortened in place.
func carve(out, losers []piece, winner *piece) ([]piece, []piece) {
	loser := losers[0]
	if loser.start < winner.start {
		out = append(out, loser.to(winner.start))
	}
	if loser.end() <= winner.end() {
		return out, losers[1:]
	}
	losers[0] = loser.from(winner.end())
	return out, losers
}
