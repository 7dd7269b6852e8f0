package layer

import (
	"context"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
)

// hostile does everything with a reader that readers do. Errors are fine, all else is not.
func hostile(t *testing.T, r *Reader) {
	ctx := t.Context()
	buf := make([]byte, 1<<20)
	versions := []Version{{}, {1, 1020}, {math.MaxUint64, math.MaxUint64}}
	for i := range r.top {
		e := &r.top[i]
		for _, at := range append(versions, e.oldest, e.newest) {
			sectors := min(e.end-e.first, 4096)
			err := r.Lookup(ctx, e.disk, e.first, sectors, at, func(p Piece) error {
				require.True(t, p.Sectors > 0 && p.Sector >= e.first && p.Sector+p.Sectors <= e.first+sectors)
				if n := p.Sectors * SectorSize; p.Kind == Data && n <= uint64(len(buf)) {
					_ = r.Read(ctx, p, buf[:n])
				}
				return nil
			})
			require.True(t, err == nil || fault.Is(err, fault.Corruption), "%v", err)
		}
	}
	it := r.Iterate(Key{}, Key{}, false)
	last := Key{}
	for range 100000 {
		s, ok, err := it.Next(ctx)
		if err != nil || !ok {
			break
		}
		require.False(t, Key{s.Disk, s.Sector}.Compare(last) < 0 || s.Sectors == 0 || len(s.Entries) == 0)
		last = Key{s.Disk, s.Sector + s.Sectors}
		for i := range s.Entries {
			e := &s.Entries[i]
			require.True(t, i == 0 || e.Version.Less(s.Entries[i-1].Version))
			if n := s.Sectors * SectorSize; e.Kind == Data && n <= uint64(len(buf)) {
				_ = e.Load(ctx, buf[:n])
			}
		}
	}
	require.NoError(t, it.Close())
	require.NoError(t, r.Verify(ctx, func(Range, error) {}))
}

// sealFooters makes the checksums of a mutated file right, so that more than checksums is tried.
func sealFooters(b []byte) {
	fix := func(at int) {
		if at >= 0 && at+footerSize <= len(b) {
			binary.LittleEndian.PutUint64(b[at+56:], xxh3.Hash(b[at:at+56]))
		}
	}
	at := len(b) - footerSize
	fix(at)
	if at >= 0 {
		fix(int(binary.LittleEndian.Uint64(b[at+16:])) - footerSize)
	}
}

func FuzzOpen(f *testing.F) {
	for seed := range uint64(4) {
		w := newWorld(f, seed)
		w.size = 64
		file, _ := writtenSmall(f, plain{}, 1, w.segment(12).Iterate(), 100)
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		sealFooters(file)
		r, err := Open(t.Context(), memSource(file), int64(len(file)), plain{}, nil, testJournal, 1)
		if err != nil {
			require.True(t, fault.Is(err, fault.Corruption) || fault.Is(err, fault.Unsupported), "%v", err)
			return
		}
		hostile(t, r)
	})
}

// zeroSource is an endless file.
type zeroSource struct{}

func (zeroSource) ReadAt(_ context.Context, p []byte, _ int64) error { clear(p); return nil }

// FuzzIndex tries index blocks alone, which a mutated file seldom reaches.
func FuzzIndex(f *testing.F) {
	for seed := range uint64(6) {
		w := newWorld(f, seed)
		file, _ := writtenSmall(f, plain{}, 1, w.segment(60).Iterate(), 400)
		r := opened(f, plain{}, 1, file, nil)
		for i := range r.top {
			e := &r.top[i]
			raw := make([]byte, e.raw)
			sealed := make([]byte, e.stored)
			require.NoError(f, r.src.ReadAt(f.Context(), sealed, e.off))
			require.NoError(f, r.decode(raw, sealed, e.off, indexBlk, e.compressed))
			f.Add(raw, uint32(newestVersion), e.first, e.end, i+1 < len(r.top) && r.top[i+1].continued)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, format uint32, first, end uint64, goesOn bool) {
		e := topEntry{first: first, end: end, newest: Version{math.MaxUint64, math.MaxUint64}, off: 1 << 30, disk: 3}
		if len(raw) > maxIndexRaw || first >= end || end > maxSector {
			return
		}
		ix, err := parseIndex(raw, format, &e, neighbours{goesOn: goesOn}, 0, 1<<40)
		if err != nil {
			return
		}
		r := &Reader{file: file{src: zeroSource{}, cipher: plain{}, cache: NewCache(1 << 20), number: 1, size: 1 << 41, dataEnd: 1 << 40}, top: []topEntry{e}}
		k := cacheKey{number: 1, off: e.off}
		r.cache.limit = math.MaxInt64
		r.cache.putIndex(&k, ix)
		buf := make([]byte, 64<<10)
		at := []Version{{}, ix.base, e.newest, ix.newest(&ix.restarts[len(ix.restarts)-1])}
		for i := range ix.restarts {
			at = append(at[:4], ix.newest(&ix.restarts[i]))
			for _, v := range at {
				sectors := min(maxSector-ix.restarts[i].start, 1<<20)
				require.NoError(t, r.Lookup(t.Context(), 3, ix.restarts[i].start, sectors, v, func(p Piece) error {
					require.False(t, v.Less(p.Version))
					if n := p.Sectors * SectorSize; p.Kind == Data && n <= uint64(len(buf)) {
						_ = r.Read(t.Context(), p, buf[:n])
					}
					return nil
				}))
			}
			if i > 20 {
				break
			}
		}
	})
}
