package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Extents that are much longer than any bio cost an index entry for each terabyte; a frame of them must not cost the
// memory of everybody else's journals.
func TestOneFrameIsNoMemoryBomb(t *testing.T) {
	disks := []wire.Disk{{Index: 0, Device: "/dev/sda", Bytes: 1 << 56}}
	j, err := Create(t.Context(), vfstest.New(), simDir, disks, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	open, err := wire.Message(wire.TypeEpochOpen, 1, 100, 100, 1, wire.EpochOpen{Capture: "cafe", Disks: disks})
	require.NoError(t, err)
	require.NoError(t, j.Append(mustParse(t, open)))
	frame := func(extents int) wire.Frame {
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		for i := range extents {
			b.Add(wire.Extent{Kind: wire.KindDiscard, Flags: wire.EndOfBio, Position: uint64(101 + i), Bytes: 1 << 56}, nil)
		}
		return mustParse(t, b.Finish(nil))
	}
	require.True(t, fault.Is(j.Append(frame(17)), fault.Invalid))
	require.NoError(t, j.Append(frame(1)), "what it cannot refuse is possible")
	require.NoError(t, j.Sync())
	require.NoError(t, j.Close())
}

// Baseline lies at the first position of its epoch: if that were below the one of the epoch before, the older baseline
// would win.
func TestEpochsDoNotBeginBelowOneAnother(t *testing.T) {
	j, err := Create(t.Context(), vfstest.New(), simDir, simDisks, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.True(t, fault.Is(j.Append(mustParse(t, epochFrame(t, 2, 99))), fault.Conflict))
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 2, 100))))
	require.NoError(t, j.Close())
}
