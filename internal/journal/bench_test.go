package journal

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/journal/layer"
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
				binary.LittleEndian.PutUint64(data[i:], rng.Uint64())
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

// fill writes n frames of 64 random writes of 4 KiB, flushing and merging as it goes, like a replication server does.
func fill(b *testing.B, j *Journal, rng *rand.Rand, n int) {
	next := randomWrites(rng, 64)
	for range n {
		require.NoError(b, j.Append(mustParse(b, next())))
		for j.Pressure() != Relaxed {
			_, err := j.Maintain(b.Context(), Limits{})
			require.NoError(b, err)
		}
	}
	require.NoError(b, j.Sync())
}

func latest(b *testing.B, j *Journal) *View {
	p, err := j.Latest()
	require.NoError(b, err)
	v, err := j.View(b.Context(), p)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, v.Close()) })
	return v
}

// One iteration is a random read of 4 KiB where 1 GiB of random writes are spread over 1 GiB, in layers.
func BenchmarkViewRead(b *testing.B) {
	j := benchJournal(b)
	rng := newRand(1)
	fill(b, j, rng, 4096)
	quiesce(b, j)
	v := latest(b, j)
	buf := make([]byte, 4096)
	b.SetBytes(4096)
	for b.Loop() {
		require.NoError(b, v.ReadAt(b.Context(), 0, buf, rng.Int64N(benchDisk/4096)*4096))
	}
	b.ReportMetric(float64(v.Memory())/(1<<20), "view-MiB")
	b.ReportMetric(float64(j.Usage().Runs), "runs")
}

// One iteration reads 1 MiB, in order.
func BenchmarkViewReadSequential(b *testing.B) {
	j := benchJournal(b)
	rng := newRand(1)
	fill(b, j, rng, 4096)
	quiesce(b, j)
	v := latest(b, j)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	off := int64(0)
	for b.Loop() {
		require.NoError(b, v.ReadAt(b.Context(), 0, buf, off))
		off = (off + int64(len(buf))) % benchDisk
	}
}

// One iteration opens a View of 16,384 random writes that are not in layers yet.
func BenchmarkViewOpen(b *testing.B) {
	j := benchJournal(b)
	fill(b, j, newRand(1), 256)
	p, err := j.Latest()
	require.NoError(b, err)
	for b.Loop() {
		v, err := j.View(b.Context(), p)
		require.NoError(b, err)
		require.NoError(b, v.Close())
	}
}

// One iteration notes as many lost stretches as are kept, twice, as a reader and the merge behind it do.
func BenchmarkNoteLost(b *testing.B) {
	lost := make([]layer.Range, maxDamage)
	for i := range lost {
		lost[i] = layer.Range{Sector: uint64(i) * 16, Sectors: 8, Version: layer.Version{Epoch: 1, Position: uint64(i)}}
	}
	j := &Journal{log: quiet, pub: published{cat: &catalogue{}}}
	for b.Loop() {
		j.noted, j.known = nil, nil
		j.noteLost("layer-1", lost)
		j.noteLost("layer-1", lost)
		require.Len(b, j.noted, maxDamage)
	}
}
