package layer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// wrongBytes reads all of a layer at some versions and compares what is given with what was written. It says how many sectors were
// refused.
func (w *world) wrongBytes(r *Reader, points []Version) (refused int) {
	for _, at := range points {
		for _, disk := range w.disks {
			require.NoError(w.t, r.Lookup(w.t.Context(), disk, 0, w.size, at, func(p Piece) error {
				data := make([]byte, p.Sectors*SectorSize)
				if p.Kind == Data || p.Kind == Lost {
					if err := r.Read(w.t.Context(), p, data); err != nil {
						require.True(w.t, fault.Is(err, fault.Corruption), "%v", err)
						refused++
						return nil
					}
				}
				for i := range p.Sectors {
					v, c, ok := w.truth.at(Key{disk, p.Sector + i}, at)
					if c == zeroes {
						c = string(make([]byte, SectorSize))
					}
					require.True(w.t, ok && v == p.Version && c == string(data[i*SectorSize:(i+1)*SectorSize]), "disk %d, sector %d", disk, p.Sector+i)
				}
				return nil
			}))
		}
	}
	return refused
}

// Whatever byte of a file is damaged: nobody is given wrong bytes, and Verify says so.
func TestEveryByteDamaged(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	w.size, w.hot = 64, 10
	file, _ := written(t, w.cipher, 1, w.segment(14).Iterate())
	points := []Version{{1, 1020}, {9, 0}}
	require.Zero(t, w.wrongBytes(opened(t, w.cipher, 1, file, nil), points))
	t.Logf("%d bytes", len(file))
	step := 1 + len(file)/1500
	for i := w.rnd.IntN(step); i < len(file); i += step {
		damaged := slices.Clone(file)
		damaged[i] ^= 1 << w.rnd.IntN(8)
		r, err := Open(t.Context(), memSource(damaged), int64(len(damaged)), w.cipher, nil, testJournal, 1)
		require.NoError(t, err, "byte %d: the file has everything that opening needs twice", i)
		refused := w.wrongBytes(r, points)
		found := 0
		require.NoError(t, r.Verify(t.Context(), func(d Range, err error) {
			require.Error(t, err)
			found++
		}))
		require.Positive(t, found, "byte %d", i)
		if i < headerSize || int64(i) >= int64(r.foot.indexEnd) {
			require.Zero(t, refused, "byte %d: not of content", i)
		}
	}
	for n := range len(file) { // and a file that was cut off
		_, err := Open(t.Context(), memSource(file[:n]), int64(n), w.cipher, nil, testJournal, 1)
		require.True(t, fault.Is(err, fault.Corruption), "%d bytes: %v", n, err)
	}
}

// damage is what Verify reports of damaged layers.
type damage []Range

// excuses reports whether content at a point may be refused.
func (d damage) excuses(k Key, v, at Version) bool {
	return slices.ContainsFunc(d, func(r Range) bool {
		if k.Disk != r.Disk || k.Sector < r.Sector || k.Sector >= r.Sector+r.Sectors {
			return false
		}
		if r.Since == (Version{}) {
			return v == r.Version
		}
		return !at.Less(r.Since) && !r.Version.Less(v)
	})
}

// conservative checks that all layers together give the truth or refuse with a reason.
func (w *world) conservative(d damage, points []Version) {
	type found struct {
		v    Version
		c    string
		ok   bool
		lost bool
	}
	for _, at := range points {
		for _, disk := range w.disks {
			got := make([]found, w.size)
			for _, r := range w.layers {
				require.NoError(w.t, r.Lookup(w.t.Context(), disk, 0, w.size, at, func(p Piece) error {
					data := make([]byte, p.Sectors*SectorSize)
					lost := p.Kind == Lost
					if p.Kind == Data {
						if err := r.Read(w.t.Context(), p, data); err != nil { // which cells?
							require.True(w.t, fault.Is(err, fault.Corruption))
							if p.Sectors > 1 {
								for s := range p.Sectors {
									c := p.Clip(p.Sector+s, 1)
									err := r.Read(w.t.Context(), c, data[s*SectorSize:(s+1)*SectorSize])
									if f := &got[c.Sector]; !f.ok || !p.Version.Less(f.v) {
										*f = found{p.Version, string(data[s*SectorSize : (s+1)*SectorSize]), true, err != nil}
									}
								}
								return nil
							}
							lost = true
						}
					}
					for s := range p.Sectors {
						c := zeroes
						if p.Kind == Data {
							c = string(data[s*SectorSize : (s+1)*SectorSize])
						}
						if f := &got[p.Sector+s]; !f.ok || !p.Version.Less(f.v) {
							*f = found{p.Version, c, true, lost}
						}
					}
					return nil
				}))
			}
			for s, g := range got {
				k := Key{disk, uint64(s)}
				v, c, ok := w.truth.at(k, at)
				if g.lost {
					require.True(w.t, d.excuses(k, v, at), "%+v at %+v is refused (%+v) without damage of %+v", k, at, g.v, v)
					continue
				}
				zero := string(make([]byte, SectorSize))
				same := c == g.c || c == zeroes && g.c == zero || g.c == zeroes && c == zero
				require.True(w.t, ok == g.ok && v == g.v && same || !g.ok && c == zeroes, "%+v at %+v: %+v, want %+v, %v", k, at, g.v, v, ok)
			}
		}
	}
}

// damagedCopy flips bytes of a layer and says what Verify finds.
func (w *world) damagedCopy(r *Reader, flips int, index bool) (*Reader, damage) {
	src, ok := r.src.(memSource)
	require.True(w.t, ok)
	file := slices.Clone(src)
	for range flips {
		from, to := int64(headerSize), r.dataEnd
		if index && len(r.top) > 0 {
			t := r.top[w.rnd.IntN(len(r.top))]
			from, to = t.off, t.off+int64(t.stored)
		}
		if to > from {
			file[from+w.rnd.Int64N(to-from)] ^= 1 << w.rnd.IntN(8)
		}
	}
	w.cache.Drop(testJournal, r.number)
	d := opened(w.t, w.cipher, r.number, file, w.cache)
	var found damage
	require.NoError(w.t, d.Verify(w.t.Context(), func(r Range, err error) { found = append(found, r) }))
	return d, found
}

func (w *world) rewrite(it Iterator) *Reader {
	w.number++
	file, _ := writtenSmall(w.t, w.cipher, w.number, it, w.limit)
	return opened(w.t, w.cipher, w.number, file, w.cache)
}

func (w *world) all() (its []Iterator) {
	for _, r := range w.layers {
		its = append(its, r.Iterate(Key{}, Key{}, false))
	}
	return its
}

// Random damage of blocks: reading, merging and reading what was merged gives the truth, or refuses what Verify names.
func TestDamageIsContained(t *testing.T) {
	for _, seed := range seeds(t, 25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			var all damage
			for range 1 + w.rnd.IntN(3) {
				r, d := w.damagedCopy(w.write(w.segment(20+w.rnd.IntN(100)).Iterate()), w.rnd.IntN(3), w.rnd.IntN(3) == 0)
				w.layers, all = append(w.layers, r), append(all, d...)
			}
			var points []Version
			for range 12 {
				points = append(points, w.version())
			}
			w.conservative(all, points)
			merged := w.rewrite(Merge(w.all(), Keep{}))
			w.layers = []*Reader{merged}
			w.conservative(all, points)
			require.NoError(t, merged.Verify(t.Context(), func(r Range, err error) { t.Errorf("%+v: %v", r, err) }))
			k := Keep{From: w.version(), Points: []Version{w.version(), w.version()}}
			slices.SortFunc(k.Points, Version.Compare)
			retained := append(slices.Clone(k.Points), k.From)
			for _, p := range points {
				if k.From.Less(p) {
					retained = append(retained, p)
				}
			}
			for range 2 {
				w.layers = []*Reader{w.rewrite(Merge(w.all(), k))}
				w.conservative(all, retained)
			}
		})
	}
}

// The same where a span's versions fill several index blocks, whichever of them is damaged, and the next one too.
func TestDamageInDeepSpan(t *testing.T) {
	const n = 1200
	w := newWorld(t, 1)
	w.size, w.disks, w.limit, w.cache = 830, []uint16{1}, 1500, NewCache(1<<20)
	m, value := hotSpot(n, 400, 8)
	tell := func(sector, sectors uint64, v Version, b byte) {
		for i := range sectors {
			w.truth.set(Key{1, sector + i}, v, string(bytes.Repeat([]byte{b}, SectorSize)))
		}
	}
	tell(0, 64, Version{1, 1}, 0xaa)
	tell(800, 30, Version{1, 2}, 0xbb)
	for i := range uint64(n) {
		tell(400, 8, Version{1, 1000 + i*10}, value(1000+i*10))
	}
	good := w.write(m.Iterate())
	require.Greater(t, len(good.top), 6)
	src, ok := good.src.(memSource)
	require.True(t, ok)
	for i := range good.top {
		for run := range 2 {
			var points []Version
			file := slices.Clone(src)
			for k := i; k <= min(i+run, len(good.top)-1); k++ {
				b := &good.top[k]
				file[b.off+20] ^= 1
				points = append(points, b.oldest, b.newest, Version{1, b.oldest.Position - 1}, Version{1, b.newest.Position + 15}, Version{1, (b.oldest.Position + b.newest.Position) / 2})
			}
			w.cache.Drop(testJournal, good.number)
			r := opened(t, w.cipher, good.number, file, w.cache)
			var d damage
			require.NoError(t, r.Verify(t.Context(), func(r Range, err error) { d = append(d, r) }))
			require.NotEmpty(t, d)
			w.layers = []*Reader{r}
			w.conservative(d, points)
			w.layers = []*Reader{w.rewrite(Merge(w.all(), Keep{}))}
			w.conservative(d, points)
		}
	}
}

type brokenSource struct {
	memSource
	fail func(off int64) error
}

func (b brokenSource) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := b.fail(off); err != nil {
		return err
	}
	return b.memSource.ReadAt(ctx, p, off)
}

// A source that fails for a moment is no damage: the error comes through as it is, and nothing is called lost.
func TestTransientIsNotDamage(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	file, _ := written(t, w.cipher, 1, w.segment(60).Iterate())
	down := false
	src := brokenSource{memSource(file), func(int64) error {
		if down {
			return fault.New(fault.Transient, "test: read", "the network is down")
		}
		return nil
	}}
	r, err := Open(t.Context(), src, int64(len(file)), w.cipher, nil, testJournal, 1)
	require.NoError(t, err)
	down = true
	transient := func(err error) { require.True(t, fault.Is(err, fault.Transient), "%v", err) }
	transient(r.Lookup(t.Context(), r.top[0].disk, 0, w.size, Version{9, 0}, func(Piece) error { return nil }))
	_, _, err = r.Iterate(Key{}, Key{}, false).Next(t.Context())
	transient(err)
	transient(r.Verify(t.Context(), func(Range, error) { t.Error("called damage") }))
	_, err = Open(t.Context(), src, int64(len(file)), w.cipher, nil, testJournal, 1)
	transient(err)
	down = false
	it := r.Iterate(Key{}, Key{}, false)
	for {
		s, ok, err := it.Next(t.Context())
		require.NoError(t, err)
		require.True(t, ok)
		if e := &s.Entries[0]; e.Kind == Data {
			down = true
			transient(e.Load(t.Context(), make([]byte, s.Sectors*SectorSize)))
			break
		}
	}
}

// Content that changed before it was sealed, or behind a cipher that does not notice, is caught by its sum.
func TestSumsCatchWhatTheCipherDoesNot(t *testing.T) {
	w := newWorld(t, seeds(t, 1)[0])
	w.cipher, w.size, w.hot = plain{}, 400, 10
	m := w.segment(20)
	w.size = 900
	large := incompressible(500 * SectorSize) // with blocks that are read whole
	m.Add(0, 400, 500, Version{1, 1}, Data, large, nil)
	for s := range uint64(500) {
		w.truth.set(Key{0, 400 + s}, Version{1, 1}, string(large[s*SectorSize:(s+1)*SectorSize]))
	}
	file, _ := written(t, w.cipher, 1, m.Iterate())
	end := opened(t, w.cipher, 1, file, nil).dataEnd
	points := []Version{{1, 1020}, {2, 1010}, {9, 0}}
	for range 300 {
		damaged := slices.Clone(file)
		damaged[headerSize+w.rnd.Int64N(end-headerSize)] ^= 1 << w.rnd.IntN(8)
		w.wrongBytes(opened(t, w.cipher, 1, damaged, nil), points)
	}

	data := incompressible(4 * cellBytes)
	m = &Memory{}
	m.Add(0, 4, 32, Version{1, 1}, Data, data, Sums(nil, 0, 4, data))
	data[9*SectorSize] ^= 1 // in memory, after the agent summed it
	_, info := written(t, w.cipher, 2, m.Iterate())
	require.Equal(t, []Range{{Disk: 0, Sector: 8, Sectors: 8, Version: Version{1, 1}}}, info.Lost)
}
