package sink

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

// eventually waits for what the maintenance worker does within a second or two.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, patience, 20*time.Millisecond, what)
}

// begin connects an agent and opens an epoch.
func (h *house) begin() *peer {
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(h.t, 1, 100), data(1, 110, 0, 1))
	p.acked(2)
	return p
}

func TestDragGrows(t *testing.T) {
	const longest = 5 * time.Second
	require.Zero(t, dragOf(100, 100, longest))
	require.Zero(t, dragOf(1000, 100, longest))
	require.Zero(t, dragOf(0, 0, longest), "no soft stretch at all")
	last := time.Duration(0)
	for left := int64(99); left >= -1; left-- {
		d := dragOf(left, 100, longest)
		require.GreaterOrEqual(t, d, last)
		require.LessOrEqual(t, d, longest)
		last = d
	}
	require.Equal(t, longest, last)
}

// TestLowSpaceSlowsRefusesAndRecovers drives a replication server into a full disk and out again.
func TestLowSpaceSlowsRefusesAndRecovers(t *testing.T) {
	const reserve, slow = 64 << 10, 128 << 10
	h := newHouseWith(t, func(c *Config) { c.ReserveBytes, c.SlowBytes = reserve, slow })
	h.s.waits.drag = time.Second
	p := h.begin()
	h.fs.SetCapacity(h.fs.Used() + slow + 4<<10)
	var took []time.Duration
	frames, pos := uint64(2), uint64(110)
	send := func() {
		began := time.Now()
		frames, pos = frames+1, pos+10
		p.send(data(1, pos, 0, byte(pos)))
		p.acked(frames)
		took = append(took, time.Since(began))
	}
	for len(took) < 100 && (len(took) == 0 || took[len(took)-1] < 300*time.Millisecond) {
		send()
	}
	require.Less(t, took[0], 100*time.Millisecond, "there was room")
	require.GreaterOrEqual(t, took[len(took)-1], 300*time.Millisecond, "no slower with little room")
	require.NoError(t, h.s.Status(server).Err, "slow is not refused")

	h.fs.SetCapacity(h.fs.Used() + reserve + 6<<10)
	for range 50 {
		pos += 10
		if p.conn.Send(data(1, pos, 0, byte(pos))) != nil {
			break
		}
	}
	require.Equal(t, fault.OutOfSpace, fault.KindOf(p.refused()))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(h.s.Status(server).Err))
	free, err := h.fs.Free("/")
	require.NoError(t, err)
	require.GreaterOrEqual(t, free.Free, int64(reserve), "the reserve was touched")

	h.fs.SetCapacity(h.fs.Used() + reserve)
	again := h.dial(server)
	again.hello(nil)
	durable := again.welcomed().Durable
	again.send(data(1, durable+10, 0, 1))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(again.refused()), "still full")

	h.fs.SetCapacity(1 << 30)
	eventually(t, "there is room, and nobody has to connect first", func() bool { return h.s.Status(server).Err == nil })
	again = h.dial(server)
	again.hello(nil)
	require.Equal(t, durable, again.welcomed().Durable)
	again.send(data(1, durable+10, 0, 1))
	require.Equal(t, durable+10, again.acked(1))
}

func TestQuota(t *testing.T) {
	h := newHouse(t)
	h.s.waits.drag = 100 * time.Millisecond
	p := h.begin()
	care, err := h.s.Care(server)
	require.NoError(t, err)
	h.s.SetQuota(server, care.Usage.Stored+200<<10)
	h.s.SetQuota("../etc", 1) // nobody's
	pos := uint64(110)
	for range 200 {
		pos += 10
		if p.conn.Send(data(1, pos, 0, byte(pos))) != nil {
			break
		}
	}
	err = p.refused()
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
	require.ErrorContains(t, err, "quota")
	require.NotEmpty(t, fault.HintOf(err))
	care, err = h.s.Care(server)
	require.NoError(t, err)
	require.LessOrEqual(t, care.Usage.Stored, care.Quota*101/100) // the journal's own additions are seen a second later
	require.Greater(t, care.Usage.Stored, care.Quota/2)
	require.Error(t, h.s.Status(server).Err)
	h.s.SetQuota(server, 0)
	eventually(t, "the quota is gone", func() bool { return h.s.Status(server).Err == nil })
	p = h.dial(server)
	p.hello(nil)
	durable := p.welcomed().Durable
	require.Greater(t, durable, uint64(110))
	p.send(data(1, durable+10, 0, 1))
	require.Equal(t, durable+10, p.acked(1))
}

// pressed is a journal whose pressure the test decides.
type pressed struct {
	*journal.Journal
	now *atomic.Int64
}

func (p pressed) Pressure() journal.Pressure { return journal.Pressure(p.now.Load()) }

func TestAgentsWaitForMaintenance(t *testing.T) {
	h := newHouse(t)
	var now atomic.Int64
	h.s.upkeepOf = func(j *journal.Journal) upkeep { return pressed{j, &now} }
	h.s.waits = waits{drag: time.Second, full: time.Second, tell: 40 * time.Millisecond, rest: time.Minute}
	require.NoError(t, h.s.DetachStaging(t.Context(), server))
	h.admit()
	p := h.begin()

	now.Store(int64(journal.Slow))
	began := time.Now()
	p.send(data(1, 120, 0, 1))
	p.acked(3)
	require.GreaterOrEqual(t, time.Since(began), behindDrag)

	now.Store(int64(journal.Full))
	p.send(data(1, 130, 0, 1))
	for range 3 {
		f := p.receive()
		require.Equal(t, wire.TypeAck, f.Type)
		require.EqualValues(t, 3, f.First, "a sign of life, and no more")
	}
	now.Store(int64(journal.Relaxed))
	p.acked(4)

	now.Store(int64(journal.Full))
	p.send(data(1, 140, 0, 1))
	err := p.refused()
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(h.s.Status(server).Err))
	now.Store(int64(journal.Relaxed))
	eventually(t, "it caught up", func() bool { return h.s.Status(server).Err == nil })

	now.Store(int64(journal.Full)) // whoever waits does not hold up the end
	p = h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(data(1, 150, 0, 1))
	require.NoError(t, h.stop())
}
