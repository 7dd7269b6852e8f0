package replication_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/state"
)

// flap breaks the data connection again and again; the agent dials at its next handshake.
func (w *world) flap(times int, every time.Duration) {
	for range times {
		w.server.disconnect(w.v.ID)
		wait(every)
	}
}

func TestUnstableNetwork(t *testing.T) {
	for _, service := range both {
		in(t, service, func(t *testing.T, w *world) {
			w.until(state.Continuous, time.Minute)
			w.moves.take()
			w.flap(4, time.Minute)
			require.Equal(t, state.Continuous, w.info().State, "a link may break now and then")
			wait(3 * time.Minute)
			w.flap(4, time.Minute)
			require.Equal(t, state.Continuous, w.info().State, "it had held in between")
			w.flap(1, 10*time.Second)
			i := w.until(state.Stalled, 30*time.Second)
			require.Equal(t, state.UnstableNetwork, i.Error.Code)
			require.Contains(t, i.Error.Raw, "the data connection broke 5 times within 10m0s")
			w.flap(3, 30*time.Second)
			require.Equal(t, state.Stalled, w.info().State, "it goes on")
			require.Nil(t, w.until(state.Continuous, 4*time.Minute).Error)
			require.Equal(t, []state.ReplicationState{state.Stalled, state.Backlog, state.Continuous}, w.moves.take(), "and nothing was copied again")
		})
	}
}

// A retry of an unstable server begins a new attempt at the next handshake, and the count with it.
func TestRetryOfAnUnstableServer(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.flap(5, 20*time.Second)
		before := w.until(state.Stalled, time.Minute)
		require.NoError(t, w.engine.Retry(t.Context(), w.scope, w.v.ID))
		require.Equal(t, state.UnstableNetwork, w.info().Error.Code, "the error stays until it is tried")
		i := w.until(state.Continuous, time.Minute)
		require.Equal(t, before.Attempt.ID+1, i.Attempt.ID)
		for _, s := range i.Attempt.Steps {
			want := state.Succeeded
			switch s.Name {
			case state.StepLaunch, state.StepBoot, state.StepAuthenticate, state.StepCreateDisks, state.StepAttachDisks:
				want = state.Skipped // they are there
			}
			require.Equal(t, want, s.Status, s.Name)
		}
	})
}

// A link that breaks and stays broken is stalled until it is back, though the process restarts meanwhile.
func TestUnstableOverARestart(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.flap(5, 20*time.Second)
		w.until(state.Stalled, time.Minute)
		w.restart()
		i := w.until(state.Continuous, 2*time.Minute)
		require.Nil(t, i.Error)
	})
}

func TestNotConverging(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.moves.take()
		silent := func(yes bool) {
			w.server.set(func() {
				r := w.server.of(w.v.ID)
				r.silent, r.frozen = yes, time.Now()
			})
		}
		silent(true) // connected, and nothing becomes durable
		w.agent.set(func(a *agent) {
			a.report.Disks = []state.DiskProgress{{DeviceName: "/dev/vda", Backlogged: 900 << 20}}
		})
		w.until(state.Backlog, time.Minute)
		wait(29 * time.Minute)
		require.Equal(t, state.Backlog, w.info().State, "it may still catch up")
		i := w.until(state.Stalled, 3*time.Minute)
		require.Equal(t, state.NotConverging, i.Error.Code)
		require.Regexp(t, `^the lag is 3[0-9]m[0-9]+s and has not got less for 30m0s; 943718400 bytes are waiting$`, i.Error.Raw)
		require.NotNil(t, i.Lag, "what is durable can be launched")
		wait(20 * time.Minute)
		require.Equal(t, state.Stalled, w.info().State)
		silent(false)
		w.agent.set(func(a *agent) { a.report.Disks[0].Backlogged = 0 })
		w.until(state.Continuous, 2*time.Minute)
		require.Equal(t, []state.ReplicationState{state.Backlog, state.Stalled, state.Backlog, state.Continuous}, w.moves.take())
	})
}

// Writes that outrun the link lose their order: the copy begins anew, again and again.
func TestACopyThatNeverEndsIsNotConverging(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.server.set(func() { w.server.copyTime = 5 * time.Minute })
		w.until(state.InitialSync, time.Minute)
		anew := func(n int) {
			for range n {
				w.server.set(func() {
					r := w.server.of(w.v.ID)
					r.epoch++
					r.copied = time.Now().Add(w.server.copyTime)
				})
				wait(time.Minute)
			}
		}
		anew(9)
		require.Equal(t, state.InitialSync, w.info().State)
		anew(2)
		i := w.until(state.Stalled, 10*time.Second)
		require.Equal(t, state.NotConverging, i.Error.Code)
		require.Contains(t, i.Error.Raw, "the copy began anew 10 times within 1h0m0s")
		require.Nil(t, w.until(state.Continuous, 10*time.Minute).Error, "a copy that is complete ends it")
	})
}

// An agent whose writes outrun the link keeps to one epoch for five minutes, then tries another, which fails at once. That is
// too seldom to be counted within an hour, and no less hopeless.
func TestWritesThatOutrunTheLinkAreNotConverging(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.moves.take()
		w.agent.set(func(a *agent) { a.report.Phase = replication.PhaseRescan })
		opens := func(after, copy time.Duration) {
			w.server.set(func() {
				r := w.server.of(w.v.ID)
				r.epoch++
				r.copied, r.silent, r.frozen = time.Now().Add(copy), copy > 0, time.Now()
			})
			wait(after)
		}
		const never = 1000 * time.Hour
		for range 2 {
			opens(9*time.Minute, never)
			opens(5*time.Minute, never)
		}
		require.Equal(t, state.Rescan, w.info().State, "28 minutes")
		opens(time.Minute, never)
		require.Equal(t, state.Rescan, w.info().State, "29 minutes")
		wait(90 * time.Second)
		i := w.info()
		require.Equal(t, state.Stalled, i.State)
		require.Equal(t, state.NotConverging, i.Error.Code)
		require.Equal(t, "writes outran the link: the copy began anew 4 times within 30m0s and was never complete", i.Error.Raw)
		wait(2 * time.Hour)
		require.Equal(t, state.NotConverging, w.info().Error.Code, "the copy is as incomplete as ever")
		opens(0, 0)
		require.Nil(t, w.until(state.Continuous, 5*time.Minute).Error)
		require.Equal(t, []state.ReplicationState{state.Rescan, state.Stalled, state.Rescan, state.Backlog, state.CreatingSnapshot, state.Continuous}, w.moves.take())
	})
}

// A long copy that a reboot or two interrupt is no such thing, and one that was complete in between begins the count anew.
func TestACopyThatIsInterruptedConverges(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		w.agent.set(func(a *agent) { a.report.Phase = replication.PhaseRescan })
		epoch := func(copy time.Duration) {
			w.server.set(func() {
				r := w.server.of(w.v.ID)
				r.epoch++
				r.copied = time.Now().Add(copy)
			})
			wait(20 * time.Minute)
		}
		for range 3 {
			epoch(time.Hour)
			epoch(time.Hour)
			epoch(30 * time.Minute)
			require.Equal(t, state.Rescan, w.info().State)
			wait(11 * time.Minute)
			require.Equal(t, state.Continuous, w.info().State)
		}
	})
}

// Every error of the models that agents cause is one that the engine can tell, and the other way round. The tests of
// this package cause each of them; the two of agentless replication are not the engine's.
func TestErrorsAreTheModels(t *testing.T) {
	ours := []string{string(state.AgentNotSeen), string(state.SnapshotsFailure), string(state.NotConverging), string(state.UnstableNetwork)}
	for _, s := range state.StepNames[1:] { // WAIT cannot fail
		ours = append(ours, "FAILED_TO_"+string(s))
	}
	for _, c := range []struct {
		operations []*rest.Operation
		agentless  []string
		count      int
	}{{drs.Operations, nil, 14}, {mgn.Operations, []string{"UNSUPPORTED_VM_CONFIGURATION", "LAST_SNAPSHOT_JOB_FAILED"}, 16}} {
		enum := errorEnum(t, c.operations)
		require.Len(t, enum, c.count)
		require.ElementsMatch(t, enum, append(slices.Clone(ours), c.agentless...))
	}
}

// errorEnum finds the values of dataReplicationError in what DescribeSourceServers answers.
func errorEnum(t *testing.T, operations []*rest.Operation) []string {
	i := slices.IndexFunc(operations, func(op *rest.Operation) bool { return op.Name == "DescribeSourceServers" })
	shape := operations[i].Output
	for _, name := range []string{"items", "dataReplicationInfo", "dataReplicationError", "error"} {
		if shape.Kind == rest.List {
			shape = shape.Elem
		}
		m := slices.IndexFunc(shape.Members, func(m rest.Member) bool { return m.Name == name })
		require.GreaterOrEqual(t, m, 0, name)
		shape = shape.Members[m].Shape
	}
	return shape.Enum
}
