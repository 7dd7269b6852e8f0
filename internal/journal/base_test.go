package journal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

func baselineFrame(epoch, first, sector uint64, fill byte) []byte {
	var b wire.Builder
	b.Reset(wire.TypeBaseline, epoch)
	b.Add(wire.Extent{Kind: wire.KindData, Position: first, Sector: sector, Bytes: 1024, Time: 1}, bytes.Repeat([]byte{fill}, 1024))
	return b.Finish(nil)
}

// The base holds all of earlier epochs, whole or not, and this epoch's baseline, but none of its captured writes; so it
// does after everything went to layers.
func TestBase(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		h := newHistory(t, Options{SegmentBytes: 1400})
		h.write(5, 0) // positions 101 to 105: sectors 0 to 9
		if flushed {
			quiesce(t, h.j)
		}
		h.append(epochFrame(t, 2, 200), baselineFrame(2, 200, 0, 0x20), dataFrame(2, 201, 2, 0x21)) // never complete
		h.append(epochFrame(t, 3, 300), dataFrame(3, 301, 2, 0x31), dataFrame(3, 302, 12, 0x32), baselineFrame(3, 300, 4, 0x30))
		want := bytes.Clone(h.disk[:20*512])
		copy(want, bytes.Repeat([]byte{0x20}, 1024))
		copy(want[2*512:], bytes.Repeat([]byte{0x21}, 1024))
		copy(want[4*512:], bytes.Repeat([]byte{0x30}, 1024))
		if flushed {
			quiesce(t, h.j)
		}
		v, err := h.j.Base(t.Context(), 3)
		require.NoError(t, err)
		got := make([]byte, len(want))
		require.NoError(t, v.ReadAt(t.Context(), 0, got, 0))
		require.Equal(t, want, got, "flushed %v", flushed)

		h.append(baselineFrame(3, 300, 0, 0x33))
		require.NoError(t, v.ReadAt(t.Context(), 0, got, 0))
		require.Equal(t, want, got, "a view does not change")
		require.NoError(t, v.Close())
		copy(want, bytes.Repeat([]byte{0x33}, 1024))
		v, err = h.j.Base(t.Context(), 3)
		require.NoError(t, err)
		require.NoError(t, v.ReadAt(t.Context(), 0, got, 0))
		require.Equal(t, want, got, "another one shows what has come")
		require.NoError(t, v.Close())

		_, err = h.j.Base(t.Context(), 2)
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		require.Empty(t, h.j.held, "nothing is held")
	}
}
