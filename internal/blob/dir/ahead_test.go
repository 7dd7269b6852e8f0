package dir

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who reads on has what follows read ahead, once and not far; several may at a time, and who jumps about has nothing.
func TestAhead(t *testing.T) {
	var s streams
	const block = 64 << 10
	told := map[int64]int64{} // by stream: up to where
	for i := range int64(100) {
		for base := int64(0); base < maxStreams<<40; base += 1 << 40 {
			off := base + i*block
			from, n := s.note(off, block)
			if i == 0 {
				require.Zero(t, n, "nobody knows yet")
				told[base] = off + block
				continue
			}
			if n > 0 {
				require.Equal(t, max(told[base], off+block), from, "neither twice nor with gaps")
				told[base] = from + n
			}
			require.LessOrEqual(t, told[base], off+block+aheadBytes)
			require.Greater(t, told[base], off+block, "the next read is under way")
		}
	}
	for i := range int64(100) {
		_, n := s.note(1<<50+i*i*(aheadGap+block), 4096)
		require.Zero(t, n)
	}
}

func TestAheadOfAReaderThatSkipsALittle(t *testing.T) {
	var s streams
	_, n := s.note(4096, 8192)
	require.Zero(t, n)
	from, n := s.note(12288+aheadGap, 4096)
	require.EqualValues(t, 12288+aheadGap+4096, from)
	require.EqualValues(t, aheadBytes, n)
	_, n = s.note(12288+3*aheadGap, 4096)
	require.Zero(t, n, "too far")
	_, n = s.note(0, 4096)
	require.Zero(t, n, "and not back")
}
