package source

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/wire"
)

// quick verifies small ranges often.
func quick() Verify {
	return Verify{Every: 20 * time.Second, AtLeast: 1 << 20, RangeBytes: 8 * testBlock, WindowBytes: 4 * testBlock}
}

// behind changes what a disk holds, and nobody sees it.
func (m *model) behind(disk, block int) {
	h := m.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset := block * testBlock; !h.overlaps(disk, offset, testBlock) {
		fill(h.rng, h.disks[disk][offset:min(offset+testBlock, len(h.disks[disk]))])
		m.planted[planted{disk, block}] = true
	}
}

type planted struct{ disk, block int }

func (m *model) passed(since time.Time) func(Status) bool {
	return func(st Status) bool {
		for _, d := range st.Disks {
			if d.Proven != d.Total || d.Oldest.Before(since) {
				return false
			}
		}
		return true
	}
}

// doubts are what the epochs of the journal say that they correct.
func (m *model) doubts() (all []wire.Doubt) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for _, f := range m.server.journal.frames {
		if d := f.open.Doubt; f.Type == wire.TypeEpochOpen && d != nil {
			all = append(all, *d)
		}
	}
	return all
}

func verified(t *testing.T, sizes ...int) *model {
	m := bench(t, 64<<10, sizes...)
	m.verify, m.planted = quick(), map[planted]bool{}
	return m
}

func TestVerifyProvesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 64*testBlock, 3*testBlock+512)
		m.start()
		start := time.Now()
		m.wait("proven", m.passed(start.Truncate(time.Second)))
		m.put(5*testBlock, bytes.Repeat([]byte{9}, 512))
		st := m.wait("proven again", m.passed(start.Add(30*time.Second)))
		require.EqualValues(t, 1, st.Epoch)
		require.Zero(t, st.Verify.Found)
		require.GreaterOrEqual(t, st.Verify.Compared, uint64(2*67*testBlock))
		require.Less(t, st.Verify.Compared, uint64(10*67*testBlock), "a pass is due every twenty seconds")
		m.end()
		m.check()
	})
}

// TestVerifyFindsWhatCaptureMissed: it is sent, in an epoch of its own, and said.
func TestVerifyFindsWhatCaptureMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 64*testBlock, 3*testBlock+512)
		copy(m.host.disks[0][20*testBlock:], bytes.Repeat([]byte{3}, 2*testBlock))
		clear(m.host.disks[0][40*testBlock:][:testBlock])
		copy(m.host.disks[1][3*testBlock:], bytes.Repeat([]byte{3}, 512))
		m.start()
		start := time.Now()
		m.wait("proven", m.passed(start.Truncate(time.Second)))
		m.behind(0, 20)
		m.behind(0, 21)
		m.behind(0, 40)
		m.behind(1, 3)
		st := m.wait("corrected", func(st Status) bool { return st.Epoch > 1 && st.Complete })
		require.Equal(t, "verify", st.Reason)
		require.Zero(t, st.Gaps, "no write was dropped")
		st = m.wait("proven again", m.passed(time.Now()))
		require.EqualValues(t, 2*testBlock+512, st.Verify.Found.Differed)
		require.EqualValues(t, testBlock, st.Verify.Found.Absent)
		require.Zero(t, st.Verify.Waiting)
		m.end()
		var ranges []wire.Range
		for _, d := range m.doubts() {
			require.GreaterOrEqual(t, d.Since, start.Truncate(time.Second).UnixNano())
			ranges = append(ranges, d.Ranges...)
		}
		require.ElementsMatch(t, []wire.Range{{Disk: 0, Sector: 160, Sectors: 16}, {Disk: 0, Sector: 320, Sectors: 8}, {Disk: 1, Sector: 24, Sectors: 1}}, ranges)
		m.same("the end", m.server.journal.disks(9, ^uint64(0), m.host.disks), m.host.disks)
	})
}

// A write that has been acknowledged and has not reached the disk yet is no finding.
func TestVerifyWaitsForWritesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 16*testBlock)
		m.start()
		m.wait("proven", m.passed(time.Now().Truncate(time.Second)))
		w := m.inFlight(3*testBlock, bytes.Repeat([]byte{7}, testBlock))
		pause(45 * time.Second) // two passes
		require.Zero(t, m.source.Status().Verify.Found)
		m.host.mu.Lock()
		m.host.completeWrite(w)
		m.host.mu.Unlock()
		st := m.wait("proven", m.passed(time.Now()))
		require.Zero(t, st.Verify.Found)
		require.EqualValues(t, 1, st.Epoch)
		m.end()
		m.check()
	})
}

// inFlight captures a write that the disk keeps for itself.
func (m *model) inFlight(offset int, data []byte) *write {
	h := m.host
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.newWrite(offset, data)
	h.see(w)
	return w
}

// What the server has and has not made durable yet is no finding.
func TestVerifyWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 16*testBlock)
		m.server.syncs = 4 * time.Second
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		for i := range 40 {
			m.put(i%16*testBlock, bytes.Repeat([]byte{byte(i + 1)}, testBlock))
			pause(2100 * time.Millisecond)
		}
		m.wait("proven", m.passed(time.Now()))
		st := m.source.Status()
		require.Zero(t, st.Verify.Found)
		require.EqualValues(t, 1, st.Epoch)
		m.end()
		m.check()
	})
}

// A link that breaks between the end of a baseline and the mark that follows it leaves the server with nothing to show:
// the agent asks for the latest state when there is one.
func TestVerifyWaitsForTheFirstMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 16*testBlock)
		m.server.cutMark = true
		m.start()
		m.wait("proven", m.passed(time.Now().Truncate(time.Second)))
		m.end()
		require.False(t, m.server.cutMark, "the link broke")
		m.check()
	})
}

// A server that does not know of the latest state is not asked again, and nothing is found.
func TestVerifyLeavesAnOldServerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 16*testBlock)
		m.server.ignorant = true
		m.start()
		m.wait("continuous", inPhase(PhaseContinuous))
		m.put(0, bytes.Repeat([]byte{1}, testBlock))
		pause(time.Minute)
		st := m.source.Status()
		require.Zero(t, st.Verify.Found)
		require.Zero(t, st.Disks[0].Proven)
		require.EqualValues(t, 1, st.Epoch)
		m.end()
		m.check()
	})
}

// What was proven outlives the agent, not the journal.
func TestProofsAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := verified(t, 64*testBlock)
		m.verify.Every = time.Hour
		m.start()
		m.wait("proven", m.passed(time.Now().Truncate(time.Second)))
		proofs := m.source.Proofs()
		m.stop()
		<-m.ended
		pause(time.Minute)
		m.verify.Known = &proofs
		m.start()
		pause(time.Minute)
		st := m.source.Status()
		require.EqualValues(t, st.Disks[0].Total, st.Disks[0].Proven)
		require.Zero(t, st.Verify.Compared, "nothing is due")
		m.stop()
		<-m.ended
		m.server.crash()
		m.server.journal = newJournal(m.rng)
		m.start()
		m.wait("proven anew", func(st Status) bool {
			return st.Epoch == 1 && st.Verify.Compared >= 64*testBlock && m.passed(time.Now().Add(-time.Minute))(st)
		})
		m.end()
		m.check()
	})
}

// TestVerifyModel verifies while everything goes on that TestModel does, and now and then changes a disk behind the
// capture's back: nothing else is ever found, and all of that is put right.
func TestVerifyModel(t *testing.T) {
	n := uint64(600)
	if testing.Short() {
		n = 25
	}
	// The latest state was asked for while no mark reached what a BaselineDone had named.
	for _, seed := range modelSeeds(t, n, 1795421884486526214) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			runVerifyModel(t, seed)
		})
	}
}

func runVerifyModel(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		m.server.version = wire.V3
		m.verify, m.planted = quick(), map[planted]bool{}
		m.verify.Every = time.Duration(1+m.rng.IntN(10)) * time.Second
		plants := m.rng.IntN(3) > 0
		m.start()
		for range 150 + m.rng.IntN(250) {
			m.step()
			if plants && m.rng.IntN(60) == 0 {
				d := m.rng.IntN(len(m.host.disks))
				m.behind(d, m.rng.IntN((len(m.host.disks[d])+testBlock-1)/testBlock))
			}
		}
		m.quiesce()
		m.wait("proven", m.passed(time.Now()))
		m.wait("proven once more", m.passed(time.Now().Add(time.Second)))
		m.quiesce()
		m.stop()
		<-m.ended
		m.server.cut()
		m.server.group.Wait()
		for _, j := range append(m.old, m.server.journal) {
			m.onlyPlanted(j)
		}
		m.check()
	})
}

// onlyPlanted: a verify pass finds nothing else.
func (m *model) onlyPlanted(j *journal) {
	for _, f := range j.frames {
		if f.open.Doubt == nil {
			continue
		}
		for _, g := range f.open.Doubt.Ranges {
			for s := g.Sector; s < g.Sector+g.Sectors; s += 8 {
				if !m.planted[planted{int(g.Disk), int(s / 8)}] {
					m.t.Errorf("epoch %d: block %d of disk %d was found to differ, and nobody changed it", f.Epoch, s/8, g.Disk)
				}
			}
		}
	}
}
