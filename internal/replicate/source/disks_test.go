package source

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/wire"
)

// checkDisks holds what an agent sends to the disks of its epoch, as a journal does.
func (j *journal) checkDisks(s *stored, w *wire.Welcome) error {
	if s.Type == wire.TypeEpochOpen {
		for _, d := range s.open.Disks {
			if i := indexOf(w.Disks, d.Index); i >= 0 && d.Bytes < w.Disks[i].Bytes {
				return fmt.Errorf("disk %d shrank", d.Index)
			}
		}
		if len(s.open.Disks) == 0 {
			return fmt.Errorf("no disks")
		}
		return nil
	}
	for _, e := range s.extents {
		shown, most := uint64(0), uint64(0)
		if i := indexOf(w.Disks, e.Disk); i >= 0 {
			shown = w.Disks[i].Bytes
		}
		if i := indexOf(w.Joining, e.Disk); i >= 0 {
			most = w.Joining[i].Bytes
		}
		if at := e.Sector * wire.SectorSize; at+e.Bytes > max(shown, most) {
			return fmt.Errorf("past the end of disk %d", e.Disk)
		} else if s.Type == wire.TypeBaseline && w.BaselineDone && at < shown {
			return fmt.Errorf("baseline at %d of disk %d, of which points show %d bytes", at, e.Disk, shown)
		}
	}
	return nil
}

// shown is what points of an epoch have of the disks.
func (j *journal) shown(epoch uint64, disks [][]byte) [][]byte {
	out := make([][]byte, len(disks))
	for _, f := range j.frames {
		if f.Type != wire.TypeEpochOpen || f.Epoch != epoch {
			continue
		}
		for _, d := range f.open.Disks {
			out[d.Index] = disks[d.Index][:d.Bytes]
		}
	}
	return out
}

// add adds a disk to the host and its capture, all of it debt.
func (h *host) add(bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disks = append(h.disks, nil)
	c := h.fakeCapture
	for g := range c.gen {
		c.gen[g] = append(c.gen[g], nil)
	}
	c.debt, c.late, c.before = append(c.debt, nil), append(c.late, nil), append(c.before, nil)
	h.extend(len(h.disks)-1, bytes)
}

// grow adds to the end of a disk.
func (h *host) grow(disk, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.extend(disk, len(h.disks[disk])+bytes)
}

func (h *host) extend(disk, bytes int) {
	c, old := h.fakeCapture, len(h.disks[disk])
	more := make([]byte, bytes-old)
	if h.rng.IntN(3) > 0 {
		fill(h.rng, more)
	}
	h.disks[disk], c.before[disk] = append(h.disks[disk], more...), append(c.before[disk], more...)
	blocks := (bytes + testBlock - 1) / testBlock
	for _, bits := range []*bitset{&c.gen[0][disk], &c.gen[1][disk], &c.debt[disk], &c.late[disk]} {
		*bits = append(*bits, make(bitset, blocks-len(*bits))...)
	}
	for b := old / testBlock; b < blocks; b++ {
		c.debt[disk][b] = true
	}
}

func (m *model) changeDisks() {
	m.kill()
	if n := len(m.host.disks); n < 6 && m.rng.IntN(2) == 0 {
		m.host.add((1+m.rng.IntN(30))*testBlock + 512*m.rng.IntN(8))
	} else {
		m.host.grow(m.rng.IntN(n), 512*(1+m.rng.IntN(100)))
	}
	m.start()
}

// TestModelOfDisks is TestModel with disks that come and grow, between all that can go wrong.
func TestModelOfDisks(t *testing.T) {
	n := uint64(600)
	if testing.Short() {
		n = 25
	}
	for _, seed := range modelSeeds(t, n) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed, func(m *model) { m.change, m.server.version = true, wire.V4 })
		})
	}
}

// While a new disk is copied, slowly, the points of the others go on and do not have it; then they do. A disk that grew
// is the same, and only its new end is read.
func TestPointsGoOnWhileADiskJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 64*testBlock, 8*testBlock+512)
		m.server.version = wire.V4
		m.start()
		m.wait("complete", whole)
		m.end()
		m.host.add(3000 * testBlock)
		fill(m.rng, m.host.disks[2])
		copy(m.host.before[2], m.host.disks[2])
		m.build(nil)
		m.source.SetBandwidth(MinBandwidth)
		m.run()
		joining := func(st Status) bool { return st.Complete && st.Disks[2].Joining }
		st := m.wait("joining", joining)
		require.EqualValues(t, 2, st.Epoch, "one epoch says that it joins")
		require.Equal(t, "disks", st.Reason)
		require.Zero(t, st.Disks[2].Backlogged)
		before := m.recoverable()
		m.put(0, make([]byte, testBlock))
		pause(3 * time.Second)
		require.True(t, joining(m.source.Status()), "the test must copy more slowly")
		now := m.recoverable()
		require.Equal(t, before.epoch, now.epoch)
		require.Greater(t, now.marks[len(now.marks)-1].time, before.marks[len(before.marks)-1].time+int64(time.Second), "points go on")
		require.Greater(t, len(now.ends), len(before.ends))
		m.server.mu.Lock()
		shown := m.server.journal.shown(2, m.host.disks)
		m.server.mu.Unlock()
		require.Empty(t, shown[2])
		m.source.SetBandwidth(0)
		st = m.wait("joined", func(st Status) bool { return st.Complete && !st.Disks[2].Joining })
		require.EqualValues(t, 3, st.Epoch)
		m.end()

		m.host.grow(1, 50*testBlock) // which did not end with a block
		m.build(nil)
		m.run()
		m.wait("grown", func(st Status) bool { return st.Epoch == 5 && st.Complete })
		m.end()
		read := m.read(4, 1)
		require.EqualValues(t, []uint64{8, 58}, []uint64{slices.Min(read), slices.Max(read)})
		require.Empty(t, m.read(4, 0))
		require.Empty(t, m.read(4, 2))
		m.check()
	})
}

func (m *model) recoverable() interval {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	all := m.server.journal.intervals()
	return all[len(all)-1]
}

// A disk that is gone is in no epoch any more, and what was captured of it and not sent is in no point that shows it.
func TestADiskGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 64<<10, 64*testBlock, 8*testBlock)
		m.server.version = wire.V4
		m.start()
		m.wait("complete", whole)
		m.end()
		cfg := m.config(nil)
		cfg.Disks = cfg.Disks[:1]
		var err error
		m.source, err = New(cfg)
		require.NoError(t, err)
		m.run()
		m.wait("without it", func(st Status) bool { return st.Epoch == 2 && st.Complete })
		m.end()
		require.Len(t, m.server.journal.welcome().Disks, 1)
		require.NotEmpty(t, m.server.journal.shown(1, m.host.disks)[1])
		require.Empty(t, m.server.journal.shown(2, m.host.disks)[1])
		require.Empty(t, m.server.problems)
	})
}
