package sink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// An agent's disks may have changed. It is told those of the journal, and those that were joining.
func TestDisksComeAndGo(t *testing.T) {
	h := newHouse(t)
	more := append([]wire.Disk{{Index: 7, Device: "/dev/vdx", Bytes: 1 << 20}}, disks...)
	p := h.dial(server)
	p.hello(func(m *wire.Hello) { m.Disks = more })
	w := p.welcomed()
	require.Equal(t, disks, w.Disks)
	open, err := wire.Message(wire.TypeEpochOpen, 1, 10, 10, 1, wire.EpochOpen{Capture: "cafe", Disks: disks, Joining: more[:1]})
	require.NoError(t, err)
	p.send(open, baselineDone(1, 10))
	p.acked(2)
	p = h.dial(server)
	p.hello(func(m *wire.Hello) { m.Disks = more })
	w = p.welcomed()
	require.Equal(t, disks, w.Disks)
	require.Equal(t, more[:1], w.Joining)
}

// An agent before V4 cannot say that disks have changed: it is held to those of the journal, at Hello and at each epoch.
func TestAnOldAgentIsHeldToItsDisks(t *testing.T) {
	old := func(m *wire.Hello) { m.Versions = []uint32{wire.V3} }
	h := newHouse(t)
	p := h.dial(server)
	p.hello(func(m *wire.Hello) { old(m); m.Disks = []wire.Disk{{Bytes: disks[0].Bytes + 512}} })
	err := p.refused()
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	require.NotEmpty(t, fault.HintOf(err))
	p = h.dial(server)
	p.hello(old)
	require.Empty(t, p.welcomed().Disks)
	p.send(openEpoch(t, 1, 10))
	p.acked(1)
	open, err := wire.Message(wire.TypeEpochOpen, 2, 20, 20, 1, wire.EpochOpen{Capture: "cafe", Disks: []wire.Disk{{Bytes: disks[0].Bytes + 512}}})
	require.NoError(t, err)
	p.send(open)
	require.Equal(t, fault.Conflict, fault.KindOf(p.refused()))
}
