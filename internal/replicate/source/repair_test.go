package source

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// opened are the epochs of the journal that answer a repair.
func (m *model) opened(id uint64) (epochs []uint64, reason string) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for _, f := range m.server.journal.frames {
		for _, r := range f.open.Repairs {
			if r == id {
				epochs, reason = append(epochs, f.Epoch), f.open.Reason
			}
		}
	}
	return epochs, reason
}

// read is what the baseline of an epoch read, in blocks of a disk.
func (m *model) read(epoch uint64, disk uint16) (blocks []uint64) {
	for _, f := range m.server.journal.frames {
		if f.Type != wire.TypeBaseline || f.Epoch != epoch {
			continue
		}
		for _, e := range f.extents {
			for at := e.Sector / 8; e.Disk == disk && at < (e.Sector*512+e.Bytes+testBlock-1)/testBlock; at++ {
				blocks = append(blocks, at)
			}
		}
	}
	return blocks
}

func complete(epoch uint64) func(Status) bool {
	return func(st Status) bool { return st.Epoch == epoch && st.Complete }
}

func TestRepairReadsTheRangesInAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 64*testBlock, 3*testBlock+512)
		m.start()
		m.wait("continuous", complete(1))
		m.put(20*testBlock, bytes.Repeat([]byte{7}, testBlock))
		m.wait("acknowledged", func(st Status) bool { return st.RingUsed == 0 && st.Acked > 0 })
		id := m.server.repair(wire.Range{Disk: 0, Sector: 20*8 + 3, Sectors: 1}, wire.Range{Disk: 0, Sector: 31, Sectors: 2},
			wire.Range{Disk: 1, Sector: 24, Sectors: 1 << 63}, // to the end of the disk, which has half a block there
			wire.Range{Disk: 1, Sector: 25, Sectors: 1}, wire.Range{Disk: 9, Sectors: 8}, wire.Range{Disk: 0, Sector: 8})
		st := m.wait("repaired", complete(2))
		require.Equal(t, "repair", st.Reason)
		require.Zero(t, st.Gaps, "no write was lost")
		m.put(0, make([]byte, 512))
		m.wait("calm", func(Status) bool { return m.calm() })
		m.end()
		epochs, reason := m.opened(id)
		require.Equal(t, []uint64{2}, epochs)
		require.Equal(t, "repair", reason)
		require.ElementsMatch(t, []uint64{3, 4, 20}, m.read(2, 0), "blocks that the ranges touch, and no others")
		require.Equal(t, []uint64{3}, m.read(2, 1))
		require.Len(t, m.server.journal.intervals(), 2)
		m.check()
	})
}

// TestRepairWaitsForTheBaseline: what an incomplete baseline has read is not thrown away.
func TestRepairWaitsForTheBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 8*testBlock)
		m.host.readErrs = 1 << 30
		m.start()
		m.wait("a read error", func(st Status) bool { return st.Disks[0].Err != nil })
		id := m.server.repair(wire.Range{Sector: 8, Sectors: 8})
		pause(time.Minute)
		require.EqualValues(t, 1, m.source.Status().Epoch)
		m.host.mu.Lock()
		m.host.readErrs = 0
		m.host.mu.Unlock()
		m.wait("repaired", complete(2))
		m.end()
		epochs, _ := m.opened(id)
		require.Equal(t, []uint64{2}, epochs)
		require.Equal(t, []uint64{1}, m.read(2, 0))
		m.check()
	})
}

// TestRepairJoinsAGap: dropped writes and damage make one epoch.
func TestRepairJoinsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 64*testBlock)
		m.start()
		m.wait("continuous", complete(1))
		m.server.mu.Lock()
		m.server.down = true
		m.server.mu.Unlock()
		m.server.cut()
		for i := range 5 {
			m.put(i*8192, make([]byte, 8192))
		}
		a := m.server.repair(wire.Range{Sector: 40 * 8, Sectors: 8})
		b := m.server.repair(wire.Range{Sector: 41 * 8, Sectors: 8})
		m.server.mu.Lock()
		m.server.down = false
		m.server.mu.Unlock()
		m.wait("repaired", func(st Status) bool { return st.Epoch >= 2 && st.Complete })
		m.wait("repaired", func(Status) bool { epochs, _ := m.opened(b); return len(epochs) > 0 })
		m.wait("calm", func(Status) bool { return m.calm() })
		m.end()
		first, _ := m.opened(a)
		second, _ := m.opened(b)
		require.Equal(t, first, second)
		require.LessOrEqual(t, first[0], uint64(3))
		m.check()
	})
}

// TestRepairOutlivesAgents: the server asks until an epoch answers, and an epoch that answered owes the ranges whoever
// is killed.
func TestRepairOutlivesAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 64*testBlock)
		m.start()
		m.wait("continuous", complete(1))
		id := m.server.repair(wire.Range{Sector: 80, Sectors: 80})
		for range 8 {
			m.kill()
			m.start()
		}
		m.wait("calm", func(Status) bool { return m.calm() })
		m.end()
		epochs, _ := m.opened(id)
		require.NotEmpty(t, epochs)
		m.check()
	})
}

// TestAnEndThatIsTakenBack: an epoch ends for a repair while a disk that joins is read, the link breaks before the next is
// opened, and the server asks no more. The epoch goes on with all that was written meanwhile.
func TestAnEndThatIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 16*testBlock)
		m.server.version = wire.V4
		m.start()
		m.wait("complete", whole)
		m.end()
		m.host.add(64 * testBlock)
		m.build(nil)
		slow := m.source.disks[1].Reader
		m.source.disks[1].Reader = readerFunc(func(p []byte, off int64) (int, error) {
			pause(5 * time.Second)
			return slow.ReadAt(p, off)
		})
		m.run()
		m.wait("joining", func(st Status) bool { return st.Complete && st.Disks[1].Joining })
		m.server.repair(wire.Range{Sector: 8, Sectors: 8})
		m.wait("the end", inPhase(PhaseRescan))
		m.put(3*testBlock, bytes.Repeat([]byte{7}, testBlock))
		pause(time.Second)
		m.server.mu.Lock()
		m.server.journal.repairs = nil
		m.server.mu.Unlock()
		m.server.cut()
		m.wait("joining again", inPhase(PhaseContinuous))
		m.put(5*testBlock, bytes.Repeat([]byte{8}, testBlock))
		st := m.wait("joined", func(st Status) bool { return st.Complete && !st.Disks[1].Joining })
		require.EqualValues(t, 3, st.Epoch, "one that says what joins, one that has it")
		m.wait("calm", func(Status) bool { return m.calm() })
		m.end()
		m.check()
	})
}

func TestRepairIsAskedOnce(t *testing.T) {
	x := &session{s: &Source{log: bench(t, 4<<10, testBlock).config(nil).Log, ep: epoch{repairs: []uint64{1}}}}
	for _, id := range []uint64{1, 2, 2} {
		x.askedToRepair(wire.Repair{ID: id})
	}
	require.Equal(t, []wire.Repair{{ID: 2}}, x.repairs, "the epoch at hand owes 1 already")
	for id := range uint64(2 * maxRepairs) {
		x.askedToRepair(wire.Repair{ID: 100 + id})
	}
	require.Len(t, x.repairs, maxRepairs)

	b, err := wire.Message(wire.TypeRepair, 0, 0, 0, 0, wire.Repair{Ranges: make([]wire.Range, wire.MaxRepair+1)})
	require.NoError(t, err)
	f, err := wire.Parse(b)
	require.NoError(t, err)
	_, err = repairOf(&f)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

// TestProtocol1 is a newer agent and an older server: no sums, no repairs, all else as ever.
func TestProtocol1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 16<<10, 16*testBlock)
		m.server.version = wire.V1
		m.start()
		m.wait("continuous", complete(1))
		m.put(0, bytes.Repeat([]byte{7}, 512))
		m.wait("acknowledged", func(st Status) bool { return st.RingUsed == 0 && st.Acked > 0 })
		m.end()
		for _, f := range m.server.journal.frames {
			require.EqualValues(t, wire.FormatV1, f.Format)
		}
		m.check()
	})
}
