package journal

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/wire"
)

func doubtFrame(t *testing.T, epoch, first uint64, d *wire.Doubt) []byte {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, int64(first), wire.EpochOpen{Capture: "cafe", Reason: "verify", Disks: simDisks, Doubt: d})
	require.NoError(t, err)
	return b
}

// A finding is remembered for as long as a state that may suffer from it can be asked for: from segments, sidecars and the catalogue.
func TestDoubtIsRememberedAsLongAsItMatters(t *testing.T) {
	h := newHistory(t, Options{})
	defer func() { require.NoError(t, h.j.Close()) }()
	h.write(4, 0) // 101 to 104
	ranges := []wire.Range{{Disk: 0, Sector: 8, Sectors: 8}, {Disk: 1, Sectors: 2}}
	h.append(doubtFrame(t, 2, 104, &wire.Doubt{Since: 102, Bytes: 5120, Absent: 1024, Ranges: ranges}))
	want := Doubt{Epoch: 2, Since: time.Unix(0, 102).UTC(), Bytes: 5120, Absent: 1024, Ranges: ranges}
	require.Equal(t, []Doubt{want}, h.j.Doubts())
	h.append(doneFrame(2, 104))
	want.Until = time.Unix(0, 104).UTC()
	h.epoch = 2
	h.write(2, 10) // 105, 106
	h.append(epochFrame(t, 3, 106), doneFrame(3, 106))
	h.epoch = 3
	h.write(2, 20) // 107, 108
	old, right := h.at(103), h.at(101)
	told := func(what string) {
		t.Helper()
		require.Equal(t, []Doubt{want}, h.j.Doubts(), what)
		for pos, doubtful := range map[uint64]bool{101: false, 102: false, 103: true, 104: false, 105: false, 108: false} {
			p := h.at(pos)
			require.Equal(t, doubtful, want.Covers(p), "%s: %+v", what, p)
		}
	}
	told("unsealed")
	h.reopen()
	told("scanned")
	require.NoError(t, h.j.Seal())
	h.reopen()
	told("from the sidecar")
	quiesce(t, h.j)
	h.reopen()
	told("from the catalogue")

	retain := func(points ...Point) {
		require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 108), Points: points}))
		h.write(1, 30) // something to commit
		quiesce(t, h.j)
	}
	retain(right, old)
	h.reopen()
	require.Equal(t, []Doubt{want}, h.j.Doubts(), "a point is kept that may be wrong")
	retain(right)
	require.Empty(t, h.j.Doubts(), "the one that is kept is older than the doubt")
	for _, e := range h.j.catalogue().Fold.Closed {
		require.Nil(t, e.Doubt, "epoch %d", e.Number)
	}
}

// What an agent says is bounded, and makes no sense at worst.
func TestDoubtIsBounded(t *testing.T) {
	h := newHistory(t, Options{})
	defer func() { require.NoError(t, h.j.Close()) }()
	h.append(doubtFrame(t, 2, 100, &wire.Doubt{Bytes: 1, Absent: 5, Ranges: make([]wire.Range, 2*wire.MaxDoubt)}))
	all := h.j.Doubts()
	require.Len(t, all, 1)
	require.Len(t, all[0].Ranges, wire.MaxDoubt)
	require.Equal(t, all[0].Bytes, all[0].Absent)
	require.True(t, all[0].Since.IsZero())
	require.True(t, all[0].Covers(Point{Epoch: 1, Time: time.Unix(1, 0)}))
}

// Too many findings become fewer that say more: whatever was doubtful stays so.
func TestGatheredDoubtsCoverAsMuch(t *testing.T) {
	rng := newRand(seeds(t, 1)[0])
	var closed []epoch
	for n := range 2 * maxDoubts {
		e := epoch{Number: uint64(n + 1)}
		if rng.IntN(8) > 0 {
			e.Doubt = &wire.Doubt{Since: rng.Int64N(1000), Bytes: 512, Ranges: []wire.Range{{Sector: rng.Uint64N(100), Sectors: 1}}}
		}
		closed = append(closed, e)
	}
	findings := func(of []epoch) (all []Doubt, bytes uint64) {
		for i := range of {
			if of[i].Doubt != nil {
				all, bytes = append(all, of[i].finding()), bytes+of[i].Doubt.Bytes
			}
		}
		return all, bytes
	}
	before, bytes := findings(closed)
	gathered := slices.Clone(closed)
	gatherDoubts(gathered)
	after, same := findings(gathered)
	require.Greater(t, len(before), maxDoubts)
	require.Len(t, after, maxDoubts)
	require.Equal(t, bytes, same)
	unchanged, _ := findings(closed)
	require.Equal(t, before, unchanged)
	for range 2000 {
		p := Point{Epoch: rng.Uint64N(2 * maxDoubts), Time: unixTime(1 + rng.Int64N(1000))}
		covers := func(d Doubt) bool { return d.Covers(p) }
		require.False(t, slices.ContainsFunc(before, covers) && !slices.ContainsFunc(after, covers), "%+v", p)
	}
}
