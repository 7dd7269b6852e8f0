package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/understudy-dr/understudy/internal/fault"
)

func digester(t testing.TB, key byte) *Digester {
	d, err := NewDigester(bytes.Repeat([]byte{key}, KeySize))
	require.NoError(t, err)
	return d
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// The digest is what docs/formats/frame.md says, computed here without Digester.
func TestDigestAsDocumented(t *testing.T) {
	b := content(3*4096 + 512)
	got := digester(t, 7).Append(nil, 3, 80, 8, b)
	require.Len(t, got, 4*DigestSize)
	for i := range 4 {
		h, err := blake3.NewKeyed(bytes.Repeat([]byte{7}, KeySize))
		require.NoError(t, err)
		var place [16]byte
		binary.LittleEndian.PutUint64(place[:], 3)
		binary.LittleEndian.PutUint64(place[8:], 80+8*uint64(i))
		_, _ = h.Write(append(bytes.Clone(b[i*4096:min((i+1)*4096, len(b))]), place[:]...))
		require.Equal(t, h.Sum(nil)[:DigestSize], got[i*DigestSize:(i+1)*DigestSize], "piece %d", i)
	}
}

func TestDigestTellsApart(t *testing.T) {
	b := content(64 << 10)
	of := func(key byte, disk uint16, sector uint64) []byte {
		return digester(t, key).Append(nil, disk, sector, MaxPiece/SectorSize, b)
	}
	same := of(1, 0, 0)
	require.True(t, Same(same, of(1, 0, 0)))
	require.False(t, Same(same, of(2, 0, 0)), "another key")
	require.False(t, Same(same, of(1, 1, 0)), "another disk")
	require.False(t, Same(same, of(1, 0, 1)), "another place")
	b[40000] ^= 1
	require.False(t, Same(same, of(1, 0, 0)), "another bit")
	b[40000] ^= 1
	require.True(t, Same(same, of(1, 0, 0)))
}

func TestZeroAndUnknown(t *testing.T) {
	d := digester(t, 1)
	zero := make([]byte, 200<<10)
	require.Equal(t, AppendZero(nil, 4), d.Append(nil, 1, 8, 128, zero), "the last piece is shorter")
	for _, at := range []int{0, 64<<10 - 1, 64 << 10, len(zero) - 1} {
		zero[at] = 1
		require.False(t, Same(d.Append(nil, 1, 8, MaxPiece/SectorSize, zero), AppendZero(nil, 1)), "byte %d", at)
		zero[at] = 0
	}
	require.False(t, Same(AppendUnknown(nil), AppendUnknown(nil)), "unknown is not even itself")
}

func TestAskLimits(t *testing.T) {
	good := Ask{Piece: 8, Ranges: []Range{{Sector: 5, Sectors: 17}, {Disk: 2, Sectors: 8}}}
	require.NoError(t, good.Check())
	require.Equal(t, 4, good.Pieces())
	for name, a := range map[string]Ask{
		"no piece":       {Ranges: good.Ranges},
		"large piece":    {Piece: MaxPiece/SectorSize + 1, Ranges: good.Ranges},
		"many ranges":    {Piece: 8, Ranges: make([]Range, MaxAskRanges+1)},
		"many pieces":    {Piece: 1, Ranges: []Range{{Sectors: MaxPieces + 1}}},
		"many bytes":     {Piece: 2048, Ranges: []Range{{Sectors: MaxAskBytes / SectorSize}, {Sectors: 1}}},
		"around the end": {Piece: 8, Ranges: []Range{{Sector: ^uint64(0), Sectors: 8}}},
		"overflow":       {Piece: 8, Ranges: []Range{{Sectors: 1 << 63}, {Sectors: 1 << 63}}},
	} {
		require.True(t, fault.Is(a.Check(), fault.Invalid), name)
	}
	_, err := NewDigester(make([]byte, 31))
	require.True(t, fault.Is(err, fault.Invalid))
}

func BenchmarkDigest(b *testing.B) {
	d, data := digester(b, 1), content(1<<20)
	for name, piece := range map[string]uint64{"1MiB": 2048, "4KiB": 8} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var out []byte
			for b.Loop() {
				out = d.Append(out[:0], 0, 0, piece, data)
			}
		})
	}
}
