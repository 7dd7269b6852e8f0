package source

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	smallRing = 16 << 10
	blockRing = (recordHead + testBlock + 7) &^ 7 // what a block takes in the ring
)

// behind makes a replication that is continuous, with a backlog.
func behind(t *testing.T, backlog int) *model {
	m := bench(t, smallRing, 256*testBlock)
	m.backlog, m.host.readable = backlog, true
	m.start()
	m.wait("continuous", inPhase(PhaseContinuous))
	return m
}

func (m *model) hangUp() {
	m.server.mu.Lock()
	m.server.down = true
	m.server.mu.Unlock()
	m.server.cut()
}

func (m *model) answer() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.server.down = false
}

// scribble writes so many random blocks to random places, no faster than the agent looks.
func (m *model) scribble(n int) {
	noise := rand.NewChaCha8([32]byte{byte(n)})
	for range n {
		data := make([]byte, testBlock)
		_, _ = noise.Read(data)
		m.put(m.rng.IntN(256)*testBlock, data)
		pause(20 * time.Millisecond)
	}
}

func nothingWaits(st Status) bool {
	return st.Phase == PhaseContinuous && st.Waiting == 0 && st.RingUsed == 0
}

func (m *model) marked() (from uint64, ok bool) {
	return memory{cells: m.host.fakeCapture}.marked()
}

// ends counts the recoverable positions of each interval.
func (m *model) ends() (out []int) {
	for _, i := range m.server.journal.intervals() {
		out = append(out, len(i.ends))
	}
	return out
}

// More is written than the ring holds, and less than memory does, while nobody answers: order is kept.
func TestBacklogKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := behind(t, 512<<10)
		m.hangUp()
		m.scribble(2)
		require.Zero(t, m.source.Status().Waiting, "less than half of the ring is not copied")
		m.scribble(58)
		pause(time.Second)
		st := m.source.Status()
		require.Equal(t, PhaseConnecting, st.Phase)
		require.Zero(t, st.Drops)
		require.Greater(t, st.Waiting, uint64(60*testBlock-smallRing))
		require.LessOrEqual(t, st.Waiting, st.Backlog)
		require.LessOrEqual(t, st.RingUsed, uint64(smallRing/2))
		require.Greater(t, st.Lag, 2*time.Second)
		pause(30 * time.Second)
		m.answer()
		st = m.wait("continuous again", nothingWaits)
		require.EqualValues(t, 1, st.Epoch)
		require.Zero(t, st.Gaps)
		_, marked := m.marked()
		require.False(t, marked)
		m.end()
		require.Len(t, m.ends(), 1)
		require.GreaterOrEqual(t, m.ends()[0], 60)
		m.check()
	})
}

// While a baseline is read there is no order that could be lost, and what waits for the link would only hold up the baseline.
func TestNoBacklogBeforeTheBaselineIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, smallRing, 256*testBlock)
		m.backlog, m.host.readable, m.host.readErrs = 512<<10, true, 1<<30
		m.start()
		m.wait("a read error", func(st Status) bool { return st.Disks[0].Err != nil })
		m.hangUp()
		m.scribble(40)
		st := m.source.Status()
		require.Zero(t, st.Waiting)
		require.Positive(t, st.Drops)
		m.host.mu.Lock()
		m.host.readErrs = 0
		m.host.mu.Unlock()
		m.answer()
		m.wait("continuous", nothingWaits)
		m.end()
		m.check()
	})
}

// A burst waits in memory also before the baseline is complete, as does what was sent and is acknowledged late: else writes that the link
// takes, but that come faster than the ring lasts, would end every epoch before its baseline.
func TestBurstsDoNotEndTheBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, smallRing, 256*testBlock)
		m.backlog, m.host.readable, m.server.syncs = 512<<10, true, 500*time.Millisecond
		m.start()
		for range 60 {
			for range 8 { // twice what the ring holds
				m.put(m.rng.IntN(256)*testBlock, noiseOf(m.rng, testBlock))
				pause(15 * time.Millisecond)
			}
			pause(time.Second)
			st := m.source.Status()
			require.Zero(t, st.Drops)
			if st.Complete {
				break
			}
		}
		st := m.source.Status()
		require.True(t, st.Complete)
		require.EqualValues(t, 1, st.Epoch)
		m.wait("continuous", nothingWaits)
		m.end()
		m.check()
	})
}

// Writes that outrun the link are no burst: memory does not fill with them while the baseline waits.
func TestWritesThatOutrunTheLinkDoNotHoldUpTheBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, smallRing, 256*testBlock)
		m.backlog, m.host.readable = 16<<20, true
		m.start()
		m.source.SetBandwidth(1) // 125 kB/s
		drops := uint64(0)
		for began := time.Now(); drops == 0 && time.Since(began) < 2*burstAtMost; drops = m.source.Status().Drops {
			m.put(m.rng.IntN(256)*testBlock, noiseOf(m.rng, testBlock))
			pause(15 * time.Millisecond)
		}
		st := m.source.Status()
		require.Positive(t, st.Drops)
		require.False(t, st.Complete)
		require.Less(t, st.Waiting, st.Backlog/4)
		m.wait("continuous", nothingWaits)
		m.end()
		m.check()
	})
}

// More is written than both hold: what came before the gap is recoverable, and then what comes after the next baseline.
func TestBacklogAndRingAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := behind(t, 1<<20)
		m.hangUp()
		m.scribble(350)
		st := m.source.Status()
		require.Positive(t, st.Drops)
		require.LessOrEqual(t, st.Waiting, st.Backlog)
		m.answer()
		st = m.wait("rescan", inPhase(PhaseRescan))
		require.Equal(t, "gap", st.Reason)
		st = m.wait("continuous again", nothingWaits)
		require.EqualValues(t, 2, st.Epoch)
		require.EqualValues(t, 1, st.Gaps)
		require.Less(t, st.Disks[0].Rescanned, st.Disks[0].Total)
		m.end()
		require.GreaterOrEqual(t, m.ends()[0], (1<<20)*9/10/blockRing, "what memory held was sent in order")
		m.check()
	})
}

// A link that is slower than the writes for a while: what is being sent moves from the ring to memory meanwhile.
func TestBacklogOfASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := behind(t, 512<<10)
		m.source.SetBandwidth(1)
		for range 50 {
			m.put(m.rng.IntN(200)*testBlock, noiseOf(m.rng, 2*testBlock))
			pause(30 * time.Millisecond)
		}
		st := m.source.Status()
		require.Positive(t, st.Waiting)
		require.Zero(t, st.Drops)
		st = m.wait("continuous again", nothingWaits)
		require.EqualValues(t, 1, st.Epoch)
		m.end()
		require.Len(t, m.ends(), 1)
		m.check()
	})
}

func noiseOf(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// The agent dies while writes are in its memory only: they are lost, their blocks are not.
func TestAgentDiesWithABacklog(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again=%t", again), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := behind(t, 512<<10)
				m.scribble(1)
				m.wait("acknowledged", nothingWaits)
				m.hangUp()
				m.scribble(40)
				m.kill()
				from, marked := m.marked()
				require.True(t, marked)
				require.Less(t, from, m.host.consumer)
				m.start()
				if again { // and so does the one after it, with a backlog of its own
					m.scribble(40)
					m.kill()
					still, marked := m.marked()
					require.True(t, marked)
					require.Equal(t, from, still, "until an epoch was opened behind it")
					m.start()
				}
				m.answer()
				st := m.wait("continuous again", nothingWaits)
				require.EqualValues(t, 2, st.Epoch)
				require.Equal(t, "gap", st.Reason)
				require.EqualValues(t, 1, st.Gaps)
				require.Less(t, st.Disks[0].Rescanned, st.Disks[0].Total, "dirty blocks only")
				_, marked = m.marked()
				require.False(t, marked)
				m.scribble(1)
				m.wait("acknowledged", nothingWaits)
				m.end()
				require.Len(t, m.ends(), 2)
				m.check()
			})
		})
	}
}

// An agent whose memory holds nothing dies as before: no gap.
func TestAgentDiesWithoutABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := behind(t, 512<<10)
		m.hangUp()
		m.scribble(40)
		m.answer()
		m.wait("continuous again", nothingWaits)
		m.hangUp()
		m.scribble(1)
		m.kill()
		m.start()
		m.answer()
		st := m.wait("continuous again", nothingWaits)
		require.EqualValues(t, 1, st.Epoch)
		m.end()
		require.Len(t, m.ends(), 1)
		m.check()
	})
}

// An agent that is asked to stop sends what only its memory has, if that can be done soon.
func TestStopSendsTheBacklog(t *testing.T) {
	for writes, in := range map[int]bool{40: true, 300: false} {
		t.Run(fmt.Sprintf("writes=%d", writes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := behind(t, 2<<20)
				m.hangUp()
				m.scribble(writes)
				m.source.SetBandwidth(1) // 64 KiB/s
				m.answer()
				m.wait("connected", func(st Status) bool { return st.Connected })
				asked := time.Now()
				m.stop()
				<-m.ended
				_, marked := m.marked()
				require.Equal(t, !in, marked)
				require.Less(t, time.Since(asked), lingerAtMost+time.Second)
				m.start()
				st := m.wait("continuous again", nothingWaits)
				require.Equal(t, in, st.Epoch == 1, "epoch %d", st.Epoch)
				m.end()
				m.check()
			})
		})
	}
}

// Without a connection there is nothing to wait for.
func TestStopWithoutALinkIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := behind(t, 512<<10)
		m.hangUp()
		m.scribble(40)
		asked := time.Now()
		m.stop()
		<-m.ended
		require.Less(t, time.Since(asked), 100*time.Millisecond)
		_, marked := m.marked()
		require.True(t, marked)
		m.answer()
		m.start()
		m.wait("continuous again", nothingWaits)
		m.end()
		m.check()
	})
}

// The epoch before is finished up to what was lost, and not beyond.
func TestLossCurtailsTheEpochBefore(t *testing.T) {
	m := bench(t, smallRing, 8*testBlock)
	cells := memory{cells: m.host.fakeCapture}
	cells.commit(&epoch{number: 2, base: 1000, gap: 1000 + 800/8, first: 1201, producer: 1600, journal: "j"})
	m.host.producer, m.host.consumer = 2400, 640
	cells.mark(480)
	require.EqualValues(t, 1000+480/8, m.newSource(nil).ep.gap)
	require.EqualValues(t, 1000+480/8, cells.load().gap)
	cells.mark(640)
	cells.put(fieldGap, 1100)
	require.EqualValues(t, 1100, m.newSource(nil).ep.gap, "nothing was lost")
	_, marked := cells.marked()
	require.False(t, marked)
}

// A mark changes nothing of the epoch, and an epoch is committed as one beside it.
func TestMarkedMemoryIsAtomic(t *testing.T) {
	old := epoch{number: 1, first: 2, journal: "one", acked: 8}
	next := epoch{number: 11, first: 12, journal: "two", acked: 18}
	news := 0
	for kill := range 100 {
		c := &cells{left: 1000}
		m := memory{cells: c}
		m.commit(&old)
		m.mark(480)
		require.Equal(t, old, m.load())
		c.left = kill
		m.commit(&next)
		if got := m.load(); got.number == next.number {
			require.Equal(t, next, got)
			news++
		} else {
			require.Equal(t, old, got, "killed after %d stores", kill)
		}
		from, ok := m.marked()
		require.True(t, ok)
		require.EqualValues(t, 480, from)
	}
	require.Positive(t, news)
}

// TestBacklogModel is TestModel with memory behind the ring, of a size that is sometimes enough.
func TestBacklogModel(t *testing.T) {
	n := uint64(240)
	if testing.Short() {
		n = 60
	}
	moved, losses := 0, 0
	for _, seed := range modelSeeds(t, n) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runBacklogModel(t, seed, &moved, &losses) }) {
			return
		}
	}
	t.Logf("%d of %d had something in memory, %d agents died with it", moved, n, losses)
	if n > 1 {
		require.Greater(t, moved, int(n)/8)
		require.Greater(t, losses, int(n)/40)
	}
}

func runBacklogModel(t *testing.T, seed uint64, moved, losses *int) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		m.backlog = []int{64 << 10, 256 << 10, 1 << 20}[m.rng.IntN(3)]
		m.server.version = []uint32{wire.V2, wire.V3}[m.rng.IntN(2)]
		m.host.load([]uint64{16 << 10, 64 << 10}[m.rng.IntN(2)]) // smaller ones are always full
		busy, faults, held := m.host.busy, m.server.faults, false
		m.start()
		for range 4 { // each from when an epoch is complete
			m.quiesce()
			m.host.mu.Lock()
			m.host.busy = busy
			m.host.mu.Unlock()
			m.server.mu.Lock()
			m.server.faults, m.server.slow, m.server.down = faults, true, m.rng.IntN(2) == 0
			m.server.mu.Unlock()
			if m.rng.IntN(2) == 0 {
				m.server.cut()
			}
			for range 30 + m.rng.IntN(60) {
				m.step()
				held = held || m.source.Status().Waiting > 0
			}
		}
		*losses += m.losses
		if held {
			*moved++
		}
		m.quiesce()
		m.stop()
		<-m.ended
		m.server.cut()
		m.server.group.Wait()
		m.check()
	})
}
