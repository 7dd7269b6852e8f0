package sink

import (
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// What waits for object storage is put there before what can wait is done, the longest first, and stands aside for nothing.
func TestSealedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		busy := &chores{steps: 1000, cost: 1 << 20}
		waits := &chores{steps: 8, cost: 1 << 20, exposure: journal.Exposure{Bytes: 1, Sealed: 1, Since: now.Add(-time.Second)}}
		longer := &chores{steps: 8, cost: 1 << 20, exposure: journal.Exposure{Bytes: 1, Sealed: 1, Since: now.Add(-time.Minute)}}
		tail := &chores{steps: 8, cost: 1 << 20, exposure: journal.Exposure{Bytes: 1, Since: now.Add(-time.Hour)}}
		k, log := cared(Maintenance{BytesPerSecond: 1 << 20}, busy, waits, longer, tail)
		defer k.brake.syncing()() // ingest suffers all the while
		defer start(t, k)()
		<-time.After(45 * time.Second)
		last, counts := map[string]int{}, map[string]int{}
		for i, name := range log.all() {
			last[name] = i
			counts[name]++
		}
		require.Equal(t, 8, counts["1"], "%v", counts)
		require.Equal(t, 8, counts["2"], "%v", counts)
		require.Less(t, last["2"], last["1"], "the longest first")
		require.Positive(t, counts["0"], "the others do not starve")
	})
}

// A journal takes in as much as it can while its layers go to object storage. How long a sealed segment is only here is bounded by what
// it takes to put it there, and all of it is there soon after. UNDERSTUDY_SLOW=1 measures it with files, and segments of the usual size.
func TestExposureIsBounded(t *testing.T) {
	total, segment, limit := int64(48<<20), int64(4<<20), 20*time.Second
	h := newHouseWith(t, func(c *Config) {
		c.Maintenance.SealAfter, c.Journal.SegmentBytes = time.Second, segment
		c.FS.(*vfstest.MemFS).SetCapacity(8 << 30)
		bucket, err := dir.New(c.FS, "/bucket")
		require.NoError(t, err)
		if os.Getenv("UNDERSTUDY_SLOW") != "" {
			total, c.Journal.SegmentBytes = 2<<30, 0
			c.FS, c.Dir = vfs.OS, t.TempDir()
			bucket, err = dir.New(vfs.OS, t.TempDir())
			require.NoError(t, err)
		}
		c.Blobs = bucket
	})
	j, err := h.s.Journal(server)
	require.NoError(t, err)
	p := h.begin()
	require.NoError(t, p.conn.SetDeadline(time.Now().Add(5*time.Minute)))
	p.send(baselineDone(1, 110))
	sent, pos := uint64(3), uint64(110)
	rng := rand.NewChaCha8([32]byte{})
	worst, most, began := time.Duration(0), int64(0), time.Now()
	look := func() {
		x := j.Exposure()
		most = max(most, x.Bytes)
		if x.Sealed > 0 {
			worst = max(worst, time.Since(x.Since))
		}
	}
	content := make([]byte, 128<<10)
	for bytes := int64(0); bytes < total; bytes += int64(len(content)) {
		_, _ = rng.Read(content)
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		pos++
		b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: pos, Sector: pos % 7 * 256, Bytes: uint64(len(content)), Time: int64(pos)}, content)
		p.send(b.Finish(nil))
		if sent++; sent%16 == 0 {
			p.acked(sent)
		}
		look()
	}
	p.acked(sent)
	ingest := time.Since(began)
	eventually(t, "all of it is in object storage", func() bool { look(); return j.Exposure().Bytes == 0 })
	t.Logf("%d MiB in %v (%.0f MiB/s): at most %.1f MiB were only here, the oldest for %v; all was safe %v after the last acknowledgement", total>>20,
		ingest.Round(time.Millisecond), float64(total>>20)/ingest.Seconds(), float64(most)/(1<<20), worst.Round(time.Millisecond), (time.Since(began) - ingest).Round(time.Millisecond))
	require.Less(t, worst, limit)
	require.Positive(t, most)
	require.NoError(t, h.s.DetachStaging(t.Context(), server))
}
