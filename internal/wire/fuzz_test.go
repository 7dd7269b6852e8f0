package wire_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// FuzzParse: no bytes make a reader panic, allocate without bound or fail with an unclassified error, and what is
// accepted says what it holds.
func FuzzParse(f *testing.F) {
	for _, compressible := range []bool{true, false} {
		frame, _, _ := sample(compressible)
		f.Add(frame, true)
		f.Add(frame, false)
	}
	b, _, _ := sampleBuilder(true)
	b.DropSums()
	f.Add(b.Finish(nil), true)
	f.Add(wire.Control(wire.TypeMark, 1, 2, 3, 4), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) >= wire.HeaderSize {
			b = reseal(b) // else hardly anything would get past the checksum
		}
		frame, err := wire.Parse(b)
		if err != nil {
			require.NotEqual(t, fault.Unknown, fault.KindOf(err), "%v", err)
			return
		}
		extents, err := frame.ExtentTable(nil)
		if err != nil {
			require.True(t, fault.Is(err, fault.Corruption), "%v", err)
			return
		}
		payload, err := frame.Payload(nil)
		if err != nil {
			require.True(t, fault.Is(err, fault.Corruption), "%v", err)
			return
		}
		require.Len(t, payload, int(frame.RawBytes))
		if frame.Type != wire.TypeData && frame.Type != wire.TypeBaseline {
			return
		}
		data, cells := uint64(0), 0
		for _, e := range extents {
			require.True(t, e.Position >= frame.First && e.Position <= frame.Last)
			if e.Kind == wire.KindData {
				data += e.Bytes
				cells += wire.Cells(e.Sector, e.Bytes)
			}
		}
		require.EqualValues(t, len(payload), data)
		sums, err := frame.Sums(nil)
		require.NoError(t, err)
		require.Len(t, sums, cells)
	})
}

// FuzzBuild: what is built is read back as it was.
func FuzzBuild(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint16(3), []byte("hello"), uint8(1))
	f.Fuzz(func(t *testing.T, position, sector uint64, disk uint16, seed []byte, n uint8) {
		position, sector = position>>2, sector>>11
		var b wire.Builder
		b.Reset(wire.TypeData, position)
		var want []wire.Extent
		var raw []byte
		for i := range uint64(n % 16) {
			e := wire.Extent{Disk: disk, Kind: wire.Kind(1 + i%3), Flags: wire.ExtentFlags(i % 8), Position: position + i*i,
				Sector: sector + i, Bytes: 512 * (i % 5), Time: int64(i)}
			var data []byte
			if e.Kind == wire.KindData {
				data = bytes.Repeat(append(seed, byte(i)), int(e.Bytes))[:e.Bytes]
			}
			b.Add(e, data)
			want, raw = append(want, e), append(raw, data...)
		}
		frame, err := wire.Parse(b.Finish(nil))
		require.NoError(t, err)
		extents, err := frame.ExtentTable(nil)
		require.NoError(t, err)
		require.Equal(t, want, append([]wire.Extent(nil), extents...))
		payload, err := frame.Payload(nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(raw, payload))
		sums, err := frame.Sums(nil)
		require.NoError(t, err)
		require.Equal(t, wire.SumsOf(nil, want, raw), sums)
	})
}
