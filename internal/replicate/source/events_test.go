package source

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// whim opens epochs now and then.
type whim struct {
	mu        sync.Mutex
	rng       *rand.Rand
	completed int
}

func (w *whim) MayOpen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(50) == 0
}

// doubts has some epochs compared with what the server holds.
func (w *whim) doubts() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(3) == 0
}

func (w *whim) Completed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.completed++
}

// TestModelOfEvents is TestModel for a capture without payloads: every position that is recoverable is a prefix of the
// writes all the same, which means that nothing else was written when its blocks were read.
func TestModelOfEvents(t *testing.T) {
	n := uint64(500)
	if testing.Short() {
		n = 25
	}
	for _, seed := range modelSeeds(t, n) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				m.host.events = true
				pacer := &whim{rng: rand.New(rand.NewPCG(seed, 4))}
				m.pacer, m.coarse = pacer, pacer.doubts
				m.start()
				for range 150 + m.rng.IntN(250) {
					m.step()
					if m.rng.IntN(40) == 0 { // or no epoch is ever complete
						m.host.rest()
					}
				}
				m.quiesce()
				m.stop()
				<-m.ended
				m.server.cut()
				m.server.group.Wait()
				m.check()
				require.Positive(t, pacer.completed)
			})
		})
	}
}

// rest writes nothing for a while.
func (h *host) rest() {
	h.mu.Lock()
	busy := h.busy
	h.busy = false
	h.mu.Unlock()
	h.settleAll()
	pause(1500 * time.Millisecond)
	h.mu.Lock()
	h.busy = busy
	h.mu.Unlock()
}

// What a pacer does not let be opened is not opened, and nothing is recoverable meanwhile that was not true.
func TestPacerHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, 7)
		m.host.events, m.host.busy, m.server.faults, m.host.noDrain = true, false, false, false
		gate := &gate{}
		m.pacer = gate
		m.start()
		pause(20 * time.Second)
		require.True(t, m.source.Status().Complete)
		require.Positive(t, gate.told())
		epoch, told := m.source.Status().Epoch, gate.told()
		for drops := m.host.drops; m.host.drops == drops; { // a flush is no event
			m.host.submit()
		}
		m.host.settleAll()
		pause(time.Minute)
		require.Equal(t, epoch, m.source.Status().Epoch)
		require.Equal(t, PhaseRescan, m.source.Status().Phase)
		require.InDelta(t, told, gate.told(), 1, "what is not true any more is not repeated")
		gate.open()
		pause(300 * time.Millisecond)
		require.Equal(t, epoch+1, m.source.Status().Epoch)
		require.True(t, m.source.Status().Complete, "no second is waited for what is tracked")
		m.stop()
		<-m.ended
		m.server.cut()
		m.server.group.Wait()
		m.check()
	})
}

type gate struct {
	mu   sync.Mutex
	free bool
	n    int
}

func (g *gate) MayOpen() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.free }
func (g *gate) Completed()    { g.mu.Lock(); defer g.mu.Unlock(); g.n++ }
func (g *gate) told() int     { g.mu.Lock(); defer g.mu.Unlock(); return g.n }
func (g *gate) open()         { g.mu.Lock(); defer g.mu.Unlock(); g.free = true }
