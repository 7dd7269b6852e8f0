package source

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestWritesWhileAnEpochOpens puts writes between any two calls that open an epoch. The same block is written twice:
// by a write that is captured and then by one that is dropped, or the other way round, or once.
func TestWritesWhileAnEpochOpens(t *testing.T) {
	captured := func(h *host, v byte) { h.put(8*testBlock, bytes.Repeat([]byte{v}, 512)) }
	dropped := func(h *host, v byte) { h.put(6*testBlock, bytes.Repeat([]byte{v}, 5*testBlock)) } // larger than the ring
	cases := map[string]func(h *host){
		"captured":              func(h *host) { captured(h, 1) },
		"dropped":               func(h *host) { dropped(h, 2) },
		"captured, dropped":     func(h *host) { captured(h, 1); dropped(h, 2) },
		"dropped, captured":     func(h *host) { dropped(h, 2); captured(h, 1) },
		"captured all the time": nil,
	}
	for name, write := range cases {
		for at := range 24 {
			at, drains := at/2, at%2 == 0
			t.Run(fmt.Sprintf("%s, before call %d, drains %v", name, at, drains), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { openAmid(t, at, drains, write) })
			})
		}
	}
}

func openAmid(t *testing.T, at int, drains bool, write func(h *host)) {
	m := bench(t, 16<<10, 16*testBlock)
	h := m.host
	h.noDrain = !drains
	m.start()
	m.wait("continuous", inPhase(PhaseContinuous))
	h.mu.Lock()
	h.put(0, make([]byte, 5*testBlock)) // a gap
	asked, calls := h.asked, 0
	h.hook = func() {
		if h.asked == asked { // the epoch is not being opened
			return
		}
		if write == nil {
			if calls < 12 {
				h.put(8*testBlock, bytes.Repeat([]byte{byte(calls + 1)}, 512))
			}
		} else if calls == at {
			write(h)
		}
		calls++
	}
	h.mu.Unlock()
	m.wait("another epoch", func(st Status) bool { return st.Epoch > 1 && !st.Complete })
	m.quiesce()
	h.mu.Lock()
	h.hook = nil
	require.Greater(t, calls, 12)
	h.mu.Unlock()
	m.end()
	m.check()
}

// TestKilledWhileAnEpochOpens kills the agent at every call that opens the epoch behind a drop. What was written since is debt by then, and
// must not be paid in the epoch before: there a captured write of the same block, which was sent, would win over it.
func TestKilledWhileAnEpochOpens(t *testing.T) {
	for at := range 48 {
		t.Run(fmt.Sprintf("call %d", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killAmid(t, at) })
		})
	}
}

func killAmid(t *testing.T, at int) {
	m := bench(t, 16<<10, 16*testBlock)
	h := m.host
	h.readErrs = 1 << 30 // no baseline is complete meanwhile
	m.start()
	m.wait("an epoch", func(st Status) bool { return st.Epoch == 1 })
	m.put(8*testBlock, bytes.Repeat([]byte{1}, 512))
	m.wait("acknowledged", func(st Status) bool { return st.Acked > 0 && st.RingUsed == 0 })
	h.mu.Lock()
	h.put(0, make([]byte, 5*testBlock)) // a gap
	h.put(8*testBlock, bytes.Repeat([]byte{2}, 512))
	asked, calls := h.asked, 0
	h.hook = func() {
		if h.asked == asked { // the epoch is not being opened
			return
		}
		if calls++; calls == at+1 {
			h.killIn = 1
		}
	}
	h.readErrs = 0
	h.mu.Unlock()
	<-m.ended
	h.mu.Lock()
	h.hook = nil
	h.mu.Unlock()
	m.stop()
	m.start()
	m.quiesce()
	m.end()
	m.check()
}
