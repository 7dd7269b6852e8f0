package nbd

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// coverage against one flag per byte.
func TestCoverage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 64
		var flags [size]bool
		var c coverage
		for range rapid.IntRange(1, 40).Draw(t, "chunks") {
			off := rapid.Int64Range(0, size-1).Draw(t, "off")
			n := rapid.Int64Range(1, min(12, size-off)).Draw(t, "n")
			fresh := true
			for i := off; i < off+n; i++ {
				fresh = fresh && !flags[i]
			}
			require.Equal(t, fresh, c.add(off, n))
			for i := off; fresh && i < off+n; i++ {
				flags[i] = true
			}
			full := true
			for i := range flags {
				full = full && flags[i]
			}
			require.Equal(t, full, c.full(0, size))
		}
	})
}

func TestCoverageIsBounded(t *testing.T) {
	var c coverage
	for i := range int64(maxFragments) {
		require.True(t, c.add(2*i, 1))
	}
	require.False(t, c.add(2*maxFragments, 1))
	require.True(t, c.add(1, 1), "joining needs no room")
}

// Whatever the backend's blocks, spans and pieces cover the range in order, truthfully.
func TestSpansAndPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk(40 * diskBlock)
		for i := range d.used {
			d.used[i] = rapid.Bool().Draw(t, "used")
		}
		off := rapid.Int64Range(0, d.Size()-1).Draw(t, "off")
		length := rapid.Int64Range(1, d.Size()-off).Draw(t, "length")
		minHole := rapid.SampledFrom([]int64{1, diskBlock, 3 * diskBlock}).Draw(t, "minHole")
		size := rapid.SampledFrom([]int64{512, 3 * diskBlock, 1 << 20}).Draw(t, "piece")
		spans, err := spansOf(context.Background(), d, off, length, minHole, math.MaxInt)
		require.NoError(t, err)
		for i := 1; i < len(spans); i++ {
			require.NotEqual(t, spans[i-1].hole, spans[i].hole)
		}
		for _, s := range spans {
			require.True(t, !s.hole || s.length >= minHole)
		}
		at := off
		for _, p := range pieces(spans, size) {
			require.Equal(t, at, p.off)
			require.Positive(t, p.length)
			require.True(t, p.hole || p.length <= size && p.off/size == (p.end()-1)/size)
			for b := p.off / diskBlock; p.hole && b <= (p.end()-1)/diskBlock; b++ {
				require.False(t, d.used[b])
			}
			at = p.end()
		}
		require.Equal(t, off+length, at)
	})
}

func TestClip(t *testing.T) {
	require.Equal(t, "abc", clip("abc", 10))
	require.Equal(t, "ab", clip("abc", 2))
	require.Equal(t, "a", clip("aé", 2), "no half letters")
	require.Equal(t, "a?b?", clip("a\x00b\xff", 10))
}
