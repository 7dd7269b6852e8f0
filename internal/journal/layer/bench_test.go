package layer

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// fileSource reads from the page cache, as a local blob store does.
type fileSource struct{ f *os.File }

func (s fileSource) ReadAt(_ context.Context, p []byte, off int64) error {
	_, err := s.f.ReadAt(p, off)
	return err
}

// cpu reports the processor time of an operation, which other processes on the machine do not change much.
func cpu(b *testing.B) func() {
	now := func() int64 {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := now()
	return func() { b.ReportMetric(float64(now()-start)/float64(b.N), "cpu-ns/op") }
}

// benchDisk is how many cells a benchmark's disk has: 256 MiB.
const benchDisk = 64 << 10

// randomWrites is 4 KiB writes all over the disk, each a version of its own.
func randomWrites(n int, seed, position uint64, compressible bool) *Memory {
	rnd := newRand(seed)
	m := &Memory{}
	for i := range n {
		data := make([]byte, cellBytes)
		for k := 0; k < len(data); k += 8 {
			v := rnd.Uint64()
			if compressible && k%64 >= 16 {
				v = 0x2020202020202020
			}
			copy(data[k:], []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24), byte(v >> 32), byte(v >> 40), byte(v >> 48), byte(v >> 56)})
		}
		sector := rnd.Uint64N(benchDisk) * CellSectors
		m.Add(0, sector, CellSectors, Version{1, position + uint64(i)*530}, Data, data, Sums(nil, 0, sector, data))
	}
	return m
}

// baseline is a whole disk in pieces of 256 KiB.
func baseline(cells int) *Memory {
	rnd := newRand(3)
	m := &Memory{}
	data := make([]byte, 256<<10)
	for k := range data {
		data[k] = byte(rnd.Uint32())
	}
	for c := 0; c < cells; c += 64 {
		m.Add(0, uint64(c)*CellSectors, 64*CellSectors, Version{1, 1}, Data, data, Sums(nil, 0, uint64(c)*CellSectors, data))
	}
	return m
}

func copyLayer(b *testing.B, c Cipher, number uint64, it Iterator, out io.Writer) Info {
	w, err := NewWriter(out, WriterOptions{Journal: testJournal, Number: number, Cipher: c})
	require.NoError(b, err)
	for {
		s, ok, err := it.Next(b.Context())
		require.NoError(b, err)
		if !ok {
			break
		}
		require.NoError(b, w.Add(b.Context(), s))
	}
	require.NoError(b, it.Close())
	info, err := w.Finish()
	require.NoError(b, err)
	return info
}

func benchLayer(b *testing.B, number uint64, m *Memory, cache *Cache) *Reader {
	f, err := os.Create(filepath.Join(b.TempDir(), "layer"))
	require.NoError(b, err)
	b.Cleanup(func() { f.Close() })
	info := copyLayer(b, newGCM(b), number, m.Iterate(), f)
	r, err := Open(b.Context(), fileSource{f}, info.Bytes, newGCM(b), cache, testJournal, number)
	require.NoError(b, err)
	return r
}

func BenchmarkWriter(b *testing.B) {
	for name, m := range map[string]*Memory{
		"random4k/incompressible": randomWrites(16384, 1, 0, false),
		"random4k/compressible":   randomWrites(16384, 1, 0, true),
		"baseline/incompressible": baseline(16384),
	} {
		b.Run(name, func(b *testing.B) {
			c := newGCM(b)
			b.SetBytes(64 << 20)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				copyLayer(b, c, 1, m.Iterate(), io.Discard)
			}
		})
	}
}

// BenchmarkLookup4K looks one cell up and reads it, as a View does in each of its layers.
func BenchmarkLookup4K(b *testing.B) {
	for _, x := range []struct {
		name         string
		compressible bool
		cache        int64
	}{{"warm", false, 512 << 20}, {"warm-compressible", true, 512 << 20}, {"cold-data", false, 8 << 20}, {"cold-data-compressible", true, 8 << 20}, {"cold", false, 0}} {
		b.Run(x.name, func(b *testing.B) {
			r := benchLayer(b, 1, randomWrites(65536, 1, 0, x.compressible), NewCache(x.cache))
			dst := make([]byte, cellBytes)
			rnd := newRand(5)
			one := func() {
				err := r.Lookup(b.Context(), 0, rnd.Uint64N(benchDisk)*CellSectors, CellSectors, Version{2, 0}, func(p Piece) error {
					return r.Read(b.Context(), p, dst)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			for range 200000 * min(x.cache, 1) {
				one()
			}
			b.ReportAllocs()
			b.ResetTimer()
			defer cpu(b)()
			for b.Loop() {
				one()
			}
		})
	}
}

// BenchmarkSequential reads a disk in requests of 256 KiB.
func BenchmarkSequential(b *testing.B) {
	for name, m := range map[string]*Memory{"baseline": baseline(16384), "random4k": randomWrites(65536, 1, 0, false)} {
		b.Run(name, func(b *testing.B) {
			r := benchLayer(b, 1, m, NewCache(16<<20))
			dst := make([]byte, 256<<10)
			var n int64
			defer cpu(b)()
			for b.Loop() {
				n = 0
				for s := uint64(0); s < benchDisk*CellSectors; s += 512 {
					err := r.Lookup(b.Context(), 0, s, 512, Version{2, 0}, func(p Piece) error {
						n += int64(p.Sectors * SectorSize)
						return r.Read(b.Context(), p, dst[(p.Sector-s)*SectorSize:][:p.Sectors*SectorSize])
					})
					require.NoError(b, err)
				}
			}
			b.SetBytes(n)
			b.ReportAllocs()
		})
	}
}

func BenchmarkIterate(b *testing.B) {
	for name, m := range map[string]*Memory{"baseline": baseline(16384), "random4k": randomWrites(16384, 1, 0, false)} {
		b.Run(name, func(b *testing.B) {
			r := benchLayer(b, 1, m, NewCache(16<<20))
			b.SetBytes(64 << 20)
			b.ReportAllocs()
			dst := make([]byte, 1<<20)
			defer cpu(b)()
			for b.Loop() {
				it := r.Iterate(Key{}, Key{}, false)
				for {
					s, ok, err := it.Next(b.Context())
					require.NoError(b, err)
					if !ok {
						break
					}
					for i := range s.Entries {
						require.NoError(b, s.Entries[i].Load(b.Context(), dst[:s.Sectors*SectorSize]))
					}
				}
				it.Close()
			}
		})
	}
}

// BenchmarkMerge makes one layer of three.
func BenchmarkMerge(b *testing.B) {
	for name, compressible := range map[string]bool{"incompressible": false, "compressible": true} {
		b.Run(name, func(b *testing.B) {
			var layers []*Reader
			for i := range uint64(3) {
				layers = append(layers, benchLayer(b, i+1, randomWrites(16384, i, i*16384*530, compressible), NewCache(16<<20)))
			}
			b.SetBytes(3 * 64 << 20)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				var in []Iterator
				for _, r := range layers {
					in = append(in, r.Iterate(Key{}, Key{}, false))
				}
				copyLayer(b, newGCM(b), 9, Merge(in, Keep{}), io.Discard)
			}
		})
	}
}

// BenchmarkSums is the price of verifying.
func BenchmarkSums(b *testing.B) {
	data := bytes.Repeat([]byte("understu"), 8192)
	var sums []uint64
	b.SetBytes(int64(len(data)))
	defer cpu(b)()
	for b.Loop() {
		sums = Sums(sums[:0], 0, 0, data)
	}
}
