package operatorapi

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// found is a journal with writes at 101 to 109, at so many seconds, and an epoch that begins after 105 because a range was proven at
// 102 and found wrong.
func found(t *testing.T) *journal.Journal {
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys"))
	require.NoError(t, err)
	disks := []wire.Disk{{Device: "/dev/old", Bytes: 1 << 20}}
	j, err := journal.Create(t.Context(), vfs.OS, filepath.Join(t.TempDir(), "j"), disks, journal.Options{Keys: keys})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	at := func(pos uint64) int64 { return int64(pos) * int64(time.Second) }
	add := func(b []byte) {
		f, err := wire.Parse(b)
		require.NoError(t, err)
		require.NoError(t, j.Append(f))
	}
	open := func(epoch, first uint64, d *wire.Doubt) {
		b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, at(first), wire.EpochOpen{Capture: "cafe", Disks: disks, Doubt: d})
		require.NoError(t, err)
		add(b)
		add(wire.Control(wire.TypeBaselineDone, epoch, first, first, at(first)))
	}
	open(1, 100, nil)
	for pos := uint64(101); pos < 110; pos++ {
		epoch := uint64(1)
		if pos > 105 {
			epoch = 2
		}
		if pos == 106 {
			open(2, 105, &wire.Doubt{Since: at(102), Bytes: 8192, Absent: 4096, Ranges: []wire.Range{{Sector: 8, Sectors: 8}}})
		}
		var b wire.Builder
		b.Reset(wire.TypeData, epoch)
		b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: pos, Bytes: 512, Time: at(pos)}, bytes.Repeat([]byte{1}, 512))
		add(b.Finish(nil))
	}
	require.NoError(t, j.Sync())
	return j
}

// A point says which doubts it may suffer from, by what the journal shows at its position, whatever the clock of its time.
func TestPointsSayWhatMayBeWrongInThem(t *testing.T) {
	j := found(t)
	s := state.Server{ID: "s-1", Disks: []state.Disk{{Index: 0, DeviceName: "/dev/vdb"}}}
	var out schema.Points
	for _, pos := range []uint64{102, 103, 104, 108, 5000} {
		out.Points = append(out.Points, schema.Point{Position: pos})
	}
	mark(j, s, &out)
	since, until := time.Unix(102, 0).UTC(), time.Unix(105, 0).UTC()
	require.Equal(t, []schema.Doubt{{Epoch: 2, Since: &since, Until: &until, Bytes: 8192, AbsentBytes: 4096, More: true,
		Ranges: []schema.DoubtRange{{Device: "/dev/vdb", Offset: 4096, Bytes: 4096}}}}, out.Doubts)
	var marked []uint64
	for _, p := range out.Points {
		if len(p.Doubts) > 0 {
			require.Equal(t, []uint64{2}, p.Doubts)
			marked = append(marked, p.Position)
		}
	}
	require.Equal(t, []uint64{103, 104}, marked)
}
