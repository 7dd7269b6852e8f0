package source

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// narrow is a source that is continuous, and has a link of so many bytes per second from then on. outran may be nil.
func narrow(t *testing.T, ring uint64, blocks, link int, outran func() bool) *model {
	m := bench(t, ring, blocks*testBlock)
	m.outran, m.host.readable = outran, true
	m.build(nil)
	m.run()
	m.wait("continuous", inPhase(PhaseContinuous))
	m.source.SetBandwidth(int64(link))
	return m
}

// flood writes random blocks at so many bytes per second for a while, or until it is told to stop.
func (m *model) flood(noise *rand.ChaCha8, rate int, d time.Duration, stop func(Status) bool) time.Duration {
	blocks := len(m.host.disks[0]) / testBlock
	return m.flow(noise, rate, d, func() int { return m.rng.IntN(blocks) }, stop)
}

// flow writes the blocks that next says.
func (m *model) flow(noise *rand.ChaCha8, rate int, d time.Duration, next func() int, stop func(Status) bool) time.Duration {
	const every = 20 * time.Millisecond
	data := make([]byte, testBlock)
	start, sent := time.Now(), 0
	for time.Since(start) < d && !stop(m.source.Status()) {
		for ; sent < int(time.Since(start).Seconds()*float64(rate)); sent += testBlock {
			_, _ = noise.Read(data)
			m.put(next()*testBlock, append([]byte(nil), data...))
		}
		pause(every)
	}
	return time.Since(start)
}

// Writes come at twice what the link takes for half a minute, then at half of it. One epoch is opened for all of that, and
// one for what follows; and it is over sooner than where each drop has an epoch of its own.
func TestOverflowIsOneEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, st := overflowed(t, nil)
		without, each := overflowed(t, func() bool { return false })
		t.Logf("continuous after %s, %d epochs, %d rounds; without rounds after %s, %d epochs", took, st.Epoch-1, st.Rounds, without, each.Epoch-1)
		require.EqualValues(t, 2, st.Epoch-1)
		require.Positive(t, st.Rounds)
		require.False(t, st.Overflow)
		require.Greater(t, each.Epoch, st.Epoch)
		require.Less(t, took, without)
	})
}

func overflowed(t *testing.T, outran func() bool) (time.Duration, Status) {
	const link = 256 << 10
	noise := rand.NewChaCha8([32]byte{1})
	m := narrow(t, 256<<10, 1024, link, outran)
	never := func(Status) bool { return false }
	m.flood(noise, 2*link, 30*time.Second, never)
	took := m.flood(noise, link/2, 20*time.Minute, func(st Status) bool { return st.Complete && st.Phase == PhaseContinuous })
	st := m.source.Status()
	require.Equal(t, PhaseContinuous, st.Phase)
	m.source.SetBandwidth(0)
	m.wait("calm", func(Status) bool { return m.calm() })
	m.end()
	m.check()
	return took, st
}

// Blocks that are written again and again, faster than they can be sent, are not sent again and again: the rounds rest. Where
// each block is written once they do not, for all of it must be sent.
func TestOverflowRests(t *testing.T) {
	const link = 256 << 10
	synctest.Test(t, func(t *testing.T) {
		require.Less(t, linkInUse(t, link, 8*link, link/testBlock), 0.4)
	})
	synctest.Test(t, func(t *testing.T) {
		require.Greater(t, linkInUse(t, link, 2*link, math.MaxInt), 0.8)
	})
}

// linkInUse is the share of the link's time that is used in half a minute of an overflow, while the first so many blocks of a disk
// are written in turn at so many bytes per second.
func linkInUse(t *testing.T, link, rate, blocks int) float64 {
	const lasts = 30 * time.Second
	var over atomic.Bool
	m := narrow(t, 64<<10, 8192, link, func() bool { return !over.Load() })
	at, wire, from := 0, uint64(0), time.Time{}
	m.flow(rand.NewChaCha8([32]byte{3}), rate, 2*lasts, func() int { at++; return (at - 1) % blocks }, func(st Status) bool {
		if from.IsZero() && st.Rounds == 2 {
			wire, from = st.WireBytes, time.Now()
		}
		return !from.IsZero() && time.Since(from) >= lasts
	})
	require.False(t, from.IsZero())
	st := m.source.Status()
	used := float64(st.WireBytes-wire) / float64(link) / time.Since(from).Seconds()
	t.Logf("%d rounds, link in use %.2f", st.Rounds, used)
	over.Store(true)
	m.source.SetBandwidth(0)
	m.wait("calm", func(Status) bool { return m.calm() })
	m.end()
	m.check()
	return used
}

// A link that was slow, or took nothing, while it was measured, and is not any more: as little as is sent in rounds would not tell.
func TestOverflowEndsWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noise := rand.NewChaCha8([32]byte{4})
		m := narrow(t, 64<<10, 1024, MinBandwidth, nil)
		m.flood(noise, 2*MinBandwidth, 2*time.Minute, func(st Status) bool { return st.Rounds > 1 })
		require.True(t, m.source.Status().Overflow)
		m.source.SetBandwidth(0)
		took := m.flood(noise, 2*MinBandwidth, 10*time.Minute, inPhase(PhaseContinuous))
		t.Logf("continuous after %s", took)
		require.Less(t, took, overflowTry/4)
		m.end()
		m.check()
	})
}

// The control plane calls a server NOT_CONVERGING whose copy began anew three times over half an hour and never was complete.
// This is what such a server's agent does all that time.
func TestOverflowTriesAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noise := rand.NewChaCha8([32]byte{2})
		m := narrow(t, 64<<10, 128, MinBandwidth, nil)
		lost, complete := time.Time{}, false
		var opened []time.Duration
		epoch := uint64(1)
		m.flood(noise, 2*MinBandwidth, 12*time.Minute, func(st Status) bool {
			if st.Epoch != epoch {
				if epoch == 1 {
					lost = time.Now()
				}
				epoch, opened = st.Epoch, append(opened, time.Since(lost))
			}
			complete = complete || st.Epoch > 1 && st.Complete
			return false
		})
		t.Logf("epochs opened after %s", opened)
		require.False(t, complete)
		require.Greater(t, len(opened), 3, "the first began when the copy was lost, the others began it anew")
		require.Less(t, opened[3], 30*time.Minute, "which is what the control plane waits for")
		require.Less(t, len(opened), 8, "most of the time it keeps to one")
		m.source.SetBandwidth(0)
		m.wait("continuous", inPhase(PhaseContinuous))
		m.end()
		m.check()
	})
}

// TestOverflowModel is TestModel with writes that outrun the link now and then, as far as the agent can tell.
func TestOverflowModel(t *testing.T) {
	n := uint64(600)
	if testing.Short() {
		n = 60
	}
	rounds := uint64(0)
	for _, seed := range modelSeeds(t, n) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { rounds += runOverflowModel(t, seed) }) {
			return
		}
	}
	t.Logf("%d rounds", rounds)
	require.Greater(t, rounds, n/4)
}

func runOverflowModel(t *testing.T, seed uint64) (rounds uint64) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		until := time.Now().Add(time.Duration(m.rng.IntN(30)) * time.Second)
		m.outran = func() bool { return time.Now().Before(until) }
		m.start()
		for range 150 + m.rng.IntN(250) {
			m.step()
			rounds = max(rounds, m.source.Status().Rounds)
		}
		m.quiesce()
		rounds = max(rounds, m.source.Status().Rounds)
		m.stop()
		<-m.ended
		m.server.cut()
		m.server.group.Wait()
		m.check()
	})
	return rounds
}
