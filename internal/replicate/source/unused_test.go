package source

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// told is an Unused that says what a test wants, when it wants.
type told struct {
	m         *model
	ranges    []Range
	committed int
	gate      chan struct{} // closed when Find may answer
	sure      []bool        // as Find was asked
	err       error
}

func (f *told) Commit(context.Context) error {
	f.committed++
	return nil
}

func (f *told) Find(ctx context.Context, disk uint16, sure bool) ([]Range, error) {
	select {
	case <-f.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if disk != 0 {
		return nil, f.err
	}
	f.sure = append(f.sure, sure)
	return f.ranges, f.err
}

// sparing is a server of one disk full of content whose middle is not in use.
func sparing(t *testing.T, blocks int) (*model, *told) {
	m := bench(t, 64<<10, blocks*testBlock)
	fill(m.rng, m.host.disks[0])
	m.host.before[0] = bytes.Clone(m.host.disks[0])
	f := &told{m: m, gate: make(chan struct{}), ranges: []Range{
		{Offset: 10*testBlock + 512, Length: uint64(blocks-20) * testBlock}, {Offset: uint64(blocks-3) * testBlock, Length: 1 << 40}, {Offset: 1 << 50, Length: 5},
	}}
	return m, f
}

func (m *model) startWith(f Unused) {
	m.build(nil)
	m.source.cfg.Unused = f
	m.run()
}

func whole(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 }

// sectorsSent is how many sectors the newest epoch's baseline carried.
func (m *model) sectorsSent() (n uint64) {
	for _, g := range m.sent() {
		n += g.Sectors
	}
	return n
}

func TestUnusedIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blocks = 4000
		m, f := sparing(t, blocks)
		close(f.gate)
		m.server.slow = true // so that it is found before it is read
		m.startWith(f)
		m.wait("found", func(st Status) bool { return st.Disks[0].Unused > 0 })
		m.server.mu.Lock()
		m.server.slow = false
		m.server.mu.Unlock()
		written := bytes.Repeat([]byte{7}, testBlock)
		m.put(2000*testBlock, written) // it is in use from now on
		copy(m.host.disks[0][2000*testBlock:], written)
		st := m.wait("complete", whole)
		require.Less(t, m.sectorsSent(), uint64(blocks/4*8))
		require.Greater(t, st.Disks[0].Unused, uint64(blocks/2*testBlock))
		require.Equal(t, 1, f.committed)
		m.end()
		require.Equal(t, []bool{true}, f.sure)
		got := m.server.journal.disks(1, ^uint64(0), m.host.disks)[0]
		want := m.host.disks[0]
		require.True(t, bytes.Equal(want[:10*testBlock], got[:10*testBlock]))
		require.True(t, bytes.Equal(want[(blocks-10)*testBlock:(blocks-3)*testBlock], got[(blocks-10)*testBlock:(blocks-3)*testBlock]))
		require.Equal(t, written, got[2000*testBlock:][:testBlock])
		require.Equal(t, make([]byte, 3*testBlock), got[(blocks-3)*testBlock:], "unused ranges read as zeroes")
	})
}

// A write that was in flight when the epoch opened makes its block debt again, in use or not.
func TestLateBlocksAreReadThoughUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := sparing(t, 600)
		close(f.gate)
		w := &write{op: capture.Write, offset: 300 * testBlock, bytes: testBlock, data: bytes.Repeat([]byte{9}, testBlock)}
		m.host.mu.Lock()
		m.host.mark(m.host.gen[m.host.current], w)
		m.host.inflight = append(m.host.inflight, w)
		m.host.mu.Unlock()
		m.startWith(f)
		m.wait("all is paid", func(st Status) bool { return st.Disks[0].Unused > 0 && st.Disks[0].Backlogged == 0 })
		m.host.mu.Lock()
		m.host.complete(0)
		m.host.mu.Unlock()
		m.wait("complete", whole)
		m.end()
		require.Equal(t, w.data, m.server.journal.disks(1, ^uint64(0), m.host.disks)[0][300*testBlock:][:testBlock])
	})
}

// What is found after the baseline may owe something else, or not at all, changes nothing.
func TestTooLateToTakeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := sparing(t, 600)
		m.startWith(f)
		st := m.wait("complete", whole)
		close(f.gate)
		require.Zero(t, st.Disks[0].Unused)
		m.end()
		m.check()
	})
	synctest.Test(t, func(t *testing.T) {
		m, f := sparing(t, 600)
		f.err = fault.New(fault.Transient, "test", "unreadable")
		close(f.gate)
		m.startWith(f)
		st := m.wait("complete", whole)
		require.Zero(t, st.Disks[0].Unused)
		m.end()
		m.check()
	})
}

// In a rescan everything is compared, in use or not: the replica is the disk again, whole.
func TestUnusedInARescan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := rebooted(t, 1000, func(d []byte) { d[500*testBlock] ^= 1 })
		f := &told{m: m, gate: make(chan struct{}), ranges: []Range{{Offset: 400 * testBlock, Length: 200 * testBlock}}}
		close(f.gate)
		m.startWith(f)
		st := m.wait("complete", whole)
		require.Zero(t, st.Disks[0].Unused)
		require.Equal(t, []wire.Range{{Sector: 500 * 8, Sectors: 8}}, m.sent())
		m.end()
		m.same("the end", m.server.journal.disks(9, ^uint64(0), m.host.disks), m.host.disks)
	})
}
