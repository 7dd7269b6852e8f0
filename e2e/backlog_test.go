package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

const (
	backlogRing = 16 << 20
	backlogSize = 64 << 20
)

// protectLinked is protectOne whose agent reaches the server over a link that can be cut, with a backlog behind its ring.
func protectLinked(t *testing.T) (*one, *harness.Link) {
	t.Helper()
	o := newOne(t)
	link := harness.NewLink(t, o.server.DataAddr)
	o.server.Stop(t)
	o.server.Args = []string{"--advertise", link.Addr}
	o.server.Start(t)
	o.server.InitializeDRS(t)
	o.start(t, "drs", "--backlog-mib", fmt.Sprint(backlogSize>>20))
	o.continuous(t)
	return o, link
}

// stage writes a file of random bytes, waits until the ring has room for another, and tells when it had been written.
func (o *one) stage(t *testing.T, n int) time.Time {
	t.Helper()
	b := make([]byte, 2<<20)
	_, _ = rand.Read(b)
	require.NoError(t, os.WriteFile(filepath.Join(o.mount, fmt.Sprintf("stage%02d", n)), b, 0o600))
	harness.Run(t, "sync", "--file-system", o.mount)
	at := time.Now()
	harness.Eventually(t, time.Minute, "the ring has room", func() (bool, string) {
		s := o.status(t)
		return s.Updated.After(at) && s.RingUsed <= backlogRing/2, fmt.Sprintf("%d bytes in the ring", s.RingUsed)
	})
	return at
}

// stages are the files that a disk has, as it was at an instant.
func (o *one) stages(t *testing.T, at time.Time) int {
	t.Helper()
	copied := harness.Attach(t, o.export(t, "--at", at.UTC().Format(time.RFC3339Nano)))
	dir := harness.Mount(t, copied, filepath.Join(t.TempDir(), "copy"))
	found, err := filepath.Glob(filepath.Join(dir, "stage*"))
	require.NoError(t, err)
	for _, f := range found {
		got, err := os.ReadFile(f)
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(o.mount, filepath.Base(f)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), f)
	}
	harness.Unmount(t, dir)
	require.NoError(t, harness.Check(t, "ext4", copied))
	return len(found)
}

// The link is cut for longer than the ring lasts: what does not fit waits in memory, and every instant in between is a point.
// Then it is cut for longer than both last.
func TestBacklogKeepsOrder(t *testing.T) {
	t.Parallel()
	o, link := protectLinked(t)
	before := o.status(t)
	require.EqualValues(t, backlogSize, before.Backlog)

	link.Cut()
	const stages = 14 // 28 MiB, of a ring of 16
	var written [stages]time.Time
	for n := range stages {
		written[n] = o.stage(t, n)
	}
	s := o.status(t)
	require.False(t, s.Connected)
	require.Greater(t, s.Waiting, uint64(stages*2<<20-backlogRing))
	require.Equal(t, before.Drops, s.Drops)
	link.Join()
	o.recoverable(t, time.Now())
	o.continuous(t)
	s = o.status(t)
	require.Equal(t, before.Epoch, s.Epoch, "no rescan: %s", s.Reason)
	require.Equal(t, [2]uint64{before.Drops, before.Gaps}, [2]uint64{s.Drops, s.Gaps})
	require.Len(t, o.points(t).Windows, 1)
	for _, n := range []int{0, 4, 9, stages - 1} {
		require.Equal(t, n+1, o.stages(t, written[n]), "when %d had been written", n)
	}

	link.Cut()
	for range 7 { // more than both hold
		o.write(t, "more", 16<<20)
	}
	link.Join()
	harness.Eventually(t, 2*time.Minute, "replication is continuous after a rescan", func() (bool, string) {
		s := o.status(t)
		return s.Phase == "continuous" && s.Epoch > before.Epoch && s.Waiting == 0, fmt.Sprintf("%s, epoch %d %s", s.Phase, s.Epoch, s.Reason)
	})
	s = o.status(t)
	require.Equal(t, "gap", s.Reason)
	require.Greater(t, s.Drops, before.Drops)
	o.server.WaitState(t, o.id, drstypes.DataReplicationStateContinuous, time.Minute)
	o.same(t)
}

// An agent is killed while memory holds writes: it comes back with a rescan of what was written, and nothing is missing.
func TestAgentIsKilledWithABacklog(t *testing.T) {
	t.Parallel()
	o, link := protectLinked(t)
	before := o.status(t)
	link.Cut()
	for n := range 6 {
		o.stage(t, n)
	}
	require.Positive(t, o.status(t).Waiting)
	o.agent.Kill()
	link.Join()
	o.agent.Start(t)
	harness.Eventually(t, 2*time.Minute, "replication is continuous after a rescan", func() (bool, string) {
		s := o.status(t)
		return s.Phase == "continuous" && s.Epoch > before.Epoch, fmt.Sprintf("%s, epoch %d %s", s.Phase, s.Epoch, s.Reason)
	})
	s := o.status(t)
	require.Equal(t, "gap", s.Reason)
	require.Less(t, s.Disks[0].Rescanned, s.Disks[0].Total, "dirty blocks only")
	o.same(t)
}
