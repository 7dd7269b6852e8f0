package sink

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

// busyHouse has small segments, so that there are layers soon.
func busyHouse(t *testing.T) *house {
	return newHouseWith(t, func(c *Config) {
		c.Journal.SegmentBytes = 64 << 10
		c.Maintenance.SealAfter = 100 * time.Millisecond
		c.Log = slog.New(slog.DiscardHandler)
	})
}

// fill sends n writes over the first blocks of the disk, and waits until they are in layers.
func (h *house) fill(p *peer, n int) (last uint64) {
	pos := uint64(110)
	p.send(baselineDone(1, 110))
	for i := range n {
		pos += 10
		p.send(data(1, pos, uint64(i%64)*8, byte(i)))
	}
	p.acked(uint64(n) + 3)
	eventually(h.t, "flushed", func() bool {
		care, err := h.s.Care(server)
		return err == nil && care.Usage.LayerFiles > 0 && care.Usage.Unflushed == 0
	})
	return pos
}

// TestMaintenanceReclaimsWhatRetentionLetsGo: the worker brings down what is stored, and what is retained stays readable.
func TestMaintenanceReclaimsWhatRetentionLetsGo(t *testing.T) {
	h := busyHouse(t)
	p := h.begin()
	last := h.fill(p, 2000)
	require.Equal(t, []string{server}, h.s.Attached())
	newest, err := h.s.Newest(server)
	require.NoError(t, err)
	require.EqualValues(t, last, newest.UnixNano())
	before, err := h.s.Care(server)
	require.NoError(t, err)
	require.Positive(t, before.Maintained)

	kept := uint64(5010)
	require.NoError(t, h.s.Retain(t.Context(), server, newest, []uint64{kept}))
	for _, gone := range []uint64{4010, 6010} {
		_, err := h.s.Recoverable(server, gone)
		require.Equal(t, fault.NotFound, fault.KindOf(err), "%d was let go of", gone)
	}
	for _, pos := range []uint64{kept, last} {
		at, err := h.s.Recoverable(server, pos)
		require.NoError(t, err)
		require.EqualValues(t, pos, at.UnixNano())
	}
	err = h.s.Retain(t.Context(), server, newest, []uint64{kept, 4010})
	require.Equal(t, fault.Conflict, fault.KindOf(err), "it is gone for ever")
	_, err = h.s.Recoverable(server, kept)
	require.NoError(t, err, "the others stay")
	h.s.SetQuota(server, before.Usage.Stored*105/100) // room is short: what little there is to reclaim is worth it
	eventually(t, "most is freed", func() bool {
		care, err := h.s.Care(server)
		return err == nil && care.Usage.Layers < before.Usage.Layers/4
	})

	// The same after a restart: what was kept is known by the journal itself.
	require.NoError(t, h.stop())
	h.start()
	h.admit()
	require.NoError(t, h.s.Retain(t.Context(), server, newest, []uint64{kept}))
	_, err = h.s.Recoverable(server, kept)
	require.NoError(t, err)
	for _, err := range []error{
		h.s.Retain(t.Context(), "nobody", newest, nil),
		func() error { _, err := h.s.Newest("nobody"); return err }(),
		func() error { _, err := h.s.Recoverable("nobody", 1); return err }(),
	} {
		require.Equal(t, fault.NotFound, fault.KindOf(err))
	}
}

// TestScrubFindsDamageAndAsksTheSource flips bits of stored layers and follows the finding to the agent.
func TestScrubFindsDamageAndAsksTheSource(t *testing.T) {
	h := busyHouse(t)
	p := h.begin()
	h.fill(p, 64)
	damaged := 0
	for name, content := range h.fs.Snapshot() {
		if strings.Contains(name, "/layers/layer-") {
			f, err := h.fs.OpenWrite(name)
			require.NoError(t, err)
			at := int64(len(content) / 2)
			_, err = f.WriteAt([]byte{^content[at]}, at)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			damaged++
		}
	}
	require.Positive(t, damaged)
	require.NoError(t, h.s.StartScrub(server))
	r := p.asked()
	require.NotEmpty(t, r.Ranges)
	var care Care
	eventually(t, "the scrub ends", func() (done bool) {
		var err error
		care, err = h.s.Care(server)
		return err == nil && care.ScrubAsked.IsZero()
	})
	require.NotEmpty(t, care.Damage)
	require.False(t, care.Scrub.LastFull.IsZero())
	require.Positive(t, care.Scrubbed)
	asked := map[Range]bool{}
	for _, g := range r.Ranges {
		asked[g] = true
	}
	for _, d := range care.Damage {
		require.True(t, asked[wire.Range{Disk: d.Disk, Sector: d.Sector, Sectors: d.Sectors}], "%+v", d)
	}
	require.Equal(t, journal.Relaxed, care.Pressure)
}
