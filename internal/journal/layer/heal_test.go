package layer

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// healing is a layer of one extent whose data block was damaged.
type healing struct {
	*world
	data []byte
	bad  *Reader
	info Info // of the layer that was written from it
	lost *Reader
}

const healSector = 803 // in the middle of a cell

func newHealing(t *testing.T, data []byte) *healing {
	w := newWorld(t, seeds(t, 1)[0])
	w.limit = indexBytes
	h := &healing{world: w, data: data}
	m := &Memory{}
	m.Add(7, 0, 8, Version{1, 5}, Data, w.bytes(8*SectorSize), nil)
	m.Add(0, healSector, uint64(len(data)/SectorSize), Version{1, 5}, Data, data, nil)
	good := w.write(m.Iterate())
	ix, err := good.index(t.Context(), 0)
	require.NoError(t, err)
	src, ok := good.src.(memSource)
	require.True(t, ok)
	file := slices.Clone(src)
	_, end := ix.place(len(ix.blocks) - 1)
	file[end-20] ^= 1
	w.cache.Drop(testJournal, good.number)
	h.bad = opened(t, w.cipher, good.number, file, w.cache)
	b, info := written(t, w.cipher, 50, Merge([]Iterator{h.bad.Iterate(Key{}, Key{}, false)}, Keep{}))
	h.info, h.lost = info, opened(t, w.cipher, 50, b, w.cache)
	return h
}

// read is the extent's content at a version, as far as a layer has it.
func (h *healing) read(r *Reader, at Version) (data []byte, lost uint64) {
	data = make([]byte, len(h.data))
	require.NoError(h.t, r.Lookup(h.t.Context(), 0, healSector, uint64(len(data)/SectorSize), at, func(p Piece) error {
		part := data[(p.Sector-healSector)*SectorSize:][:p.Sectors*SectorSize]
		switch p.Kind {
		case Data:
			return r.Read(h.t.Context(), p, part)
		case Lost:
			require.True(h.t, fault.Is(r.Read(h.t.Context(), p, part), fault.Corruption))
			lost += p.Sectors
		}
		return nil
	}))
	return data, lost
}

func incompressible(n int) []byte {
	rnd := newRand(7)
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// Only what cannot be read is lost, and it is told where and of when.
func TestLostIsWrittenAndTold(t *testing.T) {
	data := incompressible(40 << 10)
	h := newHealing(t, data)
	got, lost := h.read(h.lost, Version{1, 5})
	require.Positive(t, lost)
	require.LessOrEqual(t, lost, uint64(pieceBlock/SectorSize))
	keep := len(data) - int(lost)*SectorSize // the last block was hit
	require.Equal(t, data[:keep], got[:keep])
	require.Equal(t, []Range{{Disk: 0, Sector: healSector + uint64(keep)/SectorSize, Sectors: lost, Version: Version{1, 5}}}, h.info.Lost)
	require.NoError(t, h.lost.Verify(t.Context(), func(r Range, err error) { t.Errorf("%+v: %v", r, err) }), "known loss is no new damage")

	again, info := written(t, h.cipher, 51, Merge([]Iterator{h.lost.Iterate(Key{}, Key{}, false)}, Keep{}))
	require.Equal(t, h.info.Lost, info.Lost, "a loss stays known")
	_, still := h.read(opened(t, h.cipher, 51, again, h.cache), Version{1, 5})
	require.Equal(t, lost, still)
}

// What the source still has makes old versions whole again: as one extent, in odd pieces, or between other writes.
func TestHeal(t *testing.T) {
	data := incompressible(40 << 10)
	sectors := uint64(len(data) / SectorSize)
	for name, repair := range map[string]func(m *Memory){
		"as it was": func(m *Memory) { m.Add(0, healSector, sectors, Version{2, 1}, Data, data, nil) },
		"in cells": func(m *Memory) {
			for s := uint64(healSector); s < healSector+sectors; {
				n := min(CellSectors-s%CellSectors, healSector+sectors-s)
				m.Add(0, s, n, Version{2, 1}, Data, data[(s-healSector)*SectorSize:][:n*SectorSize], nil)
				s += n
			}
		},
		"between other writes": func(m *Memory) {
			m.Add(0, healSector, sectors, Version{2, 1}, Data, data, nil)
			for s := uint64(healSector); s+3 < healSector+sectors; s += 11 {
				m.Add(0, s, 3, Version{2, 2 + s}, Data, incompressible(3*SectorSize), nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, data)
			m := &Memory{}
			repair(m)
			file, info := written(t, h.cipher, 60, Merge([]Iterator{h.lost.Iterate(Key{}, Key{}, false), m.Iterate()}, Keep{}))
			require.Empty(t, info.Lost)
			r := opened(t, h.cipher, 60, file, h.cache)
			got, lost := h.read(r, Version{1, 5})
			require.Zero(t, lost)
			require.True(t, bytes.Equal(data, got))
			require.NoError(t, r.Verify(t.Context(), func(r Range, err error) { t.Errorf("%+v: %v", r, err) }))
		})
	}
}

// Content that changed since heals nothing, and cells heal one by one.
func TestHealOnlyTheSame(t *testing.T) {
	data := incompressible(38 << 10)
	h := newHealing(t, data)
	_, before := h.read(h.lost, Version{1, 5})
	changed := slices.Clone(data)
	last := uint64(healSector) + uint64(len(data)/SectorSize) - 1
	cell := last&^(CellSectors-1) - CellSectors // before the last, which is a part of one, in the block that was hit
	changed[(cell-healSector)*SectorSize] ^= 1
	m := &Memory{}
	m.Add(0, healSector, uint64(len(data)/SectorSize), Version{2, 1}, Data, changed, nil)
	file, info := written(t, h.cipher, 60, Merge([]Iterator{h.lost.Iterate(Key{}, Key{}, false), m.Iterate()}, Keep{}))
	require.Equal(t, []Range{{Disk: 0, Sector: cell, Sectors: CellSectors, Version: Version{1, 5}}}, info.Lost)
	r := opened(t, h.cipher, 60, file, h.cache)
	_, lost := h.read(r, Version{1, 5})
	require.Less(t, lost, before)
	require.EqualValues(t, CellSectors, lost)
	got, lost := h.read(r, Version{2, 1})
	require.Zero(t, lost)
	require.Equal(t, changed, got)
}

// Lost zeroes need no source: their sum says what they were.
func TestHealZeroes(t *testing.T) {
	h := newHealing(t, make([]byte, 20<<10))
	require.NotEmpty(t, h.info.Lost, "written as lost first")
	file, info := written(t, h.cipher, 60, Merge([]Iterator{h.lost.Iterate(Key{}, Key{}, false)}, Keep{}))
	require.Empty(t, info.Lost)
	got, lost := h.read(opened(t, h.cipher, 60, file, h.cache), Version{1, 5})
	require.Zero(t, lost)
	require.Equal(t, make([]byte, 20<<10), got)
}
