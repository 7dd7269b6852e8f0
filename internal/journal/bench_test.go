package journal

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

const benchDisk = 1 << 30

func benchJournal(b *testing.B) *Journal {
	disks := []wire.Disk{{Bytes: benchDisk}}
	j, err := Create(b.Context(), vfs.OS, b.TempDir()+"/j", disks, Options{Keys: testKeys, Log: quiet})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, j.Close()) })
	open, err := wire.Message(wire.TypeEpochOpen, 1, 1, 1, 1, wire.EpochOpen{Disks: disks})
	require.NoError(b, err)
	require.NoError(b, j.Append(mustParse(b, open)))
	require.NoError(b, j.Append(mustParse(b, wire.Control(wire.TypeBaselineDone, 1, 1, 1, 1))))
	return j
}

// randomWrites makes frames of n 4 KiB writes each, of half compressible data.
func randomWrites(rng *rand.Rand, n int) func() []byte {
	var w wire.Builder
	pos := uint64(1)
	data := make([]byte, 4096)
	return func() []byte {
		w.Reset(wire.TypeData, 1)
		for range n {
			pos++
			for i := 0; i < len(data)/2; i += 8 {
				data[i] = byte(rng.Uint32())
			}
			sector := rng.Uint64N(benchDisk/4096) * 8
			w.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: pos, Sector: sector, Bytes: 4096, Time: int64(pos)}, data)
		}
		return w.Finish(nil)
	}
}

// One iteration is a frame of 64 random writes of 4 KiB, appended and synced.
func BenchmarkAppendSync(b *testing.B) {
	j := benchJournal(b)
	next := randomWrites(newRand(1), 64)
	b.SetBytes(64 * 4096)
	for b.Loop() {
		b.StopTimer()
		f := mustParse(b, next())
		b.StartTimer()
		require.NoError(b, j.Append(f))
		require.NoError(b, j.Sync())
	}
}

// One iteration is a random read of 4 KiB where 256 MiB of random writes are spread over 1 GiB.
func BenchmarkViewRead(b *testing.B) {
	j := benchJournal(b)
	rng := newRand(1)
	next := randomWrites(rng, 64)
	for range 1024 {
		require.NoError(b, j.Append(mustParse(b, next())))
	}
	require.NoError(b, j.Sync())
	p, err := j.Latest()
	require.NoError(b, err)
	v, err := j.View(b.Context(), p)
	require.NoError(b, err)
	b.ReportMetric(float64(v.Memory())/(1<<20), "view-MiB")
	buf := make([]byte, 4096)
	b.SetBytes(4096)
	for b.Loop() {
		require.NoError(b, v.ReadAt(b.Context(), 0, buf, rng.Int64N(benchDisk/4096)*4096))
	}
}

// One iteration opens a View of 65,536 random writes.
func BenchmarkViewOpen(b *testing.B) {
	j := benchJournal(b)
	next := randomWrites(newRand(1), 64)
	for range 1024 {
		require.NoError(b, j.Append(mustParse(b, next())))
	}
	require.NoError(b, j.Sync())
	p, err := j.Latest()
	require.NoError(b, err)
	for b.Loop() {
		v, err := j.View(b.Context(), p)
		require.NoError(b, err)
		require.NoError(b, v.Close())
	}
}
