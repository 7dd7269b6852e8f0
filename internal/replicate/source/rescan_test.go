package source

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/wire"
)

// rebooted is a server of one large disk that was replicated whole and has lost its capture since. change alters what is
// on the disk meanwhile.
func rebooted(t *testing.T, blocks int, change func(disk []byte)) *model {
	m := bench(t, 64<<10, blocks*testBlock)
	m.chunk = 1 << 20
	m.start()
	m.wait("continuous", inPhase(PhaseContinuous))
	m.stop()
	<-m.ended
	m.host.reboot(64 << 10)
	change(m.host.disks[0])
	m.host.before[0] = bytes.Clone(m.host.disks[0])
	m.server.mu.Lock()
	m.server.stored, m.server.asks = 0, 0
	m.server.mu.Unlock()
	return m
}

// said is what was said since the reboot, both ways.
func (m *model) said() (stored, asks int) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return m.server.stored, m.server.asks
}

// sent is the ranges that the baseline of the newest epoch carried.
func (m *model) sent() (ranges []wire.Range) {
	j := m.server.journal
	epoch := j.welcome().Epoch
	for i := range j.frames {
		if f := &j.frames[i]; f.Type == wire.TypeBaseline && f.Epoch == epoch {
			for _, e := range f.extents {
				ranges = append(ranges, wire.Range{Sector: e.Sector, Sectors: e.Bytes / 512})
			}
		}
	}
	return ranges
}

// The promise of the issue: an unchanged disk's rescan says less than a thousandth of its bytes, all included.
func TestUnchangedDiskIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blocks = 8192 // 32 MiB
		m := rebooted(t, blocks, func([]byte) {})
		m.start()
		st := m.wait("complete", func(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 })
		require.Equal(t, "tracking-lost", st.Reason)
		require.EqualValues(t, blocks*testBlock, st.Disks[0].Same)
		stored, asks := m.said()
		t.Logf("%d bytes of frames and %d of digests for %d", stored, asks, blocks*testBlock)
		require.Less(t, stored+asks, blocks*testBlock/1000)
		require.Empty(t, m.sent())
		m.end()
		m.check()
	})
}

func TestOnlyWhatDiffersIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := rebooted(t, 2000, func(d []byte) {
			d[5*testBlock+4095] ^= 1
			d[6*testBlock] ^= 1
			d[300*testBlock+512] ^= 1
			clear(d[900*testBlock:][:2*testBlock]) // zeroes over content must be said
			d[1999*testBlock] ^= 1
		})
		cleared := 900
		m.start()
		st := m.wait("complete", func(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 })
		want := []wire.Range{{Sector: 40, Sectors: 16}, {Sector: 2400, Sectors: 8}, {Sector: 15992, Sectors: 8}}
		got := m.sent()
		blocks := uint64(0)
		for _, g := range got {
			blocks += g.Sectors / 8
		}
		for _, w := range want {
			require.Contains(t, got, w)
		}
		for _, g := range got {
			if g.Sector/8 == uint64(cleared) || g.Sector/8 == uint64(cleared+1) {
				continue // one of them, or both, may have been zeroes before
			}
			require.Contains(t, want, g)
		}
		require.EqualValues(t, 2000*testBlock-blocks*testBlock, st.Disks[0].Same)
		m.end()
		m.check()
	})
}

// An agent asks an older server nothing, and sends everything.
func TestOldServerIsSentEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := rebooted(t, 300, func([]byte) {})
		m.server.version = wire.V2
		m.start()
		st := m.wait("complete", func(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 })
		require.Zero(t, st.Disks[0].Same)
		sectors := uint64(0)
		for _, g := range m.sent() {
			sectors += g.Sectors
		}
		require.EqualValues(t, 300*8, sectors)
		m.end()
		m.check()
	})
}

// Links that break, an agent that is killed and a server that crashes do not make a rescan start over: hardly more is
// read than the disk holds.
func TestRescanGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blocks = 16384 // 64 MiB
		m := rebooted(t, blocks, func([]byte) {})
		counted := &countedReads{m: m}
		restart := func() {
			m.build(counted.dial)
			for _, d := range m.source.disks {
				d.Reader = counted.reader(d.Reader)
			}
			m.run()
		}
		restart()
		for i := uint64(1); i <= 6; i++ {
			m.wait("further", func(st Status) bool {
				return st.Disks[0].Replicated >= i*8<<20 && st.Disks[0].Replicated < blocks*testBlock
			})
			switch i % 3 {
			case 0:
				m.server.crash()
			case 1:
				m.server.cut()
			default:
				m.stop()
				<-m.ended
				restart()
			}
		}
		m.wait("complete", func(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 })
		m.end()
		m.check()
		require.Less(t, counted.total(), blocks*testBlock*3/2)
		require.Empty(t, m.sent())
	})
}

// countedReads makes reads slow enough that a test can step in between, and counts them.
type countedReads struct {
	m  *model
	mu sync.Mutex
	n  int
}

func (c *countedReads) dial(ctx context.Context) (net.Conn, error) { return c.m.server.dial(ctx) }

func (c *countedReads) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *countedReads) reader(r interface {
	ReadAt(p []byte, off int64) (int, error)
},
) readerFunc {
	return func(p []byte, off int64) (int, error) {
		pause(holdFrame * 20)
		c.mu.Lock()
		c.n += len(p)
		c.mu.Unlock()
		return r.ReadAt(p, off)
	}
}

type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// A block that was sent, and then turned out to be as the journal had it before both, must be sent again: the later pass
// compares with a later base.
func TestReadTwiceAndBackAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var was []byte
		m := rebooted(t, 600, func(d []byte) {
			was = bytes.Clone(d[:testBlock])
			copy(d, bytes.Repeat([]byte{0xa5}, testBlock))
		})
		// In flight when the epoch opens, and done after its block was read: it brings back what the journal has.
		w := &write{op: capture.Write, bytes: testBlock, data: was}
		m.host.mu.Lock()
		m.host.mark(m.host.gen[m.host.current], w)
		m.host.inflight = append(m.host.inflight, w)
		m.host.mu.Unlock()
		m.start()
		m.wait("read", func(st Status) bool { return st.Disks[0].Rescanned == 600*testBlock })
		m.host.mu.Lock()
		m.host.complete(0)
		m.host.mu.Unlock()
		m.wait("complete", func(st Status) bool { return st.Complete && st.Disks[0].Backlogged == 0 })
		require.Equal(t, []wire.Range{{Sectors: 8}, {Sectors: 8}}, m.sent(), "there and back")
		m.end()
		m.same("the end", m.server.journal.disks(9, ^uint64(0), m.host.disks), m.host.disks)
	})
}
