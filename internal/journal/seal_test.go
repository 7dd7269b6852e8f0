package journal

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// A segment is sealed in the middle of a batch: when its fsync fails, what the batch had appended before is gone, and
// Sync, after which the sink acknowledges those frames, must say so.
func TestSyncTellsOfAFailedSeal(t *testing.T) {
	fs := vfstest.New()
	j, err := Create(t.Context(), fs, simDir, simDisks, Options{Keys: testKeys, SegmentBytes: 700, Log: quiet})
	require.NoError(t, err)
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.NoError(t, j.Append(mustParse(t, doneFrame(1, 100))))
	require.NoError(t, j.Sync())

	errIO := errors.New("i/o error")
	broken := true
	fs.OnOp(func(op vfstest.Op) error {
		if op.Kind == "sync" && broken {
			broken = false // Linux tells of lost pages once
			return errIO
		}
		return nil
	})
	appended := uint64(100)
	for err == nil {
		appended++
		err = j.Append(mustParse(t, dataFrame(1, appended, appended%20, byte(appended))))
	}
	require.ErrorIs(t, err, errIO)
	appended--
	require.Greater(t, appended, uint64(100), "the seal is to fail behind frames that were taken")

	if err := j.Sync(); err == nil {
		require.Equal(t, appended, j.State().Durable, "Sync succeeded, so they count as durable")
	} else {
		require.ErrorIs(t, err, errIO)
	}
	require.NoError(t, j.Sync())
	for pos := uint64(101); pos < 110; pos++ {
		require.NoError(t, j.Append(mustParse(t, dataFrame(1, pos, pos%20, byte(pos)))))
	}
	require.NoError(t, j.Sync())
	require.Greater(t, j.State().Segments, 1)
	require.EqualValues(t, 11, j.State().Frames, "what an agent saw acknowledged is counted, whatever it was")
	require.NoError(t, j.Close())
	j, err = Open(t.Context(), fs, simDir, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	require.EqualValues(t, 11, j.State().Frames)
	require.NoError(t, j.Close())
}

// A sidecar may reach the disk although writing it failed: then its segment must not grow any more, or the journal
// would not open again.
func TestNothingIsAppendedBehindAFailedSeal(t *testing.T) {
	for limit := int64(600); limit < 750; limit += 8 { // what is left of the segment varies
		failedSeal(t, Options{Keys: testKeys, SegmentBytes: limit, Log: quiet})
	}
}

func failedSeal(t *testing.T, o Options) {
	fs := vfstest.New()
	j, err := Create(t.Context(), fs, simDir, simDisks, o)
	require.NoError(t, err)
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.NoError(t, j.Append(mustParse(t, doneFrame(1, 100))))

	errIO := errors.New("i/o error")
	renamed, broken := false, true
	fs.OnOp(func(op vfstest.Op) error {
		renamed = renamed || op.Kind == "rename" && strings.HasSuffix(op.Name, idxSuffix)
		if op.Kind == "syncdir" && renamed && broken {
			broken = false
			return errIO
		}
		return nil
	})
	pos := uint64(100)
	for err == nil {
		pos++
		err = j.Append(mustParse(t, dataFrame(1, pos, pos%20, byte(pos))))
	}
	require.ErrorIs(t, err, errIO)
	require.NoError(t, j.Sync())
	require.NoError(t, j.Append(mustParse(t, markFrame(1, pos-1)))) // small enough for what is left of the segment
	require.NoError(t, j.Sync())
	copied := fs.Snapshot()
	durable := j.State().Durable
	require.NoError(t, j.Close())

	j, err = Open(t.Context(), vfstest.Restore(copied, simDir), simDir, o)
	require.NoError(t, err)
	require.Equal(t, durable, j.State().Durable)
	require.NoError(t, j.Close())
}

func markFrame(epoch, pos uint64) []byte {
	return wire.Control(wire.TypeMark, epoch, pos, pos, int64(pos))
}
