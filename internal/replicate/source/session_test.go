package source

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// bench is a quiet model: nothing goes wrong unless a test makes it.
func bench(t *testing.T, ring uint64, sizes ...int) *model {
	rng := rand.New(rand.NewPCG(1, 1))
	own := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), 1)) } // each is used by goroutines of its own
	return &model{t: t, rng: rng, host: newHost(own(), ring, sizes...), server: newServer(own())}
}

func (m *model) end() {
	m.stop()
	<-m.ended
	m.server.cut()
	m.server.group.Wait()
}

// put writes data at once, captured if it fits the ring.
func (m *model) put(offset int, data []byte) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.host.put(offset, data)
}

func (h *host) put(offset int, data []byte) {
	w := h.newWrite(offset, data)
	h.see(w)
	h.completeWrite(w)
}

// flush has the programs see a flush, which is no frame's.
func (m *model) flush() {
	h := m.host
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &write{op: capture.Flush, stamp: time.Now()}
	h.see(w)
	h.completeWrite(w)
}

func (h *host) newWrite(offset int, data []byte) *write {
	return &write{op: capture.Write, offset: offset, bytes: len(data), data: data, stamp: time.Now()}
}

// see has the programs see a write whole; it is in flight then.
func (h *host) see(w *write) {
	h.mark(h.gen[h.current], w)
	h.programs[0] = &program{w: w, parts: []int{len(w.data)}}
	h.finish(0)
}

func (h *host) completeWrite(w *write) {
	for i, o := range h.inflight {
		if o == w {
			h.complete(i)
			return
		}
	}
}

func (m *model) wait(what string, until func(Status) bool) Status {
	for range 3000 {
		if st := m.source.Status(); until(st) {
			return st
		}
		pause(50 * time.Millisecond)
	}
	require.Fail(m.t, "never "+what, "%+v", m.source.Status())
	return Status{}
}

func inPhase(p Phase) func(Status) bool { return func(st Status) bool { return st.Phase == p } }

func TestLifeOfAReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 64*testBlock, 3*testBlock+512)
		m.start()
		st := m.wait("initial sync", inPhase(PhaseInitialSync))
		require.Equal(t, "initial", st.Reason)
		require.True(t, st.Connected)

		st = m.wait("continuous", func(st Status) bool { return st.Phase == PhaseContinuous && st.Disks[0].Backlogged == 0 })
		require.EqualValues(t, 1, st.Epoch)
		require.True(t, st.Complete)
		require.NoError(t, st.Err)
		require.Zero(t, st.Lag)
		for i, d := range st.Disks {
			require.EqualValues(t, len(m.host.disks[i]), d.Total)
			require.Equal(t, d.Total, d.Replicated)
		}
		require.Positive(t, st.RawBytes)
		require.Positive(t, st.WireBytes)

		m.put(0, make([]byte, 512))
		st = m.wait("acknowledged", func(st Status) bool { return st.Acked > 0 && st.Latency.Frames > 0 })
		require.Less(t, st.Latency.OldestP99, 100*time.Millisecond)

		// The server goes away: writes wait in the ring, then are dropped.
		m.server.mu.Lock()
		m.server.down = true
		m.server.mu.Unlock()
		m.server.cut()
		m.put(4096, make([]byte, 4096))
		pause(10 * time.Second)
		st = m.wait("connecting", inPhase(PhaseConnecting))
		require.False(t, st.Connected)
		require.Error(t, st.Err)
		require.Greater(t, st.Lag, 9*time.Second)
		require.Positive(t, st.RingUsed)
		require.Zero(t, st.Drops)
		for range 4 {
			m.put(8192, make([]byte, 8192))
		}
		m.server.mu.Lock()
		m.server.down = false
		m.server.mu.Unlock()
		st = m.wait("rescan", inPhase(PhaseRescan))
		require.Equal(t, "gap", st.Reason)
		st = m.wait("continuous", inPhase(PhaseContinuous))
		require.EqualValues(t, 2, st.Epoch)
		require.EqualValues(t, 1, st.Gaps)
		require.Positive(t, st.Drops)
		require.Positive(t, st.Disks[0].Rescanned)
		require.Less(t, st.Disks[0].Rescanned, st.Disks[0].Total, "a gap is no full scan")

		m.end()
		require.Equal(t, PhaseStopped, m.source.Status().Phase)
		m.check()
	})
}

// What a mark has said the marks of the next connection say, too, though it was a flush, which no frame carries, and the ring
// has let go of it. Else no mark might ever reach the position that a BaselineDone has named.
func TestMarksDoNotGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 16*testBlock)
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.flush()
		pause(3 * time.Second)
		require.Zero(t, m.source.Status().RingUsed)
		m.server.cut()
		pause(5 * time.Second)
		m.end()
		m.check()
		last, marks := uint64(0), 0
		for _, f := range m.server.journal.frames {
			if f.Type == wire.TypeMark {
				require.GreaterOrEqual(t, f.Last, last)
				last, marks = f.Last, marks+1
			}
		}
		require.Greater(t, last, m.recoverable().from, "the flush came afterwards")
		require.Greater(t, marks, 5)
	})
}

func TestFreshZeroesAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 256*testBlock)
		clear(m.host.disks[0])
		m.host.disks[0][5] = 1
		copy(m.host.before[0], m.host.disks[0])
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.end()
		extents := 0
		for _, f := range m.server.journal.frames {
			if f.Type == wire.TypeBaseline {
				extents += len(f.extents)
			}
		}
		require.Equal(t, 1, extents)
		m.check()
	})
}

func TestPermanentRefusals(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Fenced, fault.Denied, fault.Unsupported} {
		synctest.Test(t, func(t *testing.T) {
			m := bench(t, 16<<10, 8*testBlock)
			m.server.refuse = kind
			err := m.newSource(nil).Run(t.Context())
			require.True(t, fault.Is(err, kind), "%v", err)
			m.server.group.Wait()
		})
	}
}

func TestPassingRefusalIsSeenAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		m.server.refuse = fault.OutOfSpace
		m.start()
		pause(time.Minute)
		// A server may hang up before it has read the greeting; the next attempt hears why.
		st := m.wait("refused", func(st Status) bool { return fault.Is(st.Err, fault.OutOfSpace) })
		require.Equal(t, PhaseConnecting, st.Phase)
		m.server.mu.Lock()
		require.Greater(t, m.server.session, uint64(60/5), "the pause is capped")
		require.Less(t, m.server.session, uint64(100), "and grows")
		m.server.refuse = fault.Unknown
		m.server.mu.Unlock()
		st = m.wait("continuous", inPhase(PhaseContinuous))
		require.NoError(t, st.Err)
		m.end()
	})
}

// TestFencedWhileSending: the refusal comes while the agent is sending, to a connection that is closed right after.
func TestFencedWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 64*testBlock)
		dial := func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				conn := wire.NewConn(far)
				defer conn.Close()
				if _, _, err := conn.Receive(nil); err != nil {
					return
				}
				b, _ := wire.Message(wire.TypeWelcome, 0, 0, 0, 0, wire.Welcome{Version: wire.V1, Journal: "j"})
				_ = conn.Send(b)
				_, _, _ = conn.Receive(nil)
				conn.SendRefusal(fault.New(fault.Fenced, "test", "a later session"))
			}()
			return near, nil
		}
		err := m.newSource(dial).Run(t.Context())
		require.True(t, fault.Is(err, fault.Fenced), "%v", err)
	})
}

func TestDeadLinkIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		dials := make(chan time.Time, 100)
		dial := func(context.Context) (net.Conn, error) {
			dials <- time.Now()
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }() // hears everything, says nothing
			return near, nil
		}
		s := m.newSource(dial)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		first := <-dials
		second := <-dials
		require.InDelta(t, 15, second.Sub(first).Seconds(), 1)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestIdleLinkIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		before := time.Now()
		pause(5 * time.Minute)
		require.EqualValues(t, 1, m.server.session)
		marks := 0
		for _, f := range m.server.journal.frames {
			if f.Type == wire.TypeMark && f.When().After(before) {
				marks++
			}
		}
		require.InDelta(t, 300, marks, 10, "one a second, each with a later time")
		m.end()
		m.check()
	})
}

func TestReadErrorKeepsDebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		m.host.readErrs = 1 << 30
		m.start()
		st := m.wait("a read error", func(st Status) bool { return st.Disks[0].Err != nil })
		require.ErrorIs(t, st.Err, errMedium)
		pause(time.Minute)
		st = m.source.Status()
		require.Equal(t, PhaseInitialSync, st.Phase)
		require.Equal(t, st.Disks[0].Total, st.Disks[0].Backlogged)
		m.host.mu.Lock()
		require.Greater(t, m.host.readErrs, 1<<30-100, "it backs off")
		m.host.readErrs = 0
		m.host.mu.Unlock()
		st = m.wait("continuous", inPhase(PhaseContinuous))
		require.NoError(t, st.Err)
		m.end()
		m.check()
	})
}

func TestDamagedRingIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		m.host.ringErr = fault.New(fault.Corruption, "test", "makes no sense")
		err := m.newSource(nil).Run(t.Context())
		require.True(t, fault.Is(err, fault.Corruption), "%v", err)
		m.server.group.Wait()
	})
}

// TestBeyondTheDisk: the disk has grown since it was registered.
func TestBeyondTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 8*testBlock)
		cfg := m.config(nil)
		cfg.Disks[0].Bytes = 6*testBlock + 512
		s, err := New(cfg)
		require.NoError(t, err)
		m.source = s
		m.run()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.put(7*testBlock, make([]byte, 512))          // all of it beyond
		m.put(6*testBlock, make([]byte, testBlock))    // half of it
		m.put(testBlock, bytes.Repeat([]byte{7}, 512)) // none of it
		m.wait("acknowledged", func(st Status) bool { return st.RingUsed == 0 && st.Latency.Frames > 0 })
		m.end()
		require.Empty(t, m.server.problems)
		ends, sectors := 0, uint64(0)
		for _, f := range m.server.journal.frames {
			if f.Type == wire.TypeData {
				for _, e := range f.extents {
					sectors += e.Bytes / 512
					ends += int(e.Flags & wire.EndOfBio)
				}
			}
		}
		require.Equal(t, 2, ends)
		require.EqualValues(t, 2, sectors)
	})
}

func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 1024*testBlock)
		noise := rand.NewChaCha8([32]byte{1})
		_, _ = noise.Read(m.host.disks[0])
		copy(m.host.before[0], m.host.disks[0])
		m.build(nil)
		m.source.SetBandwidth(1) // raised to MinBandwidth
		m.run()
		start := time.Now()
		pause(20 * time.Second)
		sent := m.source.meter.wire.Load()
		require.InDelta(t, 20*MinBandwidth, sent, 4*MinBandwidth)
		require.EqualValues(t, 1, m.server.session, "a slow link is not a dead one")
		st := m.source.Status()
		require.InDelta(t, MinBandwidth, st.Rate, MinBandwidth/4)
		require.InDelta(t, float64(4<<20)/MinBandwidth-20, st.ETA.Seconds(), 15)
		m.source.SetBandwidth(0)
		m.wait("continuous", inPhase(PhaseContinuous))
		require.Less(t, time.Since(start), 30*time.Second)
		m.end()
	})
}

func TestRebootIsARescan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 32*testBlock)
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.put(0, make([]byte, 4096))
		m.wait("acknowledged", func(st Status) bool { return st.Acked > 0 && st.RingUsed == 0 })
		m.stop()
		<-m.ended
		m.host.reboot(16 << 10)
		m.start()
		st := m.wait("rescan", inPhase(PhaseRescan))
		require.Equal(t, "tracking-lost", st.Reason)
		st = m.wait("continuous", inPhase(PhaseContinuous))
		require.EqualValues(t, 2, st.Epoch)
		m.end()
		m.check()
		require.Len(t, m.server.journal.intervals(), 2, "what was recoverable before stays so")
	})
}

func TestConfigurationIsChecked(t *testing.T) {
	m := bench(t, 16<<10, 8*testBlock)
	good := m.config(nil)
	for name, edit := range map[string]func(*Config){
		"no capture":  func(c *Config) { c.Capture = nil },
		"no dialer":   func(c *Config) { c.Dial = nil },
		"no clock":    func(c *Config) { c.Clock = nil },
		"no disks":    func(c *Config) { c.Disks = nil },
		"no reader":   func(c *Config) { c.Disks = []Disk{{Bytes: 512}} },
		"half sector": func(c *Config) { c.Disks = []Disk{{Bytes: 700, Reader: diskReader{m.host, 0}}} },
	} {
		c := good
		edit(&c)
		_, err := New(c)
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", name, err)
	}
	_, err := New(good)
	require.NoError(t, err)
}

func TestVersionIsChecked(t *testing.T) {
	frame := func(typ wire.Type, v any) wire.Frame {
		b, err := wire.Message(typ, 0, 0, 0, 0, v)
		require.NoError(t, err)
		f, err := wire.Parse(b)
		require.NoError(t, err)
		return f
	}
	for _, c := range []struct {
		f     wire.Frame
		kind  fault.Kind
		final bool
	}{
		{frame(wire.TypeWelcome, wire.Welcome{Version: 99, Journal: "j"}), fault.Unsupported, true},
		{frame(wire.TypeWelcome, wire.Welcome{Version: wire.V1}), fault.Unsupported, true},
		{frame(wire.TypeWelcome, wire.Welcome{Version: wire.V1, Journal: string(make([]byte, maxJournalID+1))}), fault.Unsupported, true},
		{frame(wire.TypeHello, wire.Hello{}), fault.Corruption, false},
		{frame(wire.TypeRefuse, wire.Refusal{Kind: "conflict"}), fault.Conflict, false},
	} {
		_, err := welcome(&c.f)
		require.True(t, fault.Is(err, c.kind), "%v", err)
		require.Equal(t, c.final, permanent(err))
	}
}
