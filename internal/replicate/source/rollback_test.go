package source

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A server that was put back to an earlier state while it took the baseline of an idle disk has lost blocks whose debt
// is paid, and no position tells.
func TestLostBaselineIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 256*testBlock)
		m.server.slow = true
		m.start()
		m.wait("half paid", func(st Status) bool { return st.Disks[0].Rescanned > 32*testBlock })
		m.server.mu.Lock()
		m.server.down, m.server.slow = true, false
		m.server.mu.Unlock()
		m.server.cut()
		m.server.group.Wait()
		m.server.mu.Lock()
		j := m.server.journal
		j.frames = j.frames[:2] // the opening and one frame of blocks
		j.durable = len(j.frames)
		m.server.down = false
		m.server.mu.Unlock()
		st := m.wait("continuous", inPhase(PhaseContinuous))
		require.Equal(t, "rolled-back", st.Reason)
		m.end()
		m.check()
	})
}
