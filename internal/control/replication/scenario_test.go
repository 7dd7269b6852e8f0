package replication_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

var both = []state.Service{state.DRS, state.MGN}

func TestFromRegistrationToContinuous(t *testing.T) {
	for _, service := range both {
		t.Run(string(service), func(t *testing.T) {
			in(t, service, func(t *testing.T, w *world) {
				began := time.Now()
				w.server.set(func() { w.server.takes[state.StepBoot] = 3 * time.Second })
				i := w.until(state.InitialSync, time.Minute)
				require.Nil(t, i.Lag, "not launchable yet")
				require.Zero(t, w.pointCount())
				i = w.until(state.Continuous, time.Minute)
				require.Equal(t, []state.ReplicationState{state.InitialSync, state.Backlog, state.CreatingSnapshot, state.Continuous}, w.moves.take())
				end := began
				for _, s := range i.Attempt.Steps {
					require.Equal(t, state.Succeeded, s.Status, s.Name)
					require.False(t, s.StartedAt.Before(end), "%s begins before the last ended", s.Name)
					require.False(t, s.EndedAt.Before(s.StartedAt), s.Name)
					end = s.EndedAt
					if s.Name == state.StepBoot {
						require.Equal(t, 3*time.Second, s.EndedAt.Sub(s.StartedAt))
					}
				}
				require.Equal(t, 1, w.pointCount())
				require.NotNil(t, i.Lag)
				require.Zero(t, *i.Lag)
				require.Nil(t, i.Error)
				require.Zero(t, i.ETA)
				require.False(t, i.FirstByteAt.IsZero())
				require.False(t, i.LastPointAt.IsZero())
				require.NotEmpty(t, i.ReplicatorID)
				require.Equal(t, i.Disks[0].Total, i.Disks[0].Replicated)
				if service == state.MGN {
					require.Equal(t, state.ReadyForTest, w.lifecycle())
				}
				wait(30 * time.Minute)
				require.Empty(t, w.moves.take(), "a healthy server must stay so")
				require.Equal(t, replication.HandshakeIdle, w.agent.command().Next)
				require.Equal(t, 4, w.pointCount(), "and gets a point every ten minutes")
			})
		})
	}
}

// TestStepFailures fails each step that acts: the error is the step's, the next attempt comes when it was
// promised, and a retry comes sooner.
func TestStepFailures(t *testing.T) {
	acting := []state.StepName{state.StepAccess, state.StepLaunch, state.StepBoot, state.StepAuthenticate, state.StepSoftware,
		state.StepCreateDisks, state.StepAttachDisks}
	for n, step := range acting {
		t.Run(string(step), func(t *testing.T) {
			in(t, both[n%2], func(t *testing.T, w *world) {
				w.server.set(func() { w.server.fail[step] = fault.New(fault.Transient, "test", "the reason") })
				i := w.until(state.Stalled, 10*time.Second)
				require.Equal(t, state.ErrorCode("FAILED_TO_"+string(step)), i.Error.Code)
				require.Contains(t, i.Error.Raw, "the reason")
				before := true
				for _, s := range i.Attempt.Steps {
					switch {
					case s.Name == step:
						require.Equal(t, state.Failed, s.Status)
						before = false
					case before:
						require.Equal(t, state.Succeeded, s.Status, s.Name)
					default:
						require.Equal(t, state.NotStarted, s.Status, s.Name)
					}
				}
				due := i.Attempt.NextAttemptAt
				require.Zero(t, due.Second())
				require.GreaterOrEqual(t, due.Sub(i.Attempt.StartedAt), 30*time.Minute)
				require.Less(t, due.Sub(i.Attempt.StartedAt), 31*time.Minute)
				w.server.set(func() { clear(w.server.fail) })
				wait(time.Until(due) - time.Second)
				require.Equal(t, state.Stalled, w.info().State, "not before its time")
				w.until(state.Continuous, time.Minute)
			})
		})
		t.Run(string(step)+" retry", func(t *testing.T) {
			in(t, both[n%2], func(t *testing.T, w *world) {
				w.server.set(func() { w.server.fail[step] = fault.New(fault.Transient, "test", "the reason") })
				first := w.until(state.Stalled, 10*time.Second)
				w.server.set(func() { clear(w.server.fail) })
				w.agent.set(func(a *agent) { a.offline = true })
				wait(20 * time.Second)
				require.NoError(t, w.engine.Retry(t.Context(), w.scope, w.v.ID))
				wait(20 * time.Second)
				require.Equal(t, state.Stalled, w.info().State, "a retry waits for the handshake")
				w.agent.set(func(a *agent) { a.offline = false })
				i := w.until(state.Continuous, time.Minute)
				require.Greater(t, i.Attempt.ID, first.Attempt.ID)
			})
		})
	}
}

func TestAStepThatHangsFails(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.server.set(func() { w.server.hang = state.StepCreateDisks })
		i := w.until(state.Stalled, 2*time.Minute)
		require.Equal(t, state.ErrorCode("FAILED_TO_CREATE_STAGING_DISKS"), i.Error.Code)
	})
}

// TestAgentsSteps lets the agent fail to do each step that is its own, then do it.
func TestAgentsSteps(t *testing.T) {
	for _, x := range []struct {
		step   state.StepName
		within time.Duration
		break_ func(*agent)
		mend   func(*agent)
	}{
		{state.StepPair, 3 * time.Minute, func(a *agent) { a.deaf, a.cut = true, true }, func(a *agent) { a.deaf, a.cut = false, false }},
		{state.StepConnect, 6 * time.Minute, func(a *agent) { a.cut, a.report.LastError = true, "connection refused" }, func(a *agent) { a.cut = false }},
		{state.StepTransfer, 11 * time.Minute, func(a *agent) { a.silent = true }, nil},
	} {
		t.Run(string(x.step), func(t *testing.T) {
			in(t, state.MGN, func(t *testing.T, w *world) {
				w.agent.set(x.break_)
				i := w.until(state.Stalled, x.within)
				require.Equal(t, state.ErrorCode("FAILED_TO_"+string(x.step)), i.Error.Code)
				if x.step == state.StepConnect {
					require.Contains(t, i.Error.Raw, "connection refused", "the agent knows why")
				}
				require.Equal(t, state.NotReady, w.lifecycle())
				if x.mend == nil {
					w.agent.set(func(a *agent) { a.silent = false }) // before it connects again
					w.server.disconnect(w.v.ID)
				} else {
					w.agent.set(x.mend)
				}
				w.until(state.Continuous, time.Minute)
				require.Equal(t, state.ReadyForTest, w.lifecycle())
			})
		})
	}
}

// TestCrashAtEveryStep kills the process in the middle of each step; the next one must finish the job.
func TestCrashAtEveryStep(t *testing.T) {
	for n, step := range state.StepNames[1:] {
		t.Run(string(step), func(t *testing.T) {
			in(t, both[n%2], func(t *testing.T, w *world) {
				switch step {
				case state.StepPair, state.StepConnect, state.StepTransfer:
					w.agent.set(func(a *agent) {
						a.deaf, a.cut, a.silent = step == state.StepPair, step != state.StepTransfer, true
					})
					wait(5 * time.Second)
				default:
					w.server.set(func() { w.server.hang = step })
					if step == state.StepAccess {
						wait(time.Second)
					}
				}
				wait(2 * time.Second)
				i := w.info()
				require.Equal(t, state.Initiating, i.State)
				w.restart()
				w.agent.set(func(a *agent) { a.deaf, a.cut, a.silent = false, false, false })
				i = w.until(state.Continuous, time.Minute)
				for _, s := range i.Attempt.Steps {
					require.Contains(t, []state.StepStatus{state.Succeeded, state.Skipped}, s.Status, s.Name)
				}
			})
		})
	}
}

func TestRestartInEveryState(t *testing.T) {
	reach := map[state.ReplicationState]func(*world){
		state.InitialSync: func(w *world) { w.until(state.InitialSync, time.Minute) },
		state.Continuous:  func(w *world) { w.until(state.Continuous, time.Minute) },
		state.Stalled: func(w *world) {
			w.until(state.Continuous, time.Minute)
			w.server.set(func() { w.server.of(w.v.ID).err = fault.New(fault.OutOfSpace, "append", "full") })
			w.until(state.Stalled, time.Minute)
		},
	}
	for s, to := range reach {
		t.Run(string(s), func(t *testing.T) {
			in(t, state.DRS, func(t *testing.T, w *world) {
				to(w)
				first := w.info()
				w.moves.take()
				w.restart()
				i := w.when(func(i replicationInfo) bool {
					return i.State == state.Continuous && i.Attempt.ID > first.Attempt.ID
				}, 3*time.Minute)
				require.Equal(t, first.FirstByteAt, i.FirstByteAt)
				skipped := 0
				for _, st := range i.Attempt.Steps {
					if st.Status == state.Skipped {
						skipped++
					}
				}
				require.GreaterOrEqual(t, skipped, 1, "staging was reused")
			})
		})
	}
}

// TestDeadSourceStaysLaunchable: the agent is gone and so is the process that saw it; the journal must
// be readable all the same.
func TestDeadSourceStaysLaunchable(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.agent.set(func(a *agent) { a.offline = true })
		w.server.disconnect(w.v.ID)
		dead := time.Now()
		w.until(state.Stalled, 2*time.Minute)
		w.restart()
		wait(time.Hour)
		i := w.info()
		require.Equal(t, state.Stalled, i.State)
		require.Equal(t, state.AgentNotSeen, i.Error.Code)
		require.NotNil(t, i.Lag)
		require.InDelta(t, time.Since(dead).Seconds(), i.Lag.Seconds(), 5)
		require.True(t, w.server.Status(w.v.ID).Attached)
		require.Positive(t, w.pointCount())
	})
}

func TestAgentLostAndFound(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.agent.set(func(a *agent) { a.offline = true })
		gone := time.Now()
		i := w.when(func(i replicationInfo) bool { return i.Error != nil }, 2*time.Minute)
		require.Equal(t, state.AgentNotSeen, i.Error.Code)
		require.GreaterOrEqual(t, time.Since(gone), replication.AgentLostAfter-replication.HandshakeIdle)
		require.Greater(t, *i.Lag, 30*time.Second)
		points := w.pointCount()
		wait(time.Hour)
		require.Equal(t, points, w.pointCount(), "no points while stalled, and none expire below the six that MGN keeps")
		w.agent.set(func(a *agent) { a.offline = false })
		i = w.until(state.Continuous, time.Minute)
		require.Nil(t, i.Error)
		require.Zero(t, *i.Lag)
		require.Equal(t, state.ReadyForTest, w.lifecycle())
	})
}

func TestAgentNeverSeen(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.agent.set(func(a *agent) { a.offline = true })
		wait(time.Second)
		w.restart() // of the first handshake nothing is remembered but its time
		i := w.until(state.Stalled, 2*time.Minute)
		require.Equal(t, state.AgentNotSeen, i.Error.Code)
		w.agent.set(func(a *agent) { a.offline = false })
		w.until(state.Continuous, time.Minute)
	})
}

func TestLinkCutWhileAgentIsSeen(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.moves.take()
		w.agent.set(func(a *agent) { a.cut = true })
		w.server.disconnect(w.v.ID)
		w.until(state.Backlog, time.Minute)
		w.until(state.Initiating, 2*time.Minute)
		i := w.until(state.Stalled, 10*time.Minute)
		require.Equal(t, state.ErrorCode("FAILED_TO_CONNECT_AGENT_TO_REPLICATION_SERVER"), i.Error.Code)
		w.agent.set(func(a *agent) { a.cut = false })
		i = w.until(state.Continuous, time.Minute)
		require.Equal(t, []state.ReplicationState{state.Backlog, state.Initiating, state.Stalled, state.Initiating, state.Backlog, state.Continuous}, w.moves.take())
		for _, s := range i.Attempt.Steps {
			switch s.Name {
			case state.StepLaunch, state.StepBoot, state.StepAuthenticate, state.StepCreateDisks, state.StepAttachDisks:
				require.Equal(t, state.Skipped, s.Status, s.Name)
			default:
				require.Equal(t, state.Succeeded, s.Status, s.Name)
			}
		}
	})
}

func TestOutOfSpaceAndRoomAgain(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.moves.take()
		w.server.set(func() { w.server.of(w.v.ID).err = fault.New(fault.OutOfSpace, "journal: append", "no room") })
		i := w.until(state.Stalled, 20*time.Second)
		require.Equal(t, state.SnapshotsFailure, i.Error.Code)
		require.Contains(t, i.Error.Raw, "no room")
		wait(10 * time.Minute)
		require.Equal(t, state.Stalled, w.info().State)
		w.server.set(func() { w.server.of(w.v.ID).err = nil })
		w.until(state.Continuous, 10*time.Second)
		require.Equal(t, []state.ReplicationState{state.Stalled, state.Backlog, state.Continuous}, w.moves.take())
	})
}

func TestRescan(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		points := w.pointCount()
		w.moves.take()
		w.agent.set(func(a *agent) {
			a.report.Phase = replication.PhaseRescan
			a.report.Disks = []state.DiskProgress{{DeviceName: "/dev/vda", Replicated: 1 << 30, Rescanned: 1 << 20}, {DeviceName: "/dev/other"}}
		})
		w.server.set(func() { w.server.of(w.v.ID).copied = time.Now().Add(5 * time.Minute) })
		w.until(state.Rescan, time.Minute)
		wait(15 * time.Second)
		i := w.info()
		require.Len(t, i.Disks, 1)
		require.EqualValues(t, 1<<20, i.Disks[0].Rescanned)
		require.NotNil(t, i.Lag, "older recovery points stay usable")
		require.Equal(t, points, w.pointCount())
		w.agent.set(func(a *agent) { a.report.Disks[0].Rescanned = 1 << 29 })
		i = w.when(func(i replicationInfo) bool { return !i.ETA.IsZero() }, time.Minute)
		require.True(t, i.ETA.After(time.Now()))
		w.until(state.Continuous, 10*time.Minute)
		require.Equal(t, []state.ReplicationState{state.Rescan, state.Backlog, state.CreatingSnapshot, state.Continuous}, w.moves.take())
		require.Equal(t, points+1, w.pointCount(), "a point of its own after the rescan")
	})
}

func TestBacklogComesAndGoes(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.moves.take()
		backlog := func(n uint64) {
			w.agent.set(func(a *agent) {
				a.report.Disks = []state.DiskProgress{{DeviceName: "/dev/vda", Backlogged: n}}
			})
		}
		backlog(200 << 20)
		w.until(state.Backlog, 30*time.Second)
		backlog(30 << 20)
		wait(30 * time.Second)
		i := w.info()
		require.Equal(t, state.Backlog, i.State, "between the bounds it stays")
		require.False(t, i.ETA.IsZero())
		backlog(0)
		w.until(state.Continuous, 30*time.Second)
		backlog(30 << 20)
		wait(time.Minute)
		require.Equal(t, []state.ReplicationState{state.Backlog, state.Continuous}, w.moves.take())
	})
}

func TestWrongAgentClock(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			in(t, state.DRS, func(t *testing.T, w *world) {
				w.agent.set(func(a *agent) { a.ahead = off })
				w.server.set(func() { w.server.ahead = off })
				i := w.until(state.Continuous, time.Minute)
				require.Zero(t, *i.Lag)
				require.WithinDuration(t, time.Now(), i.LastPointAt, 2*time.Second, "by our clock")
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	in(t, state.MGN, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		ctx, id := t.Context(), w.v.ID
		kind := func(want fault.Kind, err error) {
			t.Helper()
			require.Error(t, err)
			require.Equal(t, want, fault.KindOf(err), "%v", err)
		}
		kind(fault.Conflict, w.engine.Start(ctx, w.scope, id))
		kind(fault.Conflict, w.engine.Resume(ctx, w.scope, id))
		kind(fault.Conflict, w.engine.Delete(ctx, w.scope, id))
		kind(fault.Invalid, w.engine.Retry(ctx, w.scope, id))
		elsewhere := state.Scope{Account: w.scope.Account, Service: state.DRS}
		for n, op := range []func() error{
			func() error { return w.engine.Stop(ctx, elsewhere, id) },
			func() error { return w.engine.Delete(ctx, elsewhere, id) },
			func() error { return w.engine.Disconnect(ctx, w.scope, fmt.Sprintf("s-%017x", 1)) },
		} {
			kind(fault.NotFound, op())
			require.Equal(t, state.Continuous, w.info().State, n)
		}
	})
}
