package source

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A limit holds for everything that is sent, baseline and captured writes, from the moment it is set, and no connection ends
// for it.
func TestBandwidthChangesWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mbps = 1e6 / 8
		m := bench(t, 512<<10, 8192*testBlock)
		noise := rand.NewChaCha8([32]byte{1})
		_, _ = noise.Read(m.host.disks[0])
		copy(m.host.before[0], m.host.disks[0])
		m.build(nil)
		m.source.SetBandwidth(1 * mbps)
		m.run()
		pause(2 * time.Second)
		for _, limit := range []int64{1, 8, 2, 6, 1} {
			m.source.SetBandwidth(limit * mbps)
			pause(time.Second) // what was admitted under the limit before
			start := m.source.meter.wire.Load()
			for range 10 {
				pause(time.Second)
				data := make([]byte, 4096)
				_, _ = noise.Read(data)
				m.put(0, data)
			}
			sent := float64(m.source.meter.wire.Load() - start)
			require.InEpsilon(t, float64(10*limit)*mbps, sent, 0.06, "%d Mbps", limit)
			require.EqualValues(t, limit*mbps, m.source.Status().Limit)
		}
		m.source.SetBandwidth(0)
		m.wait("continuous", inPhase(PhaseContinuous))
		require.Zero(t, m.source.Status().Limit)
		require.EqualValues(t, 1, m.server.session, "over one connection")
		m.end()
		m.check()
	})
}
