package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// A place in the stream that ends no write is the end of the last one before it, once all of that is here.
func TestAtOrBelow(t *testing.T) {
	h := newHistory(t, Options{})
	defer func() { require.NoError(t, h.j.Close()) }()
	require.NoError(t, h.j.Append(mustParse(t, dataFrame(1, 110, 0, 1))))
	require.NoError(t, h.j.Append(mustParse(t, dataFrame(1, 120, 0, 2))))
	require.NoError(t, h.j.Sync())
	at := func(epoch, position uint64) uint64 {
		t.Helper()
		p, err := h.j.AtOrBelow(epoch, position)
		require.NoError(t, err)
		require.Equal(t, epoch, p.Epoch)
		q, err := h.j.Check(p.Position)
		require.NoError(t, err, "it can be viewed")
		require.Equal(t, q, p)
		return p.Position
	}
	refused := func(kind fault.Kind, epoch, position uint64) {
		t.Helper()
		_, err := h.j.AtOrBelow(epoch, position)
		require.True(t, fault.Is(err, kind), "%v", err)
	}
	look := func() {
		t.Helper()
		require.EqualValues(t, 100, at(1, 100))
		require.EqualValues(t, 100, at(1, 109))
		require.EqualValues(t, 110, at(1, 110))
		require.EqualValues(t, 110, at(1, 119))
		require.EqualValues(t, 120, at(1, 120))
	}
	look()
	refused(fault.NotFound, 1, 99)
	refused(fault.Transient, 1, 121)
	refused(fault.NotFound, 2, 110)
	h.append(wire.Control(wire.TypeMark, 1, 130, 130, 500))
	require.EqualValues(t, 120, at(1, 121), "a mark says that nothing lies between")
	require.EqualValues(t, 120, at(1, 130))
	refused(fault.Transient, 1, 131)

	h.append(epochFrame(t, 2, 140), doneFrame(2, 140))
	refused(fault.NotFound, 1, 131) // and never will be
	require.EqualValues(t, 140, at(2, 140))
	look()
	h.reopen()
	look()
	quiesce(t, h.j)
	look()
}
