package journal

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/wire"
)

// stretch is a run of sectors that can be shortened from either side.
type stretch[T any] interface {
	begin() uint64
	end() uint64
	at() layer.Version
	from(sector uint64) T // without what is before sector
	to(sector uint64) T   // without what is from sector on
}

// overlay merges two sorted lists without overlaps, of which all of older arrived before all of newer. Where they overlap
// the greater version wins, of equal ones the one that arrived later (invariant 5 of the replication note). The lists
// are the caller's to give away: their heads may be shortened in place.
func overlay[T stretch[T]](older, newer []T) []T {
	if len(older) == 0 {
		return newer
	}
	if len(newer) == 0 {
		return older
	}
	return overlayInto(make([]T, 0, len(older)+len(newer)), older, newer)
}

// overlayInto appends what overlay gives.
func overlayInto[T stretch[T]](out, older, newer []T) []T {
	for len(older) > 0 && len(newer) > 0 {
		a, b := older[0], newer[0]
		switch {
		case a.end() <= b.begin():
			out, older = append(out, a), older[1:]
		case b.end() <= a.begin():
			out, newer = append(out, b), newer[1:]
		case b.at().Compare(a.at()) >= 0:
			out, older = carve(out, older, b)
		default:
			out, newer = carve(out, newer, a)
		}
	}
	out = append(out, older...)
	return append(out, newer...)
}

// carve takes what the winner covers out of the head of the losing list. What is left before the winner is done.
func carve[T stretch[T]](out, losers []T, winner T) ([]T, []T) {
	loser := losers[0]
	if loser.begin() < winner.begin() {
		out = append(out, loser.to(winner.begin()))
	}
	if loser.end() <= winner.end() {
		return out, losers[1:]
	}
	losers[0] = loser.from(winner.end())
	return out, losers
}

// piece is one run of a disk and the place in a segment that its content comes from.
type piece struct {
	start   uint64 // sector
	version layer.Version
	sectors uint32
	segment uint32
	frame   uint32 // offset of the frame in the segment
	raw     uint16 // offset in the raw payload, in sectors
	kind    wire.Kind
}

func (p piece) begin() uint64     { return p.start }
func (p piece) end() uint64       { return p.start + uint64(p.sectors) }
func (p piece) at() layer.Version { return p.version }

func (p piece) from(sector uint64) piece {
	d := sector - p.start
	p.start, p.sectors = sector, p.sectors-uint32(d)
	if p.kind == wire.KindData {
		p.raw += uint16(d)
	}
	return p
}

func (p piece) to(sector uint64) piece {
	p.sectors = uint32(sector - p.start)
	return p
}

// mapper builds the map of one disk from entries in order of arrival. It keeps sorted runs without overlaps whose
// lengths grow like those of a merge sort, so memory follows what is alive, not what was written.
type mapper struct {
	runs [][]piece
	cur  []piece // the run being made: ascending as it comes, which a baseline does for long stretches
}

func (m *mapper) add(e *entry, segment, baseEpoch uint64) {
	if e.sectors == 0 {
		return
	}
	p := piece{
		start: e.sector, version: e.version(baseEpoch), sectors: e.sectors, segment: uint32(segment), frame: e.frame, raw: e.raw, kind: e.kind,
	}
	if n := len(m.cur); n > 0 && p.start < m.cur[n-1].end() {
		m.push()
	}
	m.cur = append(m.cur, p)
}

func (m *mapper) push() {
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
func (m *mapper) fold() {
	n := len(m.runs)
	merged := overlay(m.runs[n-2], m.runs[n-1])
	m.runs[n-1] = nil
	m.runs = append(m.runs[:n-2], merged)
}

// finish is the map: sorted, without overlaps. What is missing is as the layers say.
func (m *mapper) finish() []piece {
	m.push()
	for len(m.runs) > 1 {
		m.fold()
	}
	if len(m.runs) == 0 {
		return nil
	}
	return slices.Clip(m.runs[0])
}
