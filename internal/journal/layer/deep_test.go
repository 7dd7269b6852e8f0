package layer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// hotSpot is one cell, or a part of it, written again and again between quiet neighbours.
func hotSpot(n int, sector, sectors uint64) (*Memory, func(position uint64) byte) {
	m := &Memory{}
	fill := func(sector, sectors uint64, v Version, b byte) {
		data := make([]byte, sectors*SectorSize)
		for i := range data {
			data[i] = b
		}
		m.Add(1, sector, sectors, v, Data, data, nil)
	}
	fill(0, 64, Version{1, 1}, 0xaa)
	fill(800, 64, Version{1, 2}, 0xbb)
	for i := range n {
		fill(sector, sectors, Version{1, 1000 + uint64(i)*10}, byte(i))
	}
	return m, func(position uint64) byte { return byte((position - 1000) / 10) }
}

// A place with more versions than an index block holds is found at each of them, and comes back whole.
func TestDeepSpan(t *testing.T) {
	const n = 16000
	w := newWorld(t, 1)
	w.cache, w.limit = NewCache(64<<20), indexBytes
	for _, place := range [][2]uint64{{400, 8}, {403, 2}} {
		m, want := hotSpot(n, place[0], place[1])
		r := w.write(m.Iterate())
		require.Greater(t, len(r.top), 4, "the span does not cross index blocks")
		require.True(t, r.top[2].continued)
		buf := make([]byte, SectorSize)
		ask := func(sector, position uint64) (b byte, ok bool) {
			require.NoError(t, r.Lookup(t.Context(), 1, sector, 1, Version{1, position}, func(p Piece) error {
				ok = true
				require.NoError(t, r.Read(t.Context(), p, buf))
				return nil
			}))
			return buf[0], ok
		}
		for i := uint64(0); i < n; i += 7 {
			p := 1000 + i*10 + i%10
			b, ok := ask(place[0]+1, p)
			require.True(t, ok)
			require.Equal(t, want(p), b, "at %d", p)
		}
		_, ok := ask(place[0], 999)
		require.False(t, ok)
		_, ok = ask(place[0]-1, 2000)
		require.False(t, ok)
		b, ok := ask(801, 3000)
		require.True(t, ok)
		require.EqualValues(t, 0xbb, b)

		count := func(it Iterator) (entries int) {
			for {
				s, ok, err := it.Next(t.Context())
				require.NoError(t, err)
				if !ok {
					require.NoError(t, it.Close())
					return entries
				}
				entries += len(s.Entries)
			}
		}
		require.Equal(t, n+2, count(r.Iterate(Key{}, Key{}, false)))
		r = w.write(Merge([]Iterator{r.Iterate(Key{}, Key{}, false)}, Keep{From: Version{1, 1000 + (n-100)*10}}))
		require.Equal(t, 102, count(r.Iterate(Key{}, Key{}, false)))
		b, ok = ask(place[0], 1000+(n-100)*10)
		require.True(t, ok)
		require.Equal(t, want(1000+(n-100)*10), b)
	}
}

// Merging at odd borders again and again leaves the file as it was: what was cut is joined.
func TestMergeDoesNotFragment(t *testing.T) {
	w := newWorld(t, 1)
	m := &Memory{}
	data := w.bytes(2048 * SectorSize)
	for s := uint64(0); s < 2048; s += 5 { // a bio may be cut anywhere
		n := min(5, 2048-s)
		m.Add(0, 4096+s, n, Version{1, 7}, Data, data[s*SectorSize:(s+n)*SectorSize], nil)
	}
	m.Add(0, 10000, 1<<40, Version{1, 8}, Zero, nil, nil)
	file, first := written(t, w.cipher, 1, m.Iterate())
	require.EqualValues(t, 2, first.Spans)
	for i := range uint64(3) {
		var parts []Iterator
		r := opened(t, w.cipher, 1, file, w.cache)
		for s := uint64(4096); s < 20000; s += 123 + i {
			parts = append(parts, r.Iterate(Key{0, s}, Key{0, s + 123 + i}, true))
		}
		parts = append(parts, r.Iterate(Key{0, 20000}, Key{}, false))
		var info Info
		file, info = written(t, w.cipher, 1, Merge(parts, Keep{}))
		require.EqualValues(t, 2, info.Spans)
		require.Equal(t, first.Raw, info.Raw)
		w.cache.Drop(testJournal, 1)
	}
	r := opened(t, w.cipher, 1, file, w.cache)
	got := make([]byte, len(data))
	require.NoError(t, r.Lookup(t.Context(), 0, 4096, 2048, Version{1, 7}, func(p Piece) error { return r.Read(t.Context(), p, got) }))
	require.Equal(t, data, got)
}

// A place that was discarded again and again between a few writes has many versions and little content. Wherever an index block
// ends between its records, the content of each record is in the block that tells of it.
func TestManyZeroes(t *testing.T) {
	for _, limit := range []int{400, 1000, indexBytes} {
		for every := 30; every < 130; every += 33 {
			w := newWorld(t, 1)
			w.limit = limit
			m := &Memory{}
			fill := func(place, version uint64) []byte {
				data := make([]byte, 2*cellBytes)
				for i := range data {
					data[i] = byte(place*31 + version*7 + uint64(i)>>9)
				}
				return data
			}
			const places, versions = 60, 300
			for p := range uint64(places) {
				for v := range uint64(versions) {
					if at := p * 32; v%uint64(every) == uint64(every)-1 || v == 0 {
						m.Add(1, at, 16, Version{1, v*places + p}, Data, fill(p, v), nil)
					} else {
						m.Add(1, at, 16, Version{1, v*places + p}, Zero, nil, nil)
					}
				}
			}
			r := w.write(m.Iterate())
			it := r.Iterate(Key{}, Key{}, false)
			seen := uint64(0)
			for {
				s, ok, err := it.Next(t.Context())
				require.NoError(t, err)
				if !ok {
					break
				}
				seen += s.Sectors
				require.Len(t, s.Entries, versions)
				for i := range s.Entries {
					e, p, v := &s.Entries[i], s.Sector/32, uint64(versions-1-i)
					require.Equal(t, Version{1, v*places + p}, e.Version)
					if v%uint64(every) != uint64(every)-1 && v != 0 {
						require.Equal(t, Zero, e.Kind)
						continue
					}
					require.Equal(t, Data, e.Kind, "limit %d, place %d, version %d", limit, p, v)
					got, from := make([]byte, s.Sectors*SectorSize), s.Sector%32*SectorSize
					require.NoError(t, e.Load(t.Context(), got))
					require.Equal(t, fill(p, v)[from:from+uint64(len(got))], got)
				}
			}
			require.EqualValues(t, places*16, seen)
			require.NoError(t, it.Close())
		}
	}
}
