package source

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// taken is a cut and what the disks held when it was taken, while nothing was being written.
type taken struct {
	*Cut
	want [][]byte
}

func (m *model) cutNow() (taken, error) {
	m.host.mu.Lock()
	var want [][]byte
	for _, d := range m.host.disks {
		want = append(want, bytes.Clone(d))
	}
	m.host.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.t.Context(), 100*time.Millisecond)
	defer cancel()
	c, err := m.source.Cut(ctx)
	return taken{c, want}, err
}

// requireHeld fails unless the journal at the cut's position holds what the disks held.
func (m *model) requireHeld(c taken) {
	m.t.Helper()
	epoch, position, err := c.Position(m.t.Context())
	require.NoError(m.t, err)
	require.True(m.t, m.recordable(epoch, position, c.want))
}

// recordable tells whether the server has everything up to a position of a recoverable epoch, as whoever records a point
// asks it. If so, it must be what the disks held.
func (m *model) recordable(epoch, position uint64, want [][]byte) bool {
	m.t.Helper()
	pause(time.Second) // so that the status is of now
	m.wait("acknowledged", func(st Status) bool { return st.Connected && st.RingUsed == 0 })
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for _, i := range m.server.journal.intervals() {
		if i.epoch != epoch || position < i.from || !slices.ContainsFunc(i.marks, func(k mark) bool { return k.position >= position }) {
			continue
		}
		for n, d := range m.server.journal.disks(epoch, position, want) {
			require.True(m.t, bytes.Equal(want[n], d), "disk %d at position %d of epoch %d", n, position, epoch)
		}
		return true
	}
	return false
}

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 64*testBlock)
		m.build(nil)
		_, err := m.cutNow()
		require.True(t, fault.Is(err, fault.Conflict), "not running: %v", err)
		m.source.SetBandwidth(1)
		m.run()
		m.wait("initial sync", inPhase(PhaseInitialSync))
		_, err = m.cutNow()
		require.True(t, fault.Is(err, fault.Conflict), "no baseline: %v", err)
		m.source.SetBandwidth(0)
		m.wait("continuous", inPhase(PhaseContinuous))

		idle, err := m.cutNow()
		require.NoError(t, err)
		m.requireHeld(idle)

		m.put(0, bytes.Repeat([]byte{1}, 4096))
		first, err := m.cutNow()
		require.NoError(t, err)
		m.put(0, bytes.Repeat([]byte{2}, 4096))
		m.put(4096, bytes.Repeat([]byte{3}, 4096))
		second, err := m.cutNow()
		require.NoError(t, err)
		m.server.cut() // what is not sent yet goes over another connection
		m.put(0, bytes.Repeat([]byte{4}, 4096))
		m.requireHeld(first)
		m.requireHeld(second)

		last, err := m.cutNow()
		if err != nil { // the link is not back yet
			m.wait("continuous", inPhase(PhaseContinuous))
			last, err = m.cutNow()
		}
		require.NoError(t, err)
		m.end()
		_, _, err = last.Position(context.Background())
		if err != nil {
			require.True(t, fault.Is(err, fault.Transient), "%v", err)
		}
		m.check()
	})
}

// A write that is dropped before a cut takes the cut along, and one that is dropped afterwards never makes it lie.
func TestCutAndDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 64*testBlock)
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.put(0, bytes.Repeat([]byte{9}, 64<<10)) // never fits
		_, err := m.cutNow()
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		m.wait("gap", func(st Status) bool { return st.Epoch == 2 })
		m.wait("continuous", inPhase(PhaseContinuous))
		c, err := m.cutNow()
		require.NoError(t, err)
		m.put(0, bytes.Repeat([]byte{10}, 64<<10))
		m.requireHeld(c)
		m.wait("continuous again", func(st Status) bool { return st.Phase == PhaseContinuous && st.Epoch == 3 })
		m.end()
		m.check()
	})
}

// Whatever happens after a cut, what it says it holds is held.
func TestCutsAtRandom(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("UNDERSTUDY_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	noise := rand.NewChaCha8([32]byte{byte(seed)}) // nothing that compresses
	told, lost := 0, 0
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			m := bench(t, 256<<10, 64*testBlock)
			m.start()
			m.wait("continuous", inPhase(PhaseContinuous))
			var cuts []taken
			for range 60 {
				switch rng.IntN(14) {
				case 0:
					m.server.cut()
				case 1:
					pause(time.Duration(rng.IntN(2000)) * time.Millisecond)
				case 2, 3, 4:
					if c, err := m.cutNow(); err == nil {
						cuts = append(cuts, c)
					}
				case 5:
					m.source.SetBandwidth(int64(rng.IntN(2))) // so slow that writes wait, or no limit
				default:
					data := make([]byte, (1+rng.IntN(4))*testBlock)
					_, _ = noise.Read(data)
					m.put(rng.IntN(60)*testBlock, data)
				}
			}
			m.source.SetBandwidth(0)
			pause(5 * time.Second) // so that all drops are found
			m.wait("continuous", inPhase(PhaseContinuous))
			for _, c := range cuts {
				epoch, position, err := c.Position(t.Context())
				if err != nil {
					require.True(t, fault.Is(err, fault.Conflict), "%v", err)
					lost++
					continue
				}
				if m.recordable(epoch, position, c.want) {
					told++
				} else {
					lost++ // sent over a link that was cut, and the epoch ended
				}
			}
			m.end()
			m.check()
		})
	}
	require.Positive(t, told)
	t.Logf("%d cuts held, %d lost", told, lost)
}
