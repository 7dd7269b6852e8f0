package sink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// asked is the next repair; acknowledgements before it are skipped.
func (p *peer) asked() wire.Repair {
	for {
		f := p.receive()
		if f.Type == wire.TypeAck {
			continue
		}
		require.Equal(p.t, wire.TypeRepair, f.Type)
		var r wire.Repair
		require.NoError(p.t, f.Unmarshal(&r))
		return r
	}
}

func answer(t *testing.T, epoch, first uint64, ids ...uint64) []byte {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, 1,
		wire.EpochOpen{Capture: "cafe", Reason: "repair", Disks: disks, Repairs: ids})
	require.NoError(t, err)
	return b
}

func (h *house) underway() int {
	r := h.s.known(server)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked()
}

func TestRepairIsAskedUntilAnswered(t *testing.T) {
	h := newHouse(t)
	early := []Range{{Sector: 8, Sectors: 8}, {Sector: 64, Sectors: 16}}
	require.NoError(t, h.s.Repair(server, early), "nobody is connected yet")

	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	first := p.asked()
	require.Equal(t, early, first.Ranges)
	p.send(openEpoch(t, 1, 100))
	p.acked(1)
	require.NoError(t, h.s.Repair(server, early[:1]), "it is under way")
	require.NoError(t, h.s.Repair(server, []Range{{Sector: 66, Sectors: 2}, {Sector: 24, Sectors: 8}}))
	second := p.asked()
	require.Equal(t, []Range{{Sector: 24, Sectors: 8}}, second.Ranges)
	require.NotEqual(t, first.ID, second.ID)
	_ = p.conn.Close()

	// Another connection is asked again, and answers one of the two.
	p = h.dial(server)
	p.hello(nil)
	p.welcomed()
	require.Equal(t, first, p.asked())
	require.Equal(t, second, p.asked())
	p.send(baselineDone(1, 100), answer(t, 2, 200, 77, first.ID))
	p.acked(2)
	require.Equal(t, 3, h.underway(), "its baseline is still to come")
	require.NoError(t, h.s.Repair(server, early))
	_ = p.conn.Close()

	p = h.dial(server)
	p.hello(nil)
	p.welcomed()
	require.Equal(t, second, p.asked(), "only what no epoch has answered")
	p.send(baselineDone(2, 200))
	p.acked(1)
	require.Equal(t, 1, h.underway())
	require.NoError(t, h.s.Repair(server, early[1:]), "damaged once more")
	third := p.asked()
	require.Equal(t, early[1:], third.Ranges)
	p.send(answer(t, 3, 300, second.ID, third.ID), openEpoch(t, 4, 400))
	p.acked(3)
	require.Equal(t, 2, h.underway(), "epoch 3 ended without having read everything")
	p.send(baselineDone(4, 400))
	p.acked(4)
	require.Zero(t, h.underway(), "a later epoch pays what an earlier one owed")
}

// TestRepairOfAnOldAgent: protocol 1 has no such message.
func TestRepairOfAnOldAgent(t *testing.T) {
	h := newHouse(t)
	require.NoError(t, h.s.Repair(server, []Range{{Sectors: 1}}))
	p := h.dial(server)
	p.hello(func(m *wire.Hello) { m.Versions = []uint32{wire.V1} })
	require.Equal(t, wire.V1, p.welcomed().Version)
	p.send(openEpoch(t, 1, 100))
	p.acked(1)
	_ = p.conn.Close()

	p = h.dial(server)
	p.hello(nil)
	require.Equal(t, wire.V4, p.welcomed().Version)
	require.Equal(t, []Range{{Sectors: 1}}, p.asked().Ranges, "upgraded")
}

func TestRepairIsBounded(t *testing.T) {
	h := newHouse(t)
	many := make([]Range, wire.MaxRepair+1)
	for i := range many {
		many[i] = Range{Sector: uint64(i) * 16, Sectors: 8}
	}
	require.NoError(t, h.s.Repair(server, many))
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	require.Len(t, p.asked().Ranges, wire.MaxRepair)
	require.Len(t, p.asked().Ranges, 1)

	tooMany := make([]Range, maxAsked)
	for i := range tooMany {
		tooMany[i] = Range{Disk: 1, Sector: uint64(i) * 16, Sectors: 8}
	}
	err := h.s.Repair(server, tooMany)
	require.True(t, fault.Is(err, fault.Transient), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))

	for _, g := range []Range{{}, {Sector: 9, Sectors: ^uint64(0)}} {
		err = h.s.Repair(server, []Range{g})
		require.True(t, fault.Is(err, fault.Invalid), "%+v: %v", g, err)
	}
	err = h.s.Repair("s-of-nobody", many)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	_, err = h.s.AttachStaging(t.Context(), server)
	require.NoError(t, err)
	require.NoError(t, h.s.DetachStaging(t.Context(), server))
	err = h.s.Repair(server, many)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	require.Zero(t, h.underway(), "a journal attached anew is asked about anew")
}
