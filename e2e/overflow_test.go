package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// flood writes random blocks to a file past the cache, at so many bytes per second, until it is told to stop.
func (o *one) flood(t *testing.T, rate int, stop func() bool) {
	t.Helper()
	const block = 64 << 10
	f, err := os.OpenFile(filepath.Join(o.mount, "flood"), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{7})
	data := make([]byte, block)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for start, sent := time.Now(), 0; !stop(); <-tick.C {
		for ; float64(sent) < time.Since(start).Seconds()*float64(rate); sent += block {
			_, _ = rng.Read(data)
			_, err := f.WriteAt(data, int64(rng.Uint64()%256)*block)
			require.NoError(t, err)
		}
		require.NoError(t, f.Sync())
	}
}

// Writes come at twice what the link takes for a while, then at half of it: replication is continuous again by itself,
// without an epoch for each time that the ring was full.
func TestOverflowEndsByItself(t *testing.T) {
	t.Parallel()
	o := newOne(t)
	o.server.InitializeDRS(t)
	o.agent = o.server.NewAgent(t, "drs", filepath.Join(o.dir, "agent"), []string{o.disk.Device}, "--ring-mib", "4", "--backlog-mib", "0")
	o.id = o.agent.ServerID(t)
	o.continuous(t)
	const mbps, link = 8, 1e6
	o.server.AWS(t, nil, "drs", "update-replication-configuration", "--source-server-id", o.id, "--bandwidth-throttling", fmt.Sprint(mbps))
	harness.Eventually(t, time.Minute, "the limit holds", func() (bool, string) { s := o.status(t); return s.Limit == link, fmt.Sprint(s.Limit) })
	before := o.status(t).Epoch

	end := time.Now().Add(20 * time.Second)
	o.flood(t, 2*link, func() bool { return time.Now().After(end) })
	start, looked := time.Now(), time.Now()
	limit := start.Add(4 * time.Minute)
	o.flood(t, link/2, func() bool {
		if time.Now().After(limit) {
			return true
		}
		if time.Since(looked) < time.Second {
			return false
		}
		looked = time.Now()
		s := o.status(t)
		return s.Phase == "continuous" && s.Drops > 0
	})
	s := o.status(t)
	t.Logf("continuous %s after the writes had halved: %d epochs, %d rounds", time.Since(start).Round(time.Second), s.Epoch-before, s.Rounds)
	require.Equal(t, "continuous", s.Phase)
	require.Positive(t, s.Drops)
	require.LessOrEqual(t, s.Epoch-before, uint64(3))
	require.Positive(t, s.Rounds)
	o.server.AWS(t, nil, "drs", "update-replication-configuration", "--source-server-id", o.id, "--bandwidth-throttling", "0")
	o.same(t)
}
