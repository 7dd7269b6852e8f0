package replication_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// TestRetryBeginsAnewWhateverTheStall retries servers that did not stall in a step, right after their attempt began:
// the initiation begins at the agent's next handshake, and not when the attempt's window is over.
func TestRetryBeginsAnewWhateverTheStall(t *testing.T) {
	for name, x := range map[string]struct {
		code  state.ErrorCode
		stall func(*world)
		mend  func(*world)
	}{
		"agent not seen": {state.AgentNotSeen, func(w *world) { w.agent.set(func(a *agent) { a.offline = true }) },
			func(w *world) { w.agent.set(func(a *agent) { a.offline = false }) }},
		"no room": {state.SnapshotsFailure, func(w *world) {
			w.server.set(func() { w.server.of(w.v.ID).err = fault.New(fault.OutOfSpace, "test", "full") })
		}, func(*world) {}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, state.MGN, func(t *testing.T, w *world) {
				first := w.until(state.Continuous, time.Minute)
				x.stall(w)
				i := w.until(state.Stalled, 5*time.Minute)
				require.Equal(t, x.code, i.Error.Code)
				require.Equal(t, first.Attempt.ID, i.Attempt.ID)
				require.True(t, time.Now().Before(i.Attempt.NextAttemptAt), "the window is not over")
				w.moves.take()
				require.NoError(t, w.engine.Retry(t.Context(), w.scope, w.v.ID))
				require.Equal(t, state.Stalled, w.info().State, "until the handshake")
				x.mend(w)
				wait(15 * time.Second) // one handshake at least
				require.Equal(t, state.Initiating, w.moves.take()[0])
				again := w.info()
				require.Greater(t, again.Attempt.ID, first.Attempt.ID)
				require.True(t, again.Attempt.StartedAt.After(first.Attempt.StartedAt))
				require.GreaterOrEqual(t, again.Attempt.NextAttemptAt.Sub(again.Attempt.StartedAt), 30*time.Minute, "a window of its own")
				w.server.set(func() { w.server.of(w.v.ID).err = nil })
				w.until(state.Continuous, 2*time.Minute)
			})
		})
	}
}

// TestRetryOutlivesARestart asks for a retry, and the process ends before the agent comes.
func TestRetryOutlivesARestart(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.server.set(func() { w.server.fail[state.StepCreateDisks] = fault.New(fault.Transient, "test", "the reason") })
		first := w.until(state.Stalled, 10*time.Second)
		w.agent.set(func(a *agent) { a.offline = true })
		w.server.set(func() { clear(w.server.fail) })
		wait(5 * time.Second)
		require.NoError(t, w.engine.Retry(t.Context(), w.scope, w.v.ID))
		w.restart()
		wait(time.Minute)
		require.Equal(t, state.Stalled, w.info().State)
		w.agent.set(func(a *agent) { a.offline = false })
		require.Greater(t, w.until(state.Continuous, time.Minute).Attempt.ID, first.Attempt.ID)
	})
}
