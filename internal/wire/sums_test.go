package wire_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestCells(t *testing.T) {
	for _, c := range []struct {
		sector, bytes uint64
		want          int
	}{
		{0, 0, 0}, {5, 0, 0}, {0, 512, 1}, {7, 512, 1}, {7, 1024, 2}, {8, 4096, 1}, {9, 4096, 2}, {1, 3584, 1}, {1, 4096, 2},
		{0, 1 << 20, 256}, {1, 1 << 20, 257}, {1 << 54, 4096, 1}, {15, 4096 + 512, 2}, {15, 4096 + 1024, 3},
	} {
		require.Equal(t, c.want, wire.Cells(c.sector, c.bytes), "%d+%d", c.sector, c.bytes)
		if c.bytes < 1<<21 {
			require.Len(t, wire.AppendSums(nil, 0, c.sector, make([]byte, c.bytes)), c.want, "%d+%d", c.sector, c.bytes)
		}
	}
}

// TestSumsAreOfCellsOfTheDisk: what a later write leaves of an extent is summed in the same pieces, save at its ends.
func TestSumsAreOfCellsOfTheDisk(t *testing.T) {
	data := noise(1, 5*512+4096+512)
	sums := wire.AppendSums(nil, 3, 11, data)
	require.Equal(t, []uint64{
		xxh3.HashSeed(data[:5*512], 3<<48^11),
		xxh3.HashSeed(data[5*512:][:4096], 3<<48^16),
		xxh3.HashSeed(data[5*512+4096:], 3<<48^24),
	}, sums)
	require.Equal(t, sums[1:2], wire.AppendSums(nil, 3, 16, data[5*512:][:4096]), "the whole cell, written alone")
	require.NotEqual(t, sums, wire.AppendSums(nil, 2, 11, data), "the same bytes on another disk")
	require.NotEqual(t, sums[1:], wire.AppendSums(nil, 3, 24, data[5*512:])[:2], "the same bytes elsewhere")
	require.Equal(t, []uint64{42, sums[1]}, wire.AppendSums([]uint64{42}, 3, 16, data[5*512:][:4096]))
}

// TestSumsAreOfTheCallersMemory: of what Add was given, not of what became of it.
func TestSumsAreOfTheCallersMemory(t *testing.T) {
	data := noise(2, 8192)
	want := wire.AppendSums(nil, 1, 8, data)
	var b wire.Builder
	b.Reset(wire.TypeBaseline, 1)
	b.Add(wire.Extent{Disk: 1, Kind: wire.KindData, Position: 1, Sector: 8, Bytes: 8192}, data)
	clear(data)
	frame := b.Finish(nil)
	f, err := wire.Parse(frame)
	require.NoError(t, err)
	require.True(t, f.Summed())
	sums, err := f.Sums([]uint64{9})
	require.NoError(t, err)
	require.Equal(t, append([]uint64{9}, want...), sums)

	// A byte that changed between the sum and the frame's checksum is seen by comparing the two.
	frame[len(frame)-1]++
	f, err = wire.Parse(reseal(frame))
	require.NoError(t, err)
	var p wire.Prover
	err = p.Prove(&f)
	require.Equal(t, fault.Corruption, fault.KindOf(err))
	require.ErrorContains(t, err, "disk 1, sector 16:")
}

// TestFormats: a frame is written in the oldest format that can say it, and says the same sums in each.
func TestFormats(t *testing.T) {
	for _, compressible := range []bool{true, false} {
		b, _, _ := sampleBuilder(compressible)
		newer, err := wire.Parse(b.Finish(nil))
		require.NoError(t, err)
		require.EqualValues(t, wire.FormatV2, newer.Format)
		want, err := newer.Sums(nil)
		require.NoError(t, err)
		require.Len(t, want, 2)

		b.DropSums()
		older, err := wire.Parse(b.Finish(nil))
		require.NoError(t, err)
		require.EqualValues(t, wire.FormatV1, older.Format)
		require.False(t, older.Summed())
		require.Equal(t, newer.Size(), older.Size()+2*wire.SumSize)
		got, err := older.Sums(nil)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	var b wire.Builder
	b.Reset(wire.TypeBaseline, 1)
	b.Add(wire.Extent{Kind: wire.KindZero, Position: 1, Bytes: 1 << 30}, nil)
	for _, frame := range [][]byte{b.Finish(nil), wire.Control(wire.TypeAck, 0, 1, 2, 3)} {
		f, err := wire.Parse(frame)
		require.NoError(t, err)
		require.EqualValues(t, wire.FormatV1, f.Format, "nothing to sum")
		sums, err := f.Sums(nil)
		require.NoError(t, err)
		require.Empty(t, sums)
	}
	m, err := wire.Message(wire.TypeHello, 0, 0, 0, 0, wire.Hello{Versions: wire.Versions})
	require.NoError(t, err)
	require.EqualValues(t, wire.FormatV1, m[4], "a peer of any age understands a greeting")
}

// TestNumberOfSums: a table and sums that do not fit each other are refused before anybody indexes one by the other.
func TestNumberOfSums(t *testing.T) {
	le := binary.LittleEndian
	frame, _, _ := sample(false)
	extents := wire.HeaderSize
	sums := extents + 4*wire.ExtentSize
	for name, do := range map[string]func(b []byte) []byte{
		"one less": func(b []byte) []byte {
			le.PutUint32(b[8:], 4*wire.ExtentSize+wire.SumSize)
			return append(b[:sums:sums], b[sums+wire.SumSize:]...)
		},
		"one more": func(b []byte) []byte {
			le.PutUint32(b[8:], 4*wire.ExtentSize+3*wire.SumSize)
			return append(append(b[:sums:sums], make([]byte, wire.SumSize)...), b[sums:]...)
		},
		"none": func(b []byte) []byte {
			le.PutUint32(b[8:], 4*wire.ExtentSize)
			return append(b[:sums:sums], b[sums+2*wire.SumSize:]...)
		},
		"an extent across cells": func(b []byte) []byte { le.PutUint64(b[extents+8:], 9); return b },
		"an extent of no data":   func(b []byte) []byte { b[extents+wire.ExtentSize+2] = byte(wire.KindZero); return b },
		"data beyond a frame":    func(b []byte) []byte { le.PutUint64(b[extents+16:], 1<<63); return b },
	} {
		_, err := wire.Parse(reseal(do(bytes.Clone(frame))))
		require.True(t, fault.Is(err, fault.Corruption), "%s: %v", name, err)
	}
	// A reader allocates by the header: not more than a sum for each sector of payload.
	head := bytes.Clone(frame)
	le.PutUint32(head[8:], uint32(4*wire.ExtentSize+wire.SumSize*(4608/512+1)))
	_, err := wire.ParseHeader(head)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

// BenchmarkSums is what the sums cost the agent, per byte of content; BenchmarkBuild is all of Add and
// Finish, the sums included.
func BenchmarkSums(b *testing.B) {
	data := noise(3, 128<<10)
	sums := make([]uint64, 0, wire.Cells(0, uint64(len(data))))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sums = wire.AppendSums(sums[:0], 1, 2048, data)
	}
}

func BenchmarkBuild(b *testing.B) {
	data := noise(4, 32*4096)
	var w wire.Builder
	var frame []byte
	b.SetBytes(32 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		w.Reset(wire.TypeData, 1)
		for i := range uint64(32) {
			w.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: 1 + i, Sector: i * 64, Bytes: 4096}, data[i*4096:][:4096])
		}
		frame = w.Finish(frame[:0])
	}
	b.ReportMetric(float64(len(frame))/(32*4096), "wire/raw")
}

// BenchmarkParse is what a server does with each frame before it appends it.
func BenchmarkParse(b *testing.B) {
	data := noise(4, 32*4096)
	var w wire.Builder
	w.Reset(wire.TypeData, 1)
	for i := range uint64(32) {
		w.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: 1 + i, Sector: i * 64, Bytes: 4096}, data[i*4096:][:4096])
	}
	newer := w.Finish(nil)
	w.DropSums()
	for name, frame := range map[string][]byte{"format1": w.Finish(nil), "format2": newer} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(32 * 4096)
			for b.Loop() {
				if _, err := wire.Parse(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestProve: whole frames of any content prove, in one Prover after the other, and no byte of the content or the sums may change.
func TestProve(t *testing.T) {
	var p wire.Prover
	for i := range 40 {
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		for n := range 1 + i%5 {
			bytes := 512 * (1 + (i*7+n)%40)
			data := noise(byte(i), bytes)
			if i%2 == 0 {
				data = make([]byte, bytes) // compresses
			}
			b.Add(wire.Extent{Disk: uint16(n), Kind: wire.KindData, Position: uint64(n + 1), Sector: uint64(i + n), Bytes: uint64(bytes)}, data)
			b.Add(wire.Extent{Disk: uint16(n), Kind: wire.KindZero, Position: uint64(n + 1), Sector: uint64(i), Bytes: 4096}, nil)
		}
		frame := b.Finish(nil)
		f, err := wire.Parse(frame)
		require.NoError(t, err)
		require.NoError(t, p.Prove(&f))
		table := wire.HeaderSize + int(f.Extents)*wire.ExtentSize
		for _, at := range []int{table, table + i, len(frame) - 1} {
			bad := bytes.Clone(frame)
			bad[at] ^= 0x10
			f, err := wire.Parse(reseal(bad))
			require.NoError(t, err)
			require.Equal(t, fault.Corruption, fault.KindOf(p.Prove(&f)), "byte %d of %d", at, len(frame))
		}
	}
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	b.Add(wire.Extent{Kind: wire.KindData, Position: 1, Bytes: 512}, noise(1, 512))
	b.DropSums()
	f, err := wire.Parse(b.Finish(nil))
	require.NoError(t, err)
	require.NoError(t, p.Prove(&f), "format 1 has nothing to prove")
}
