package replication_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func (w *world) setLife(t *testing.T, to state.LifeCycleState) {
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error {
		v, err := tx.Server(t.Context(), w.scope, w.v.ID)
		if err != nil {
			return err
		}
		v.LifeCycle.State = to
		return tx.PutServer(t.Context(), v)
	}))
}

func noGuard(context.Context, state.Tx, state.Server) error { return nil }

func TestFinalizeCutover(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		finalize := func(guard func(context.Context, state.Tx, state.Server) error) error {
			return w.engine.FinalizeCutover(t.Context(), w.scope, w.v.ID, guard)
		}
		require.True(t, fault.Is(finalize(noGuard), fault.Conflict), "it is not being cut over")
		require.Equal(t, state.Continuous, w.info().State, "a refusal changes nothing")
		w.setLife(t, state.CuttingOver)
		refuse := func(context.Context, state.Tx, state.Server) error {
			return fault.New(fault.Conflict, "test", "not yet")
		}
		require.ErrorContains(t, finalize(refuse), "not yet")
		require.Equal(t, state.Continuous, w.info().State)

		require.NoError(t, finalize(noGuard))
		require.Equal(t, state.Cutover, w.lifecycle())
		v, err := servers.New(w.store).Get(t.Context(), w.scope, w.v.ID)
		require.NoError(t, err)
		require.False(t, v.LifeCycle.LastCutover.FinalizedAt.IsZero())
		i := w.info()
		require.Equal(t, state.Disconnected, i.State)
		require.Nil(t, i.Lag)
		wait(time.Minute)
		require.Equal(t, state.IntentDisconnect, w.agent.command().Desired)
		require.Empty(t, w.server.disks, "the staging area goes")
		require.True(t, fault.Is(finalize(noGuard), fault.Conflict))
	})
}

// TestBusyServersKeepTheirReplication: what a launch reads must not be taken away under it.
func TestBusyServersKeepTheirReplication(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error {
			_, err := jobs.New(w.store, nil).Create(t.Context(), tx, w.scope, jobs.Spec{Type: state.JobLaunch,
				Participants: []state.Participant{{ServerID: w.v.ID}}})
			return err
		}))
		for _, op := range []func(context.Context, state.Scope, string) error{w.engine.Stop, w.engine.Disconnect} {
			err := op(t.Context(), w.scope, w.v.ID)
			require.True(t, fault.Is(err, fault.Conflict))
			require.ErrorContains(t, err, "currently being processed by a Job")
			require.Equal(t, state.Continuous, w.info().State)
		}
		require.NoError(t, w.engine.Pause(t.Context(), w.scope, w.v.ID), "a pause keeps everything")
	})
}

// TestWithoutAnAgent is about servers that were discovered or imported.
func TestWithoutAnAgent(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		add := func(id string, life state.LifeCycleState) state.Server {
			v := state.Server{ID: id, Scope: w.scope, Identity: id, CreatedAt: time.Now().UTC(), LifeCycle: state.LifeCycle{State: life}}
			require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutServer(t.Context(), v) }))
			return v
		}
		v := add("s-00000000000000aaa", state.PendingInstallation)
		require.Equal(t, state.Stopped, w.infoOf(v).State)
		for name, op := range map[string]func(context.Context, state.Scope, string) error{
			"start": w.engine.Start, "stop": w.engine.Stop, "pause": w.engine.Pause, "resume": w.engine.Resume} {
			require.True(t, fault.Is(op(t.Context(), w.scope, v.ID), fault.Conflict), name)
		}
		require.True(t, fault.Is(w.engine.Retry(t.Context(), w.scope, v.ID), fault.Invalid), "it has no conflict among its errors")
		require.NoError(t, w.engine.Disconnect(t.Context(), w.scope, v.ID))
		require.True(t, fault.Is(w.engine.Disconnect(t.Context(), w.scope, v.ID), fault.Conflict))
		v.LifeCycle.State = state.LifeDisconnected
		require.Equal(t, state.Disconnected, w.infoOf(v).State)
		require.NoError(t, w.engine.Delete(t.Context(), w.scope, v.ID))
		require.True(t, fault.Is(w.engine.Delete(t.Context(), w.scope, v.ID), fault.NotFound))
		require.NoError(t, w.engine.Delete(t.Context(), w.scope, add("s-00000000000000bbb", state.Discovered).ID))
		odd := add("s-00000000000000ccc", state.ReadyForTest)
		err := w.engine.Delete(t.Context(), w.scope, odd.ID)
		require.True(t, fault.Is(err, fault.Conflict))
		require.ErrorAs(t, err, new(*control.ResourceError))
	})
}
