package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
)

// The raw disk is small, so that blocks are written again and again, and the pace is one that no link is slow for: fifty writes of 4 to
// 32 KiB in a second are less than 1 MB.
const (
	rawBlocks = 4 << 10
	rawMost   = 8 // blocks of one write
	rawEvery  = 20 * time.Millisecond
	rawSpan   = time.Second // of writes between two disturbances
)

// rawDisk is a disk without a file system, and the load that is written straight to it.
type rawDisk struct {
	*harness.Disk
	stamps *workload.Stamps
}

// protectRaw is protect for a raw disk.
func protectRaw(t *testing.T, ringMiB int, seed uint64) (*protected, rawDisk) {
	t.Helper()
	dir := t.TempDir()
	raw := rawDisk{Disk: harness.NewDisk(t, dir, "raw.img", rawBlocks*workload.StampBlock)}
	raw.stamps = workload.NewStamps(seed, rawEvery, workload.Target{Path: raw.Device, Blocks: rawBlocks, Most: rawMost})
	p := &protected{}
	p.connect(t, dir, ringMiB, []string{raw.Device})
	return p, raw
}

// start writes until stop is called.
func (d rawDisk) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.stamps.Run(ctx); close(done) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stamped writes: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// A raw disk loses nothing of its order to killed processes and cut links: at any instant its copy holds exactly the writes up to one, all
// that were acknowledged by then and none that was begun later. That is more than flushes would demand: each write waits for the one before
// it, and the replica keeps that order.
func TestRawDiskHoldsTheWritesUpToOne(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 4))
	p, raw := protectRaw(t, 64, s)
	stop := raw.start(t)
	p.server.WaitState(t, p.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
	for range 4 {
		wait(t, rawSpan)
		p.disturb(t, rng)
	}
	wait(t, rawSpan)
	stop()
	p.quiesce(t)

	out := p.exportRaw(t, raw, "--latest")
	require.NoError(t, harness.Identical(raw.Device, out))
	n, err := raw.stamps.Judge(out)
	require.NoError(t, err)
	require.Positive(t, n)
	require.Equal(t, raw.stamps.Written(), n)

	windows := p.points(t).Windows
	require.Len(t, windows, 1)
	for range 6 {
		at := within(rng, windows[0])
		n, err := raw.stamps.Judge(p.exportRaw(t, raw, "--at", at.Format(time.RFC3339Nano)))
		require.NoError(t, err)
		least, most := raw.stamps.Around(at)
		require.True(t, least <= n && n <= most, "as of %s there were between %d and %d writes, the copy has %d", at, least, most, n)
	}
}

// exportRaw writes a copy of the disk as of the latest point, or of an instant.
func (p *protected) exportRaw(t *testing.T, d rawDisk, when ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "copy")
	require.NoError(t, err)
	out := filepath.Join(dir, "raw.raw")
	p.server.CLI(t, append(append([]string{"export", "--server", p.id, "--device", d.Device}, when...), out)...)
	return out
}
