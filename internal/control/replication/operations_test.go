package replication_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

type replicationInfo = control.ReplicationInfo

func TestStopAndStart(t *testing.T) {
	for _, service := range both {
		t.Run(string(service), func(t *testing.T) {
			in(t, service, func(t *testing.T, w *world) {
				w.until(state.Continuous, time.Minute)
				require.NoError(t, w.engine.Stop(t.Context(), w.scope, w.v.ID))
				i := w.info()
				require.Equal(t, state.Stopped, i.State, "at once")
				require.Nil(t, i.Lag)
				require.Zero(t, w.pointCount(), "and its points are gone")
				wait(15 * time.Second)
				require.Empty(t, w.server.disks)
				require.Equal(t, state.IntentStop, w.agent.command().Desired)
				require.Empty(t, w.agent.command().Address)
				if service == state.MGN {
					require.Equal(t, state.LifeCycleStopped, w.lifecycle())
				}
				require.NoError(t, w.engine.Start(t.Context(), w.scope, w.v.ID))
				require.Equal(t, state.Initiating, w.info().State)
				w.moves.take()
				w.until(state.Continuous, time.Minute)
				require.Equal(t, []state.ReplicationState{state.InitialSync, state.Backlog, state.CreatingSnapshot, state.Continuous}, w.moves.take(), "all is copied again")
				if service == state.MGN {
					require.Equal(t, state.ReadyForTest, w.lifecycle())
				}
			})
		})
	}
}

func TestStopInterruptsAStep(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.server.set(func() { w.server.hang = state.StepCreateDisks })
		<-w.server.hung
		w.server.set(func() { w.server.hang = "" })
		require.NoError(t, w.engine.Stop(t.Context(), w.scope, w.v.ID))
		require.NoError(t, w.engine.Start(t.Context(), w.scope, w.v.ID))
		w.until(state.Continuous, time.Minute)
	})
}

// TestTeardownIsRepeated fails and interrupts the removal of a staging area at each of its steps.
func TestTeardownIsRepeated(t *testing.T) {
	for _, step := range []state.StepName{revoke, detach, destroy} {
		t.Run(string(step), func(t *testing.T) {
			in(t, state.DRS, func(t *testing.T, w *world) {
				w.until(state.Continuous, time.Minute)
				w.server.set(func() { w.server.fail[step] = fault.New(fault.Transient, "test", "busy") })
				require.NoError(t, w.engine.Stop(t.Context(), w.scope, w.v.ID))
				wait(time.Minute)
				w.server.set(func() { clear(w.server.fail) })
				wait(time.Minute)
				require.Empty(t, w.server.disks)
			})
		})
		t.Run(string(step)+" crash", func(t *testing.T) {
			in(t, state.DRS, func(t *testing.T, w *world) {
				w.until(state.Continuous, time.Minute)
				w.server.set(func() { w.server.hang = step })
				require.NoError(t, w.engine.Disconnect(t.Context(), w.scope, w.v.ID))
				<-w.server.hung
				w.restart()
				wait(time.Minute)
				require.Empty(t, w.server.disks)
				require.Equal(t, state.Disconnected, w.info().State)
			})
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		require.NoError(t, w.engine.Pause(t.Context(), w.scope, w.v.ID))
		wait(20 * time.Second)
		require.Equal(t, state.IntentPause, w.agent.command().Desired)
		points := w.pointCount()
		wait(time.Hour)
		i := w.info()
		require.Equal(t, state.Paused, i.State)
		require.Greater(t, *i.Lag, 59*time.Minute)
		require.Len(t, w.server.disks, 1, "everything is kept")
		require.Equal(t, points, w.pointCount())
		w.moves.take()
		require.NoError(t, w.engine.Resume(t.Context(), w.scope, w.v.ID))
		require.Equal(t, state.Backlog, w.info().State)
		w.until(state.Continuous, time.Minute)
		require.Equal(t, []state.ReplicationState{state.Backlog, state.Continuous}, w.moves.take())
	})
}

func TestPauseDuringInitiationAndOverARestart(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.agent.set(func(a *agent) { a.cut = true })
		wait(2 * time.Second)
		require.NoError(t, w.engine.Pause(t.Context(), w.scope, w.v.ID))
		w.restart()
		wait(time.Hour)
		require.Equal(t, state.Paused, w.info().State)
		w.agent.set(func(a *agent) { a.cut = false })
		require.NoError(t, w.engine.Resume(t.Context(), w.scope, w.v.ID))
		require.Equal(t, state.Initiating, w.info().State)
		w.until(state.Continuous, time.Minute)
		require.NoError(t, w.engine.Pause(t.Context(), w.scope, w.v.ID))
		w.restart()
		wait(time.Minute)
		require.True(t, w.server.Status(w.v.ID).Attached, "a paused server can be launched")
		require.NoError(t, w.engine.Resume(t.Context(), w.scope, w.v.ID))
		w.until(state.Continuous, time.Minute)
	})
}

func TestDisconnectAndDelete(t *testing.T) {
	for _, service := range both {
		t.Run(string(service), func(t *testing.T) {
			in(t, service, func(t *testing.T, w *world) {
				w.until(state.Continuous, time.Minute)
				w.server.set(func() { w.server.fail[destroy] = fault.New(fault.Transient, "test", "busy") })
				require.NoError(t, w.engine.Disconnect(t.Context(), w.scope, w.v.ID))
				i := w.info()
				require.Equal(t, state.Disconnected, i.State)
				require.Nil(t, i.Lag)
				require.Zero(t, i.Disks[0].Total)
				for _, s := range i.Attempt.Steps {
					require.Equal(t, state.NotStarted, s.Status)
				}
				require.True(t, fault.Is(w.engine.Disconnect(t.Context(), w.scope, w.v.ID), fault.Conflict))
				if service == state.MGN {
					require.Equal(t, state.LifeDisconnected, w.lifecycle())
				}
				// Scripts delete right away, while the staging area is still there.
				require.NoError(t, w.engine.Delete(t.Context(), w.scope, w.v.ID))
				_, err := servers.New(w.store).Get(t.Context(), w.scope, w.v.ID)
				require.True(t, fault.Is(err, fault.NotFound))
				require.True(t, fault.Is(w.engine.Delete(t.Context(), w.scope, w.v.ID), fault.NotFound))
				wait(2 * time.Minute)
				require.Equal(t, state.IntentDisconnect, w.agent.command().Desired)
				require.NotEmpty(t, w.server.disks)
				w.restart()
				wait(2 * time.Minute)
				require.Empty(t, w.server.disks, "nothing may be left behind")
				require.NoError(t, w.store.View(t.Context(), func(r state.Reader) error {
					_, err := r.Replication(t.Context(), w.v.ID)
					require.True(t, fault.Is(err, fault.NotFound))
					return nil
				}))
				require.Equal(t, state.IntentDisconnect, w.agent.command().Desired, "a forgotten agent is dismissed")
				again := w.register("machine", false)
				require.NotEqual(t, w.v.ID, again.ID)
			})
		})
	}
}

func TestReinstalledAfterDisconnect(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		require.NoError(t, w.engine.Disconnect(t.Context(), w.scope, w.v.ID))
		again := w.register("machine", false)
		require.Equal(t, w.v.ID, again.ID)
		require.NoError(t, w.engine.Registered(t.Context(), again))
		i := w.until(state.Continuous, time.Minute)
		require.EqualValues(t, 1<<30, i.Disks[0].Total)
		require.Equal(t, state.ReadyForTest, w.lifecycle())
	})
}

func TestReinstalledWithOtherDisks(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		first := w.until(state.Continuous, time.Minute)
		require.NoError(t, w.engine.Registered(t.Context(), w.v))
		require.Equal(t, first.Attempt.ID, w.info().Attempt.ID, "the same machine with the same disks goes on")
		done, err := servers.New(w.store).Register(t.Context(), w.scope, otherDisks())
		require.NoError(t, err)
		require.NoError(t, w.engine.Registered(t.Context(), done))
		require.Equal(t, state.Initiating, w.info().State)
		i := w.until(state.Continuous, time.Minute)
		require.Len(t, i.Disks, 2)
	})
}

func otherDisks() servers.Registration {
	return servers.Registration{Identity: "machine", Agent: state.Agent{WireVersions: []uint32{1}},
		Devices: []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30, Boot: true}, {Name: "/dev/vdb", Bytes: 1 << 31}}}
}

// The server's record and its replication are stored one after the other; a process may end between.
func TestOtherDisksAreNotForgottenInACrash(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		_, err := servers.New(w.store).Register(t.Context(), w.scope, otherDisks())
		require.NoError(t, err)
		w.restart()
		w.until(state.Continuous, 2*time.Minute)

		again, err := servers.New(w.store).Register(t.Context(), w.scope, otherDisks()) // the agent got no answer
		require.NoError(t, err)
		require.NoError(t, w.engine.Registered(t.Context(), again))
		require.Equal(t, state.Initiating, w.info().State)
		require.Len(t, w.until(state.Continuous, time.Minute).Disks, 2)
	})
}

func TestRegisteredStopped(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		v := w.register("another", true)
		require.NoError(t, w.engine.Registered(t.Context(), v))
		a := startAgent(w, v.ID)
		defer a.halt()
		wait(time.Minute)
		i := w.infoOf(v)
		require.Equal(t, state.Stopped, i.State)
		require.Equal(t, state.LifeCycleStopped, v.LifeCycle.State)
		require.NoError(t, w.engine.Start(t.Context(), w.scope, v.ID))
		wait(time.Minute)
		require.Equal(t, state.Continuous, w.infoOf(v).State)
	})
}

// TestOneSlowServerDelaysNoOther has a step of one server hang while fifty others go their way.
func TestOneSlowServerDelaysNoOther(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.server.set(func() { w.server.hang = state.StepCreateDisks })
		<-w.server.hung
		w.server.set(func() { w.server.hang = "" })
		var others []state.Server
		for n := range 50 {
			v := w.register(string(rune('A'+n)), false)
			require.NoError(t, w.engine.Registered(t.Context(), v))
			a := startAgent(w, v.ID)
			defer a.halt()
			others = append(others, v)
		}
		wait(40 * time.Second)
		require.Equal(t, state.Initiating, w.info().State)
		infos, err := w.engine.Describe(t.Context(), others)
		require.NoError(t, err)
		for _, i := range infos {
			require.Equal(t, state.Continuous, i.State)
		}
	})
}
