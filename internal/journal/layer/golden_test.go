package layer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pattern is content that any build makes the same; odd ones do not compress.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		if seed%2 == 1 || i%64 == 0 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		b[i] = byte(x)
	}
	return b
}

// golden is a history with everything that a format can say, and the truth about it.
func golden(w *world, format uint32) Iterator {
	m := &Memory{}
	add := func(disk uint16, sector, sectors uint64, v Version, seed uint64) {
		data := pattern(int(sectors)*SectorSize, seed)
		m.Add(disk, sector, sectors, v, Data, data, nil)
		for s := range sectors {
			w.truth.set(Key{disk, sector + s}, v, string(data[s*SectorSize:(s+1)*SectorSize]))
		}
	}
	zero := func(disk uint16, sector, sectors uint64, v Version) {
		m.Add(disk, sector, sectors, v, Zero, nil, nil)
		for s := range min(sectors, w.size-sector) {
			w.truth.set(Key{disk, sector + s}, v, zeroes)
		}
	}
	add(0, 0, 256, Version{1, 100}, 2)  // a baseline that compresses
	add(0, 256, 64, Version{1, 100}, 3) // and one that does not
	add(0, 13, 5, Version{1, 131}, 5)   // cuts cells
	add(0, 64, 8, Version{2, 90}, 7)    // a later epoch, at a lower position
	for i := range uint64(150) {        // more versions than a record and an index block hold
		add(0, 200, 3, Version{2, 200 + i*7}, 1000+2*i)
	}
	zero(0, 384, 16, Version{1, 120})
	zero(0, 392, 4, Version{2, 1 << 40})
	add(9, 7, 1, Version{3, 5}, 9)
	if format >= version2 {
		add(0, 320, 8, Version{2, 1}, 3) // alike: lies together with what was there, and so does the one that follows
		add(0, 328, 8, Version{2, 1}, 3)
		add(0, 320, 16, Version{2, 2}, 3)
		zero(0, 340, 8, Version{2, 3})
	}
	zero(9, 100, 1<<40, Version{1, 100})
	lost := pattern(16*SectorSize, 11)
	m.Add(9, 40, 16, Version{1, 140}, Lost, nil, Sums(nil, 9, 40, lost)) // told by its sums
	m.Add(9, 60, 4, Version{1, 150}, Lost, nil, nil)
	open := Span{Disk: 9, Sector: 70, Sectors: 9, Entries: []Entry{
		lostEntry(9, 70, 9, Version{1, 300}, false), lostEntry(9, 70, 9, Version{1, 200}, true)}}
	return Merge([]Iterator{m.Iterate(), &oneSpan{s: open}}, Keep{})
}

// oneSpan is an iterator of one span.
type oneSpan struct {
	s    Span
	done bool
}

func (o *oneSpan) Close() error { return nil }
func (o *oneSpan) Next(context.Context) (Span, bool, error) {
	ok := !o.done
	o.done = true
	return o.s, ok, nil
}

// What is in testdata was written once, by the version that introduced the format, and must open for ever. A new format gets a
// directory of its own; none is ever written again.
func TestGolden(t *testing.T) {
	for format := uint32(1); format <= newestVersion; format++ {
		t.Run(fmt.Sprint("v", format), func(t *testing.T) { testGolden(t, format) })
	}
}

func testGolden(t *testing.T, format uint32) {
	w := newWorld(t, 1)
	w.size, w.disks = 400, []uint16{0, 9}
	it, goldenFile := golden(w, format), fmt.Sprintf("testdata/v%d/layer", format)
	if _, err := os.Stat(goldenFile); err != nil && os.Getenv("UNDERSTUDY_GOLDEN") == "write" {
		require.Equal(t, uint32(newestVersion), format)
		file, _ := writtenSmall(t, w.cipher, 77, it, 300)
		require.NoError(t, os.MkdirAll(filepath.Dir(goldenFile), 0o755))
		require.NoError(t, os.WriteFile(goldenFile, file, 0o644))
	}
	file, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	h, err := ReadHeader(t.Context(), memSource(file))
	require.NoError(t, err)
	require.Equal(t, Header{Version: format, Journal: testJournal, Number: 77, Salt: Salt{9}}, h)
	r := opened(t, w.cipher, 77, file, w.cache)
	require.NoError(t, r.Verify(t.Context(), func(d Range, err error) { t.Errorf("%+v: %v", d, err) }))
	require.Greater(t, len(r.top), 3)
	w.layers = []*Reader{r}
	for _, at := range []Version{{1, 99}, {1, 100}, {1, 135}, {2, 90}, {2, 203}, {2, 204}, {2, 700}, {2, 1 << 50}, {3, 5}} {
		w.check(0, 0, w.size, at)
		w.check(9, 0, 40, at)
		w.check(9, 100, 300, at)
	}
	together := 0
	for i := range r.top {
		ix, err := r.index(t.Context(), i)
		require.NoError(t, err)
		for c := ix.start(); c.record(); {
			if c.together && !c.same && !(len(r.top) > 0 && c.start == r.top[i].first && r.top[i].continued) {
				together++
			}
		}
	}
	require.Equal(t, format == version1, together > 2, "of format 1 all, of others those that are alike")
	require.Positive(t, together)
	for _, x := range []struct {
		sector      uint64
		at, version Version
	}{{40, Version{9, 0}, Version{1, 140}}, {60, Version{9, 0}, Version{1, 150}}, {72, Version{9, 0}, Version{1, 300}},
		{72, Version{1, 250}, Version{1, 250}}} { // the last one: nobody knows up to when
		require.NoError(t, r.Lookup(t.Context(), 9, x.sector, 1, x.at, func(p Piece) error {
			require.Equal(t, Lost, p.Kind)
			require.Equal(t, x.version, p.Version)
			require.True(t, fault.Is(r.Read(t.Context(), p, make([]byte, SectorSize)), fault.Corruption))
			return nil
		}))
	}
	// The sums of what is lost are still good for healing it.
	m := &Memory{}
	m.Add(9, 40, 16, Version{4, 1}, Data, pattern(16*SectorSize, 11), nil)
	healed, info := written(t, w.cipher, 78, Merge([]Iterator{r.Iterate(Key{}, Key{}, false), m.Iterate()}, Keep{}))
	require.Equal(t, []Range{{Disk: 9, Sector: 60, Sectors: 4, Version: Version{1, 150}},
		{Disk: 9, Sector: 70, Sectors: 9, Version: Version{1, 300}}, {Disk: 9, Sector: 70, Sectors: 9, Version: Version{1, 300}, Since: Version{1, 200}}}, info.Lost)
	got := make([]byte, 16*SectorSize)
	h2 := opened(t, w.cipher, 78, healed, w.cache)
	require.NoError(t, h2.Lookup(t.Context(), 9, 40, 16, Version{1, 140}, func(p Piece) error { return h2.Read(t.Context(), p, got) }))
	require.Equal(t, pattern(16*SectorSize, 11), got)
}

// A file of a newer format is refused as such, and not taken for damage.
func TestNewerFormatIsUnsupported(t *testing.T) {
	w := newWorld(t, 1)
	file, _ := written(t, w.cipher, 1, w.segment(5).Iterate())
	file[4] = newestVersion + 1
	h := Header{Version: newestVersion + 1}
	_, err := ReadHeader(t.Context(), memSource(h.encode()))
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	for at := range len(file) - footerSize + 1 {
		var f footer
		if f.decode(file[at:at+footerSize]) == nil {
			file[at+4] = newestVersion + 1
		}
	}
	sealFooters(file)
	_, err = Open(t.Context(), memSource(file), int64(len(file)), w.cipher, nil, testJournal, 1)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))
}
