package layer

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// truth is the oracle: what every version says of every sector, "" being zeroes.
type truth map[Key]map[Version]string

const zeroes = ""

func (o truth) set(k Key, v Version, content string) {
	if o[k] == nil {
		o[k] = map[Version]string{}
	}
	o[k][v] = content
}

// at is the greatest version at or below a point.
func (o truth) at(k Key, at Version) (v Version, content string, ok bool) {
	for x, c := range o[k] {
		if !at.Less(x) && (!ok || v.Less(x)) {
			v, content, ok = x, c, true
		}
	}
	return v, content, ok
}

// world is layers and the truth about them.
type world struct {
	t      testing.TB
	rnd    *rand.Rand
	cipher Cipher
	cache  *Cache
	number uint64
	truth  truth
	layers []*Reader // oldest first
	disks  []uint16
	size   uint64 // sectors of a disk
	limit  int    // bytes of an index block
	span   uint64 // of positions
	hot    int    // percent of writes that hit one place
	zero   int    // percent of writes without content
}

func newWorld(t testing.TB, seed uint64) *world {
	rnd := newRand(seed)
	return &world{t: t, rnd: rnd, cipher: newGCM(t), cache: NewCache(int64(rnd.IntN(1 << 20))), truth: truth{}, disks: []uint16{0, 7}, size: 64 + rnd.Uint64N(400),
		limit: []int{100, 500, indexBytes}[rnd.IntN(3)], span: []uint64{40, 4000}[rnd.IntN(2)], hot: []int{10, 80}[rnd.IntN(2)], zero: 25}
}

func (w *world) version() Version {
	return Version{Epoch: 1 + w.rnd.Uint64N(3), Position: 1000 + w.rnd.Uint64N(w.span)}
}

func (w *world) bytes(n int) []byte {
	b := make([]byte, n)
	switch w.rnd.IntN(4) {
	case 0: // compresses
		copy(b, bytes.Repeat([]byte{byte(w.rnd.IntN(4))}, n))
	case 1: // half of it does
		for i := range n / 2 {
			b[i] = byte(w.rnd.Uint32())
		}
	default:
		for i := range b {
			b[i] = byte(w.rnd.Uint32())
		}
	}
	return b
}

// segment is random extents, told to the truth too.
func (w *world) segment(n int) *Memory {
	m := &Memory{}
	hot := w.rnd.Uint64N(w.size)
	for range n {
		disk := w.disks[w.rnd.IntN(len(w.disks))]
		sector := w.rnd.Uint64N(w.size)
		sectors := 1 + w.rnd.Uint64N(min(w.size-sector, 40))
		switch {
		case w.rnd.IntN(100) < w.hot:
			sector, sectors = hot, min(8, w.size-hot)
		case w.rnd.IntN(3) == 0: // aligned
			sector &^= 7
			sectors = 8
		}
		v := w.version()
		if w.rnd.IntN(100) < w.zero {
			m.Add(disk, sector, sectors, v, Zero, nil, nil)
			for s := range sectors {
				w.truth.set(Key{disk, sector + s}, v, zeroes)
			}
			continue
		}
		data := w.bytes(int(sectors) * SectorSize)
		var sums []uint64
		if w.rnd.IntN(2) == 0 {
			sums = Sums(nil, disk, sector, data)
		}
		m.Add(disk, sector, sectors, v, Data, data, sums)
		for s := range sectors {
			w.truth.set(Key{disk, sector + s}, v, string(data[s*SectorSize:(s+1)*SectorSize]))
		}
	}
	return m
}

func (w *world) write(it Iterator) *Reader {
	w.number++
	file, info := writtenSmall(w.t, w.cipher, w.number, it, w.limit)
	require.Empty(w.t, info.Lost)
	r := opened(w.t, w.cipher, w.number, file, w.cache)
	require.NoError(w.t, r.Verify(w.t.Context(), func(d Range, err error) { w.t.Errorf("damage at %+v: %v", d, err) }))
	return r
}

// check compares a range at a version, over all layers, with the truth.
func (w *world) check(disk uint16, sector, sectors uint64, at Version) {
	type found struct {
		v  Version
		c  string
		ok bool
	}
	got := make([]found, sectors)
	for _, r := range w.layers {
		w.batch(r, disk, sector, sectors, at)
		last := sector
		require.NoError(w.t, r.Lookup(w.t.Context(), disk, sector, sectors, at, func(p Piece) error {
			require.GreaterOrEqual(w.t, p.Sector, last)
			require.LessOrEqual(w.t, p.Sector+p.Sectors, sector+sectors)
			last = p.Sector + p.Sectors
			for p.Sectors > 0 { // in parts, as a caller would who knows better of some
				n := 1 + w.rnd.Uint64N(p.Sectors)
				part := p.Clip(p.Sector, n)
				data := make([]byte, part.Sectors*SectorSize)
				if p.Kind == Data {
					require.NoError(w.t, r.Read(w.t.Context(), part, data))
				}
				for i := range part.Sectors {
					c := zeroes
					if p.Kind == Data {
						c = string(data[i*SectorSize : (i+1)*SectorSize])
					}
					if f := &got[part.Sector-sector+i]; !f.ok || !p.Version.Less(f.v) {
						*f = found{p.Version, c, true}
					}
				}
				p = p.Clip(p.Sector+n, p.Sectors-n)
			}
			return nil
		}))
	}
	for i := range sectors {
		k := Key{disk, sector + i}
		v, c, ok := w.truth.at(k, at)
		g := got[i]
		if !ok && g.ok || ok && !g.ok && c != zeroes || ok && g.ok && (g.v != v || g.c != c) {
			w.t.Fatalf("disk %d, sector %d at %+v: have version %+v known %v, want %+v known %v, same content %v", disk, k.Sector, at, g.v, g.ok, v, ok, c == g.c)
		}
	}
}

// batch reads some parts of a range at once, and compares them with what each of them gives alone.
func (w *world) batch(r *Reader, disk uint16, sector, sectors uint64, at Version) {
	var parts []Part
	n := 0
	room := w.rnd.IntN(2) * SectorSize // between them
	require.NoError(w.t, r.Lookup(w.t.Context(), disk, sector, sectors, at, func(p Piece) error {
		for p.Kind == Data && p.Sectors > 0 {
			part := p.Clip(p.Sector, 1+w.rnd.Uint64N(2*p.Sectors))
			if w.rnd.IntN(8) > 0 {
				parts = append(parts, Part{Piece: part, At: n})
				n += int(part.Sectors)*SectorSize + room
			}
			p = p.Clip(part.Sector+part.Sectors, p.Sectors-part.Sectors)
		}
		return nil
	}))
	if w.rnd.IntN(2) == 0 {
		w.rnd.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	}
	buf := make([]byte, n)
	require.NoError(w.t, r.ReadParts(w.t.Context(), parts, buf))
	for i := range parts {
		one := make([]byte, parts[i].Sectors*SectorSize)
		require.NoError(w.t, r.Read(w.t.Context(), parts[i].Piece, one))
		require.True(w.t, bytes.Equal(one, buf[parts[i].At:][:len(one)]), "part %d of %d", i, len(parts))
	}
}

func (w *world) checkSome(n int, points []Version) {
	for range n {
		sector := w.rnd.Uint64N(w.size)
		w.check(w.disks[w.rnd.IntN(len(w.disks))], sector, 1+w.rnd.Uint64N(w.size-sector), points[w.rnd.IntN(len(points))])
	}
}

// forget makes the truth what Keep lets stay, so that nothing more may be found either.
func (w *world) forget(k Keep) {
	for key, versions := range w.truth {
		list := slices.SortedFunc(maps.Keys(versions), func(a, b Version) int { return b.Compare(a) })
		keep := map[Version]string{}
		for i, v := range list {
			shown := k.From.Less(v)
			for _, r := range append([]Version{k.From}, k.Points...) {
				shown = shown || !r.Less(v) && (i == 0 || r.Less(list[i-1]))
			}
			if shown {
				keep[v] = versions[v]
			}
		}
		w.truth[key] = keep
	}
}

// exactly compares all versions of a single layer with the truth.
func (w *world) exactly(r *Reader, bottom bool) {
	it := r.Iterate(Key{}, Key{}, false)
	defer func() { require.NoError(w.t, it.Close()) }()
	have := truth{}
	for {
		s, ok, err := it.Next(w.t.Context())
		require.NoError(w.t, err)
		if !ok {
			break
		}
		for i := range s.Entries {
			e := &s.Entries[i]
			data := make([]byte, s.Sectors*SectorSize)
			if e.Kind == Data {
				require.NoError(w.t, e.Load(w.t.Context(), data))
			}
			for k := range s.Sectors {
				c := zeroes
				if e.Kind == Data {
					c = string(data[k*SectorSize : (k+1)*SectorSize])
				}
				have.set(Key{s.Disk, s.Sector + k}, e.Version, c)
			}
		}
	}
	for k, versions := range w.truth {
		if bottom {
			for v, c := range versions {
				_, known := have[k][v]
				require.True(w.t, known || c == zeroes, "%+v at %+v", k, v)
			}
			continue
		}
		require.Equal(w.t, len(versions), len(have[k]), "%+v", k)
	}
	for k, versions := range have {
		for v, c := range versions {
			want, known := w.truth[k][v]
			require.True(w.t, known && want == c, "%+v at %+v", k, v)
		}
	}
}

func model(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	w.zero = []int{25, 95}[w.rnd.IntN(2)]
	for range 1 + w.rnd.IntN(5) {
		w.layers = append(w.layers, w.write(w.segment(1+w.rnd.IntN(250)).Iterate()))
	}
	points := make([]Version, 8)
	for i := range points {
		points[i] = w.version()
	}
	w.checkSome(10, points)

	// Merge neighbours without forgetting.
	if n := len(w.layers); n > 2 {
		i := w.rnd.IntN(n - 1)
		merged := w.write(Merge([]Iterator{w.layers[i].Iterate(Key{}, Key{}, false), w.layers[i+1].Iterate(Key{}, Key{}, false)}, Keep{}))
		w.layers = slices.Replace(w.layers, i, i+2, merged)
		w.checkSome(10, points)
	}

	// Merge all, and keep only what some points show; in several files, as a journal does.
	k := Keep{From: w.version(), Bottom: w.rnd.IntN(2) == 0}
	for range w.rnd.IntN(4) {
		k.Points = append(k.Points, w.version())
	}
	slices.SortFunc(k.Points, Version.Compare)
	cut := Key{Disk: w.disks[w.rnd.IntN(2)], Sector: w.rnd.Uint64N(w.size)}
	var low, high []Iterator
	for _, r := range w.layers {
		low = append(low, r.Iterate(Key{}, cut, true))
		high = append(high, r.Iterate(cut, Key{}, false))
	}
	all := []*Reader{w.write(Merge(low, k)), w.write(Merge(high, k))}
	w.layers = all
	w.forget(k)
	retained := append([]Version{k.From}, k.Points...)
	for _, p := range points {
		if k.From.Less(p) {
			retained = append(retained, p)
		}
	}
	w.checkSome(20, retained)
	whole := w.write(Merge([]Iterator{all[0].Iterate(Key{}, Key{}, false), all[1].Iterate(Key{}, Key{}, false)}, k))
	w.exactly(whole, k.Bottom)
	w.layers = []*Reader{whole}
	w.checkSome(10, retained)
}

func TestModel(t *testing.T) {
	n := 40
	if testing.Short() {
		n = 8
	}
	for _, seed := range seeds(t, n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, seed) })
	}
}
