package wire_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// sample is a frame with every kind of extent; its payload compresses or does not.
func sample(compressible bool) ([]byte, []wire.Extent, []byte) {
	b, extents, raw := sampleBuilder(compressible)
	return b.Finish(nil), extents, raw
}

func sampleBuilder(compressible bool) (*wire.Builder, []wire.Extent, []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b wire.Builder
	b.Reset(wire.TypeData, 7)
	extents := []wire.Extent{
		{Disk: 0, Kind: wire.KindData, Flags: wire.Preflush | wire.FUA, Position: 1000, Sector: 8, Bytes: 4096, Time: 1_700_000_000_000_000_001},
		{Disk: 0, Kind: wire.KindData, Flags: wire.EndOfBio, Position: 1000, Sector: 16, Bytes: 512, Time: 1_700_000_000_000_000_001},
		{Disk: 3, Kind: wire.KindZero, Flags: wire.EndOfBio, Position: 1007, Sector: 1 << 40, Bytes: 1 << 40, Time: 1_700_000_000_000_000_002},
		{Disk: 65535, Kind: wire.KindDiscard, Flags: wire.EndOfBio, Position: 1000 + 1<<32 - 1, Sector: 0, Bytes: 512, Time: 1_700_000_000_000_000_003},
	}
	var raw []byte
	for _, e := range extents {
		var data []byte
		if e.Kind == wire.KindData {
			data = bytes.Repeat([]byte{'u'}, int(e.Bytes))
			if !compressible {
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
			}
		}
		b.Add(e, data)
		raw = append(raw, data...)
	}
	return &b, extents, raw
}

func TestRoundTrip(t *testing.T) {
	for _, compressible := range []bool{true, false} {
		frame, extents, raw := sample(compressible)
		f, err := wire.Parse(append(bytes.Clone(frame), "what follows"...))
		require.NoError(t, err)
		require.Equal(t, frame, f.Bytes)
		require.Equal(t, wire.TypeData, f.Type)
		require.EqualValues(t, 7, f.Epoch)
		require.EqualValues(t, 1000, f.First)
		require.EqualValues(t, 1000+1<<32-1, f.Last)
		require.EqualValues(t, 1_700_000_000_000_000_003, f.Time)
		require.Equal(t, compressible, int(f.PayloadBytes) < len(raw), "only what shrinks is stored compressed")
		got, err := f.ExtentTable(nil)
		require.NoError(t, err)
		require.Equal(t, extents, got)
		payload, err := f.Payload(nil)
		require.NoError(t, err)
		require.Equal(t, raw, payload)
	}
}

// reseal makes the checksum of a changed frame right again, so that only the change is wrong.
func reseal(frame []byte) []byte {
	sum := xxh3.Hash(append(bytes.Clone(frame[:56]), frame[64:]...))
	binary.LittleEndian.PutUint64(frame[56:], sum)
	return frame
}

// read parses a frame and everything in it.
func read(frame []byte) error {
	f, err := wire.Parse(frame)
	if err != nil {
		return err
	}
	if _, err := f.ExtentTable(nil); err != nil {
		return err
	}
	if _, err = f.Payload(nil); err != nil {
		return err
	}
	_, err = f.Sums(nil)
	return err
}

func TestEveryBitIsSummed(t *testing.T) {
	frame, _, _ := sample(true)
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 1 << (i % 8)
		require.Error(t, read(bad), "byte %d", i)
	}
}

func TestTruncation(t *testing.T) {
	frame, _, _ := sample(true)
	for n := range frame {
		_, err := wire.Parse(frame[:n])
		require.True(t, fault.Is(err, fault.Corruption), "%d bytes: %v", n, err)
	}
}

// TestBrokenHeader breaks each field once and makes the checksum right again: what a field means is checked too.
func TestBrokenHeader(t *testing.T) {
	le := binary.LittleEndian
	plain, _, _ := sample(false)
	packed, _, _ := sample(true)
	cases := []struct {
		name  string
		frame []byte
		kind  fault.Kind
		do    func(b []byte)
	}{
		{"magic", plain, fault.Corruption, func(b []byte) { b[0] = 'X' }},
		{"newer format", plain, fault.Unsupported, func(b []byte) { b[4] = wire.FormatV2 + 1 }},
		{"format zero", plain, fault.Unsupported, func(b []byte) { b[4] = 0 }},
		{"unknown flag", plain, fault.Unsupported, func(b []byte) { le.PutUint16(b[6:], 1<<1) }},
		{"compressed that is not", plain, fault.Corruption, func(b []byte) { le.PutUint16(b[6:], 1) }},
		{"plain that is not", packed, fault.Corruption, func(b []byte) { le.PutUint16(b[6:], 0) }},
		{"table bytes", plain, fault.Corruption, func(b []byte) { le.PutUint32(b[8:], 3*wire.ExtentSize) }},
		{"sums in format 1", plain, fault.Corruption, func(b []byte) { b[4] = wire.FormatV1 }},
		{"half a sum", plain, fault.Corruption, func(b []byte) { le.PutUint32(b[8:], 4*wire.ExtentSize+12) }},
		{"payload bytes", plain, fault.Corruption, func(b []byte) { le.PutUint32(b[12:], 4607) }},
		{"payload over the limit", packed, fault.Corruption, func(b []byte) { le.PutUint32(b[12:], 5<<20+1) }},
		{"raw bytes", packed, fault.Corruption, func(b []byte) { le.PutUint32(b[16:], 4607) }},
		{"raw over the limit", packed, fault.Corruption, func(b []byte) { le.PutUint32(b[16:], wire.MaxRaw+1) }},
		{"extents", plain, fault.Corruption, func(b []byte) { le.PutUint32(b[20:], 5) }},
		{"extents over the limit", plain, fault.Corruption, func(b []byte) {
			le.PutUint32(b[20:], wire.MaxExtents+1)
			le.PutUint32(b[8:], (wire.MaxExtents+1)*wire.ExtentSize)
		}},
		{"extents that wrap", plain, fault.Corruption, func(b []byte) {
			le.PutUint32(b[20:], 1<<27)
			le.PutUint32(b[8:], 0)
		}},
		{"last below an extent", plain, fault.Corruption, func(b []byte) { le.PutUint64(b[40:], 1006) }},
	}
	for _, c := range cases {
		b := bytes.Clone(c.frame)
		c.do(b)
		err := read(reseal(b))
		require.True(t, fault.Is(err, c.kind), "%s: %v", c.name, err)
	}
	b := bytes.Clone(plain)
	b[56]++
	require.True(t, fault.Is(read(b), fault.Corruption), "checksum")
}

// TestHeaderLimits: a reader allocates by the header, before it can check the sum.
func TestHeaderLimits(t *testing.T) {
	le := binary.LittleEndian
	for name, do := range map[string]func(b []byte){
		"extents": func(b []byte) {
			le.PutUint32(b[20:], wire.MaxExtents+1)
			le.PutUint32(b[8:], (wire.MaxExtents+1)*wire.ExtentSize)
		},
		"stored": func(b []byte) { le.PutUint32(b[12:], 5<<20+1) },
		"raw":    func(b []byte) { le.PutUint32(b[16:], wire.MaxRaw+1) },
	} {
		frame, _, _ := sample(true)
		do(frame)
		_, err := wire.ParseHeader(frame)
		require.True(t, fault.Is(err, fault.Corruption), "%s: %v", name, err)
	}
}

func TestBrokenExtent(t *testing.T) {
	le := binary.LittleEndian
	frame, _, _ := sample(false)
	second := wire.HeaderSize + wire.ExtentSize
	cases := map[string]func(e []byte){
		"kind 0":             func(e []byte) { e[2] = 0 },
		"kind 4":             func(e []byte) { e[2] = 4 },
		"data as zeroes":     func(e []byte) { e[2] = byte(wire.KindZero) },
		"before the last":    func(e []byte) { le.PutUint32(e[4:], 8) },
		"sector":             func(e []byte) { le.PutUint64(e[8:], 1<<54+1) },
		"longer than data":   func(e []byte) { le.PutUint64(e[16:], 1024) },
		"length that wraps":  func(e []byte) { le.PutUint64(e[16:], 1<<63) },
		"more than a frame":  func(e []byte) { le.PutUint64(e[16:], wire.MaxRaw+512) },
		"end past the space": func(e []byte) { e[2] = byte(wire.KindZero); le.PutUint64(e[16:], 1<<62+512) },
	}
	half := bytes.Clone(frame)
	le.PutUint64(half[second+wire.ExtentSize+16:], 511)
	require.True(t, fault.Is(read(reseal(half)), fault.Corruption), "half a sector of zeroes")
	for name, do := range cases {
		b := bytes.Clone(frame)
		do(b[second : second+wire.ExtentSize])
		err := read(reseal(b))
		require.True(t, fault.Is(err, fault.Corruption), "%s: %v", name, err)
	}
}

func TestBuilderLimits(t *testing.T) {
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	require.True(t, b.Empty())
	require.True(t, b.Fits(1, wire.MaxRaw))
	require.False(t, b.Fits(1, wire.MaxRaw+1))
	b.Add(wire.Extent{Kind: wire.KindData, Position: 5, Bytes: wire.MaxRaw - 512}, make([]byte, wire.MaxRaw-512))
	require.True(t, b.Fits(5, 512))
	require.False(t, b.Fits(5, 1024))
	require.True(t, b.Fits(5+1<<32-1, 0))
	require.False(t, b.Fits(5+1<<32, 0), "positions of a frame span less than 2^32")

	b.Reset(wire.TypeBaseline, 1)
	for i := range wire.MaxExtents {
		require.True(t, b.Fits(9, 0), "extent %d", i)
		b.Add(wire.Extent{Kind: wire.KindZero, Position: 9, Sector: uint64(i), Bytes: 512}, nil)
	}
	require.False(t, b.Fits(9, 0))
	require.NoError(t, read(b.Finish(nil)), "a frame at the limit is a frame")

	b.Reset(wire.TypeData, 1)
	big := make([]byte, wire.MaxRaw)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(big)
	b.Add(wire.Extent{Kind: wire.KindData, Position: 1, Bytes: wire.MaxRaw}, big)
	require.NoError(t, read(b.Finish(nil)), "what does not shrink fits too")
}

func TestBuilderReuse(t *testing.T) {
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	data := []byte(string(make([]byte, 512)))
	b.Add(wire.Extent{Kind: wire.KindData, Position: 1, Bytes: 512, Time: 9}, data)
	data[0] = 'x' // memory that is about to be reused
	f, err := wire.Parse(b.Finish([]byte("before"))[len("before"):])
	require.NoError(t, err)
	p, err := f.Payload(nil)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 512), p)

	b.Reset(wire.TypeMark, 2)
	require.Zero(t, b.RawBytes())
	require.Zero(t, b.Extents())
	b.Span(3, 4, 5)
	f, err = wire.Parse(b.Finish(nil))
	require.NoError(t, err)
	require.Equal(t, wire.Header{Format: wire.FormatV1, Type: wire.TypeMark, Epoch: 2, First: 3, Last: 4, Time: 5, Checksum: f.Checksum}, f.Header)
}

var update = flag.Bool("update", false, "write testdata/v2.frames; never once it is released")

// TestForEver reads frames that earlier releases wrote, one file for each format: they lie in journals.
func TestForEver(t *testing.T) {
	if *update {
		require.NoError(t, os.WriteFile("testdata/v2.frames", goldenFrames(t), 0o644))
	}
	for format, path := range map[uint8]string{wire.FormatV1: "testdata/v1.frames", wire.FormatV2: "testdata/v2.frames"} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		readGolden(t, format, b)
	}
}

func readGolden(t *testing.T, format uint8, b []byte) {
	var types []wire.Type
	for len(b) > 0 {
		f, err := wire.Parse(b)
		require.NoError(t, err, "%d bytes before the end", len(b))
		extents, err := f.ExtentTable(nil)
		require.NoError(t, err)
		payload, err := f.Payload(nil)
		require.NoError(t, err)
		types = append(types, f.Type)
		switch f.Type {
		case wire.TypeData:
			_, want, raw := sample(len(types) == 1)
			require.Equal(t, want, extents)
			require.Equal(t, raw, payload)
			require.Equal(t, format, f.Format)
			sums, err := f.Sums(nil)
			require.NoError(t, err)
			require.Equal(t, goldenSums[len(types)-1][:], sums)
		case wire.TypeEpochOpen:
			var open wire.EpochOpen
			require.NoError(t, f.Unmarshal(&open))
			require.Equal(t, goldenOpen, open)
		case wire.TypeMark:
			require.Equal(t, [4]uint64{7, 8, 9, 10}, [4]uint64{f.Epoch, f.First, f.Last, uint64(f.Time)})
		}
		b = b[f.Size():]
	}
	require.Equal(t, []wire.Type{wire.TypeData, wire.TypeData, wire.TypeBaseline, wire.TypeEpochOpen, wire.TypeBaselineDone,
		wire.TypeMark, wire.TypeAck}, types)
}

// goldenSums are written down, not computed: layers keep them for years.
var goldenSums = [2][2]uint64{{0x1be1a5cc839a9c7d, 0x59093f396ce93388}, {0xd22203298d8ab729, 0xdf70ef4990a850b9}}

var goldenOpen = wire.EpochOpen{Capture: "00112233445566778899aabbccddeeff", Reason: "gap",
	Disks: []wire.Disk{{Index: 0, Device: "/dev/vda", Bytes: 1 << 30}, {Index: 1, Device: "/dev/vdb", Bytes: 512}}}

func goldenFrames(t *testing.T) []byte {
	packed, _, _ := sample(true)
	plain, _, _ := sample(false)
	var b wire.Builder
	b.Reset(wire.TypeBaseline, 7)
	b.Add(wire.Extent{Kind: wire.KindZero, Position: 42, Sector: 0, Bytes: 1 << 20, Time: 1}, nil)
	b.Add(wire.Extent{Kind: wire.KindData, Position: 42, Sector: 2048, Bytes: 512, Time: 1}, make([]byte, 512))
	out := append(packed, plain...)
	out = b.Finish(out)
	open, err := wire.Message(wire.TypeEpochOpen, 7, 8, 8, 10, goldenOpen)
	require.NoError(t, err)
	out = append(out, open...)
	out = append(out, wire.Control(wire.TypeBaselineDone, 7, 8, 9, 10)...)
	out = append(out, wire.Control(wire.TypeMark, 7, 8, 9, 10)...)
	return append(out, wire.Control(wire.TypeAck, 0, 3, 9, 0)...)
}
