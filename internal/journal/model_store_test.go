package journal

import (
	"errors"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

var errStore = errors.New("object storage does not answer")

// withStore puts layers into object storage, which outlives every disk and fails now and then.
func (m *model) withStore() {
	store, err := dir.New(vfstest.New(), "/bucket")
	require.NoError(m.t, err)
	m.store = &hooked{Store: store}
	m.o.Blobs, m.o.Remote = m.store, true
}

// trouble makes object storage fail now and then, before or after it did what it was asked for.
func (m *model) trouble(on bool) {
	if m.store == nil {
		return
	}
	if m.store.before = nil; !on {
		return
	}
	m.store.before = func(op, name string) error {
		if m.rng.IntN(40) == 0 {
			return fault.New(fault.Transient, "test: "+op+" "+name, "%w", errStore)
		}
		return nil
	}
}

// noteSafe remembers what survives the loss of the local disk.
func (m *model) noteSafe() {
	if m.store != nil && m.j.remoteAt == m.j.catalogue().Generation {
		m.safe = m.j.catalogue()
	}
}

// lose loses the local disk. The journal is made again from object storage, and the agent sends again what is not in there. Power
// fails while it is restored, too.
func (m *model) lose() {
	frames := m.j.State().Frames
	_ = m.j.Close()
	m.trouble(false)
	if m.twig.j != nil {
		_ = m.twig.j.Close()
	}
	m.twig = twig{}
	for m.fs = vfstest.New(); ; m.fs = m.fs.Crash(m.rng) {
		if m.rng.IntN(2) == 0 {
			m.fs.CrashAt(1 + m.rng.IntN(40))
		}
		err := Restore(m.t.Context(), m.fs, simDir, m.o)
		if err == nil || fault.Is(err, fault.Conflict) { // it was whole before power failed
			break
		}
		require.ErrorIs(m.t, err, vfstest.ErrCrashed)
	}
	m.fs.OnOp(nil)
	j, err := Open(m.t.Context(), m.fs, simDir, m.o)
	require.NoError(m.t, err)
	st := j.State()
	if m.safe != nil {
		require.GreaterOrEqual(m.t, st.Durable, m.safe.Fold.Bio, "what was in object storage is gone")
		require.GreaterOrEqual(m.t, st.Epoch, m.safe.Fold.Current.Number)
		require.GreaterOrEqual(m.t, j.catalogue().Generation, m.safe.Generation)
	}
	require.LessOrEqual(m.t, st.Frames, frames)
	m.j, m.views, m.kept = j, nil, j.Kept()
	m.src.epoch = st.Epoch // as the agent does: numbers of lost epochs come again, their positions never do
	m.src.pos = 0
	m.src.boot(st)
	m.acked, m.last = st, j.Intervals()
	m.regrow()
}
