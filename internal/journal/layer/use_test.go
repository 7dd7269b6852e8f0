package layer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Many readers share a cache that is too small for them, with blocks used again and again.
func TestConcurrentReaders(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	cache := NewCache(400 << 10)
	var group errgroup.Group
	for number := range uint64(3) {
		data := incompressible(300 << 10)
		m := &Memory{}
		for s := range uint64(len(data) / SectorSize / 8) {
			m.Add(0, s*8, 8, Version{1, 1 + s%5}, Data, data[s*cellBytes:(s+1)*cellBytes], nil)
		}
		file, _ := writtenSmall(t, w.cipher, number, m.Iterate(), 2000)
		r := opened(t, w.cipher, number, file, cache)
		for seed := range uint64(3) {
			group.Go(func() error {
				rnd := newRand(number<<8 | seed)
				buf := make([]byte, 64<<10)
				for range 400 {
					sectors := 1 + rnd.Uint64N(100)
					sector := rnd.Uint64N(uint64(len(data)/SectorSize) - sectors)
					err := r.Lookup(t.Context(), 0, sector, sectors, Version{2, 0}, func(p Piece) error {
						part := buf[:p.Sectors*SectorSize]
						if err := r.Read(t.Context(), p, part); err != nil {
							return err
						}
						if !slices.Equal(part, data[p.Sector*SectorSize:][:len(part)]) {
							return errors.New("wrong bytes")
						}
						return nil
					})
					if err != nil {
						return err
					}
					if rnd.IntN(50) == 0 {
						cache.Drop(testJournal, number)
					}
				}
				return nil
			})
		}
	}
	require.NoError(t, group.Wait())
	require.LessOrEqual(t, cache.Bytes(), int64(400<<10))
	for number := range uint64(3) {
		cache.Drop(testJournal, number)
	}
	require.Zero(t, cache.Bytes())
	require.Zero(t, cache.data.bytes+cache.index.bytes)
}

// Data blocks go first, for index blocks save more; but not when index blocks have nearly everything.
func TestCachePrefersIndex(t *testing.T) {
	const block = 16<<10 + itemOverhead
	c := NewCache(8 * block)
	put := func(n int64, index bool) {
		k := cacheKey{off: n}
		if index {
			c.put(&cacheItem{key: k, ix: &indexBlock{}, size: block})
			return
		}
		b := newBuffer(16 << 10)
		c.putData(&k, b)
		b.release()
	}
	has := func(n int64) bool { return c.lookup[cacheKey{off: n}] != nil }
	for n := range int64(4) {
		put(n, true)
	}
	for n := int64(10); n < 30; n++ {
		put(n, false)
	}
	for n := range int64(4) {
		require.True(t, has(n), "index block %d gave way to data", n)
	}
	require.True(t, has(29) && has(26) && !has(25))
	for n := int64(40); n < 60; n++ {
		put(n, true)
	}
	require.True(t, has(59) && has(29) && has(28), "data keep a quarter")
	require.False(t, has(27) || has(0))
	require.LessOrEqual(t, c.Bytes(), int64(8*block))
	big := cacheKey{off: 99}
	c.put(&cacheItem{key: big, ix: &indexBlock{}, size: 5 * block})
	require.Nil(t, c.getIndex(&big), "one block may not push everything out")
}

// What is read sequentially is read ahead, and each byte once.
func TestIterationReadsOnce(t *testing.T) {
	w := newWorld(t, 1)
	data := incompressible(3 << 20)
	m := &Memory{}
	m.Add(0, 0, uint64(len(data)/SectorSize), Version{1, 1}, Data, data, nil)
	file, _ := written(t, w.cipher, 1, m.Iterate())
	var calls, total atomic.Int64
	src := countingSource{memSource(file), &calls, &total}
	r, err := Open(t.Context(), src, int64(len(file)), w.cipher, nil, testJournal, 1)
	require.NoError(t, err)
	calls.Store(0)
	total.Store(0)
	copied, _ := written(t, w.cipher, 2, r.Iterate(Key{}, Key{}, false))
	require.InDelta(t, len(file), len(copied), 64)
	require.LessOrEqual(t, total.Load(), int64(len(file)))
	require.LessOrEqual(t, calls.Load(), int64(len(data)/(maxRun-pieceBlock)+4))
}

type countingSource struct {
	memSource
	calls, total *atomic.Int64
}

func (s countingSource) ReadAt(ctx context.Context, p []byte, off int64) error {
	s.calls.Add(1)
	s.total.Add(int64(len(p)))
	return s.memSource.ReadAt(ctx, p, off)
}

// Info goes into a catalogue and comes back the same.
func TestInfoIsJSON(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	_, info := written(t, w.cipher, 1, w.segment(40).Iterate())
	info.Lost = []Range{{Disk: 1, Sector: 1 << 60, Sectors: 8, Version: Version{1<<64 - 1, 1<<64 - 1}}}
	b, err := json.Marshal(info)
	require.NoError(t, err)
	require.NotContains(t, string(b), "since")
	var back Info
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, info, back)
	for _, bad := range []string{`"09"`, `"zz"`, `"` + string(make([]byte, 64)) + `"`} {
		var s Salt
		require.Error(t, s.UnmarshalText([]byte(bad)))
	}
}

// A layer of nothing is a file too.
func TestEmptyLayer(t *testing.T) {
	w := newWorld(t, 1)
	r := w.write((&Memory{}).Iterate())
	require.NoError(t, r.Lookup(t.Context(), 0, 0, 100, Version{9, 9}, func(Piece) error { return errors.New("found something") }))
	_, ok, err := r.Iterate(Key{}, Key{}, false).Next(t.Context())
	require.NoError(t, err)
	require.False(t, ok)
}

type brokenWriter struct{ left int }

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fault.New(fault.OutOfSpace, "test: write", "no room")
	}
	return len(p), nil
}

// A writer that failed stays so, and says what was the matter.
func TestWriterFailure(t *testing.T) {
	m := &Memory{}
	data := incompressible(1 << 20)
	m.Add(0, 0, 2048, Version{1, 1}, Data, data, nil)
	m.Add(0, 4096, 2048, Version{1, 2}, Data, data, nil)
	for _, room := range []int{0, headerSize, 100 << 10, 1100 << 10, 2000 << 10} {
		l, err := NewWriter(&brokenWriter{room}, WriterOptions{Cipher: newGCM(t)})
		it := m.Iterate()
		for err == nil {
			s, ok, err2 := it.Next(t.Context())
			require.NoError(t, err2)
			if !ok {
				_, err = l.Finish()
				break
			}
			err = l.Add(t.Context(), s)
		}
		require.True(t, fault.Is(err, fault.OutOfSpace), "%d: %v", room, err)
		if room > 0 {
			_, err = l.Finish()
			require.True(t, fault.Is(err, fault.OutOfSpace), "%d: %v", room, err)
		}
	}
}

// Callers' mistakes are told, not written.
func TestMisuse(t *testing.T) {
	m := &Memory{}
	m.Add(0, 0, 8, Version{1, 1}, Data, make([]byte, cellBytes), nil)
	m.Add(0, 0, 8, Version{1, 2}, Zero, nil, nil)
	it := m.Iterate()
	s, ok, err := it.Next(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	isBug := func(err error) { t.Helper(); require.True(t, fault.Is(err, fault.Bug), "%v", err) }
	isBug(s.Entries[0].Load(t.Context(), make([]byte, cellBytes))) // zeroes
	isBug(s.Entries[1].Load(t.Context(), make([]byte, 512)))
	newWriter := func() *Writer {
		w, err := NewWriter(io.Discard, WriterOptions{Cipher: newGCM(t)})
		require.NoError(t, err)
		return w
	}
	w := newWriter()
	require.NoError(t, w.Add(t.Context(), s))
	isBug(w.Add(t.Context(), s)) // again
	w = newWriter()
	isBug(w.Add(t.Context(), Span{Sectors: 8}))
	w = newWriter()
	slices.Reverse(s.Entries)
	isBug(w.Add(t.Context(), s))
	require.NoError(t, it.Close())
	_, _, err = it.Next(t.Context())
	isBug(err)
	_, err = NewWriter(io.Discard, WriterOptions{})
	isBug(err)
	_, err = NewWriter(io.Discard, WriterOptions{Cipher: newGCM(t), Level: 99})
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	_, err = Open(t.Context(), memSource{}, 0, nil, nil, testJournal, 1)
	isBug(err)

	// What cannot be right is not taken, or taken as lost.
	m = &Memory{}
	m.Add(0, maxSector, 8, Version{1, 1}, Zero, nil, nil)
	m.Add(0, 0, 0, Version{1, 1}, Zero, nil, nil)
	m.Add(0, 0, 8, Version{1, 1}, Data, make([]byte, 100), nil)
	it = m.Iterate()
	s, ok, err = it.Next(t.Context())
	require.NoError(t, err)
	require.True(t, ok && s.Entries[0].Kind == Lost)
	_, ok, err = it.Next(t.Context())
	require.NoError(t, err)
	require.False(t, ok)
}

// The wrong key, number or journal opens nothing.
func TestForeignFileIsRefused(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	file, _ := written(t, w.cipher, 5, w.segment(30).Iterate())
	other := testJournal
	other[0]++
	_, err := Open(t.Context(), memSource(file), int64(len(file)), w.cipher, nil, other, 5)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
	_, err = Open(t.Context(), memSource(file), int64(len(file)), w.cipher, nil, testJournal, 6)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
	_, err = Open(t.Context(), memSource(file), int64(len(file)-1), w.cipher, nil, testJournal, 5)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

// blockVersions is a disk whose blocks were written one version after the other, of content that is like the one before it or not.
func blockVersions(blocks, versions int, alikeContent bool) *Memory {
	m := &Memory{}
	rnd := newRand(11)
	for c := range blocks {
		data := make([]byte, cellBytes)
		for v := range versions {
			data = slices.Clone(data)
			from := 0
			if alikeContent && v > 0 {
				from = cellBytes * 15 / 16
			}
			for k := from; k < cellBytes; k++ {
				data[k] = byte(rnd.Uint32())
			}
			m.Add(0, uint64(c)*CellSectors, CellSectors, Version{1, uint64(1 + v*blocks + (c*7)%blocks)}, Data, data, nil)
		}
	}
	return m
}

// Who reads the newest state reads what it consists of, and not what was there before.
func TestNewestIsReadAlone(t *testing.T) {
	const blocks, versions = 4000, 5
	w := newWorld(t, 1)
	file, info := written(t, w.cipher, 1, blockVersions(blocks, versions, false).Iterate())
	require.EqualValues(t, blocks*versions*cellBytes, info.Raw)
	var calls, total atomic.Int64
	r, err := Open(t.Context(), countingSource{memSource(file), &calls, &total}, int64(len(file)), w.cipher, NewCache(4<<20), testJournal, 1)
	require.NoError(t, err)
	require.Greater(t, len(r.top), 2)
	dst := make([]byte, cellBytes)
	read := func(at Version) int64 {
		total.Store(0)
		require.NoError(t, r.Lookup(t.Context(), 0, 0, blocks*CellSectors, at, func(p Piece) error { return r.Read(t.Context(), p, dst) }))
		return total.Load()
	}
	content := int64(blocks * cellBytes)
	require.Less(t, read(Version{2, 0}), content*11/10)
	require.Greater(t, read(Version{1, blocks}), content*3/2, "older versions lie side by side")
}

// Versions that are alike are stored as what differs.
func TestAlikeVersionsCompress(t *testing.T) {
	const blocks, versions = 1000, 4
	w := newWorld(t, 1)
	_, apart := written(t, w.cipher, 1, blockVersions(blocks, versions, false).Iterate())
	_, together := written(t, w.cipher, 2, blockVersions(blocks, versions, true).Iterate())
	require.Greater(t, apart.Bytes, apart.Raw)
	require.Less(t, together.Bytes, together.Raw*2/5)
}

// Older versions wait for the newest in memory, but only so many.
func TestHeldVersionsAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	l, err := NewWriter(io.Discard, WriterOptions{Journal: testJournal, Number: 1, Cipher: w.cipher})
	require.NoError(t, err)
	l.index.limit = maxIndexRaw / 2
	it := blockVersions(3000, 5, false).Iterate()
	most := 0
	for {
		s, ok, err := it.Next(t.Context())
		require.NoError(t, err)
		if !ok {
			break
		}
		require.NoError(t, l.Add(t.Context(), s))
		most = max(most, len(l.data.streams[older].held))
	}
	_, err = l.Finish()
	require.NoError(t, err)
	require.Greater(t, len(l.index.top), 4)
	require.InDelta(t, maxHeld, most, 2*maxBlock)
}
