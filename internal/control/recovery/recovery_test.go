package recovery_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	scope    = state.Scope{Account: "111122223333", Service: state.DRS}
	stranger = state.Scope{Account: "444455556666", Service: state.DRS}
)

// taken is a launcher that notes what it is told.
type taken struct{ jobs []state.Job }

func (l *taken) Take(j state.Job) { l.jobs = append(l.jobs, j) }

// ties are the links of servers that are extended: to an id of the same scope, or "" when broken.
type ties map[string]string

func (l ties) Source(_ context.Context, _ state.Reader, v state.Server) (state.Scope, string, error) {
	id, ok := l[v.ID]
	switch {
	case !ok:
		return v.Scope, v.ID, nil
	case id == "":
		return v.Scope, "", fault.New(fault.Conflict, "ties", "broken")
	}
	return v.Scope, id, nil
}

type world struct {
	*recovery.Recoveries
	store    state.Store
	jobs     *jobs.Jobs
	launcher *taken
	ties     ties
	made     int
}

func open(t *testing.T, withLauncher bool) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	for _, s := range []state.Scope{scope, stranger} {
		require.NoError(t, accounts.New(store).Initialize(t.Context(), s))
	}
	w := &world{store: store, jobs: jobs.New(store, nil), launcher: &taken{}, ties: ties{}}
	var launcher launches.Launcher
	if withLauncher {
		launcher = w.launcher
	}
	w.Recoveries = recovery.New(store, w.jobs, w.ties, launcher)
	return w
}

// server adds one that has a recovery point, or none.
func (w *world) server(t *testing.T, launchable bool) string {
	t.Helper()
	w.made++
	ctx, id := t.Context(), fmt.Sprintf("s-%017x", w.made)
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error {
		if err := tx.PutServer(ctx, state.Server{ID: id, Scope: scope, Identity: id, CreatedAt: time.Now()}); err != nil {
			return err
		}
		rec := state.Replication{ServerID: id, Scope: scope, State: state.InitialSync}
		if launchable {
			rec.State, rec.RecoverableAt = state.Stalled, time.Now() // a stall is no obstacle
			p := state.Point{ID: "pit-" + id[2:], Scope: scope, ServerID: id, Expected: time.Now(), At: time.Now(), Position: 7}
			if err := tx.PutReplication(ctx, rec); err != nil {
				return err
			}
			return tx.PutPoint(ctx, p)
		}
		return tx.PutReplication(ctx, rec)
	}))
	return id
}

func (w *world) instance(t *testing.T, change ...func(*state.RecoveryInstance)) state.RecoveryInstance {
	t.Helper()
	w.made++
	v := state.RecoveryInstance{ID: fmt.Sprintf("i-%017x", w.made), Scope: scope, ServerID: fmt.Sprintf("s-%017x", w.made), CreatedAt: time.Now().UTC(),
		State: state.RIRunning, Failback: failback.Fresh(false)}
	for _, fn := range change {
		fn(&v)
	}
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutRecoveryInstance(t.Context(), v) }))
	return v
}

func (w *world) read(t *testing.T, id string) (v state.Server) {
	t.Helper()
	require.NoError(t, w.store.View(t.Context(), func(r state.Reader) (err error) { v, err = r.Server(t.Context(), scope, id); return err }))
	return v
}

func (w *world) noJobs(t *testing.T) {
	t.Helper()
	list, _, err := w.jobs.List(t.Context(), scope, state.JobFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, list)
}

// golden is the whole table of machines; "." is refused or ignored.
var golden = map[recovery.Trigger]string{
	// PENDING, RUNNING, STOPPING, STOPPED, SHUTTING-DOWN, TERMINATED, NOT_FOUND
	recovery.OpTerminate: "SHUTTING-DOWN SHUTTING-DOWN SHUTTING-DOWN SHUTTING-DOWN . . SHUTTING-DOWN",
	recovery.Runs:        "RUNNING . RUNNING RUNNING . . RUNNING",
	recovery.Stops:       ". STOPPING . . . . .",
	recovery.Stopped:     "STOPPED STOPPED STOPPED . . . STOPPED",
	recovery.Starts:      ". . . PENDING . . .",
	recovery.Ends:        "SHUTTING-DOWN SHUTTING-DOWN SHUTTING-DOWN SHUTTING-DOWN . . SHUTTING-DOWN",
	recovery.Gone:        "TERMINATED TERMINATED TERMINATED TERMINATED TERMINATED . TERMINATED",
	recovery.Lost:        "NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND . . .",
}

func TestEveryMachineTransition(t *testing.T) {
	for _, on := range recovery.Triggers {
		var got string
		for _, from := range state.RecoveryInstanceStates {
			v := state.RecoveryInstance{ID: "i-1", State: from}
			err := recovery.Move(&v, on)
			cell := string(v.State)
			if v.State == from {
				cell = "."
				require.Equal(t, on == recovery.OpTerminate, fault.Is(err, fault.Conflict), "%s %s: %v", on, from, err)
			} else {
				require.NoError(t, err)
			}
			got += " " + cell
		}
		require.Equal(t, " "+golden[on], got, on)
	}
}

func TestStart(t *testing.T) {
	for _, drill := range []bool{false, true} {
		w, ctx := open(t, true), t.Context()
		a, b := w.server(t, true), w.server(t, true)
		j, err := w.Start(ctx, scope, []recovery.Target{{ServerID: a}, {ServerID: b, SnapshotID: "pit-" + b[2:]}}, drill, map[string]string{"k": "v"})
		require.NoError(t, err)
		require.Regexp(t, `^drsjob-[0-9a-f]{17}$`, j.ID)
		by, kind := state.ByStartRecovery, "RECOVERY"
		if drill {
			by, kind = state.ByStartDrill, "DRILL"
		}
		require.Equal(t, by, j.InitiatedBy)
		require.Equal(t, state.JobLaunch, j.Type)
		require.Equal(t, []state.Participant{{ServerID: a, Status: state.LaunchPending}, {ServerID: b, SnapshotID: "pit-" + b[2:], Status: state.LaunchPending}}, j.Participants)
		require.Equal(t, []state.Job{j}, w.launcher.jobs)
		require.Equal(t, state.DRSLaunch{InitiatedAt: j.CreatedAt, JobID: j.ID, Type: kind, Status: "PENDING"}, w.read(t, a).LifeCycle.LastLaunch)
		_, err = w.Start(ctx, scope, []recovery.Target{{ServerID: b}}, drill, nil)
		require.ErrorContains(t, err, "One or more of the Source Servers included in API call are currently being processed by a Job")
	}
}

func TestStartRefuses(t *testing.T) {
	w, ctx := open(t, true), t.Context()
	good, empty, other, broken, extended := w.server(t, true), w.server(t, false), w.server(t, true), w.server(t, true), w.server(t, false)
	w.ties[broken], w.ties[extended] = "", other
	point := func(id string) string { return "pit-" + id[2:] }
	for name, c := range map[string]struct {
		targets []recovery.Target
		kind    fault.Kind
		says    string
	}{
		"unknown":           {[]recovery.Target{{ServerID: good}, {ServerID: "s-0"}}, fault.NotFound, "does not exist"},
		"twice":             {[]recovery.Target{{ServerID: good}, {ServerID: good}}, fault.Invalid, "named twice"},
		"no point":          {[]recovery.Target{{ServerID: good}, {ServerID: empty}}, fault.Conflict, "no recovery point"},
		"unknown point":     {[]recovery.Target{{ServerID: good, SnapshotID: "pit-0"}}, fault.Conflict, "has no recovery snapshot pit-0"},
		"another's point":   {[]recovery.Target{{ServerID: good, SnapshotID: point(other)}}, fault.Conflict, "has no recovery snapshot"},
		"a broken tie":      {[]recovery.Target{{ServerID: broken}}, fault.Conflict, "broken"},
		"the tie's own":     {[]recovery.Target{{ServerID: extended, SnapshotID: point(good)}}, fault.Conflict, "has no recovery snapshot"},
		"too long a tag":    {[]recovery.Target{{ServerID: good}}, fault.Invalid, "tags"},
		"two in one answer": {[]recovery.Target{{ServerID: empty}, {ServerID: broken}}, fault.Conflict, "cannot be recovered"},
	} {
		tags := map[string]string{}
		if name == "too long a tag" {
			tags[""] = "v"
		}
		_, err := w.Start(ctx, scope, c.targets, false, tags)
		require.True(t, fault.Is(err, c.kind), "%s: %v", name, err)
		require.ErrorContains(t, err, c.says, name)
	}
	_, err := w.Start(ctx, stranger, []recovery.Target{{ServerID: good}}, false, nil)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	w.noJobs(t)
	require.Empty(t, w.launcher.jobs)
	require.Zero(t, w.read(t, good).LifeCycle.LastLaunch, "all or none")

	_, err = w.Start(ctx, scope, []recovery.Target{{ServerID: extended, SnapshotID: point(other)}}, true, nil)
	require.NoError(t, err, "an extended server's points are the staging server's")
}

func TestQuotaOfServersPerJob(t *testing.T) {
	w := open(t, true)
	var targets []recovery.Target
	for range 101 {
		targets = append(targets, recovery.Target{ServerID: w.server(t, true)})
	}
	_, err := w.Start(t.Context(), scope, targets, false, nil)
	require.ErrorIs(t, err, control.ErrQuota)
	_, err = w.Start(t.Context(), scope, targets[:100], false, nil)
	require.NoError(t, err)
}

// Without a launcher everything is checked, and nothing is pretended.
func TestWithoutALauncher(t *testing.T) {
	w, ctx := open(t, false), t.Context()
	good, v := w.server(t, true), w.instance(t)
	_, err := w.Start(ctx, scope, []recovery.Target{{ServerID: w.server(t, false)}}, false, nil)
	require.True(t, fault.Is(err, fault.Conflict), "what is wrong is said first: %v", err)
	_, err = w.Start(ctx, scope, []recovery.Target{{ServerID: good}}, false, nil)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	require.ErrorContains(t, err, "no launch provider is configured")
	_, err = w.Terminate(ctx, scope, []string{v.ID})
	require.ErrorContains(t, err, "no launch provider is configured")
	w.noJobs(t)
	require.Zero(t, w.read(t, good).LifeCycle.LastLaunch)
	got, err := w.Get(ctx, scope, v.ID)
	require.NoError(t, err)
	require.Equal(t, v, got)
}

func TestTerminate(t *testing.T) {
	w, ctx := open(t, true), t.Context()
	one, two := w.instance(t), w.instance(t, func(v *state.RecoveryInstance) { v.State = state.RIStopped })
	gone := w.instance(t, func(v *state.RecoveryInstance) { v.State = state.RITerminated })
	source := w.instance(t, func(v *state.RecoveryInstance) { v.Failback.ReversedServer = "s-1" })
	for _, c := range []struct {
		ids  []string
		kind fault.Kind
	}{{[]string{one.ID, "i-0"}, fault.NotFound}, {[]string{one.ID, gone.ID}, fault.Conflict}, {[]string{source.ID}, fault.Conflict}, {[]string{one.ID, one.ID}, fault.Invalid}} {
		_, err := w.Terminate(ctx, scope, c.ids)
		require.True(t, fault.Is(err, c.kind), "%v: %v", c.ids, err)
	}
	w.noJobs(t)
	j, err := w.Terminate(ctx, scope, []string{one.ID, two.ID})
	require.NoError(t, err)
	require.Equal(t, state.JobTerminate, j.Type)
	require.Equal(t, state.ByTerminateRecoveryInstances, j.InitiatedBy)
	require.Equal(t, one.ID, j.Participants[0].RecoveryInstanceID)
	require.Equal(t, one.ServerID, j.Participants[0].ServerID)
	require.Equal(t, []state.Job{j}, w.launcher.jobs)
	require.True(t, fault.Is(w.Disconnect(ctx, scope, one.ID), fault.Conflict), "it is in a job")
}

func TestDisconnectAndDelete(t *testing.T) {
	w, ctx := open(t, true), t.Context()
	v := w.instance(t, func(v *state.RecoveryInstance) {
		v.Failback.State, v.Failback.Replication, v.Failback.InitiatedAt = state.FailbackInProgress, state.InitialSync, time.Now()
		v.Failback.Config.BandwidthMbps = 9
	})
	reversed := w.instance(t, func(v *state.RecoveryInstance) { v.Failback.ReversedServer = "s-1" })
	require.True(t, fault.Is(w.Delete(ctx, scope, v.ID), fault.Conflict), "not before it is disconnected")
	require.True(t, fault.Is(w.Disconnect(ctx, stranger, v.ID), fault.NotFound))
	require.True(t, fault.Is(w.Disconnect(ctx, scope, reversed.ID), fault.Conflict))
	require.NoError(t, w.Disconnect(ctx, scope, v.ID))
	got, err := w.Get(ctx, scope, v.ID)
	require.NoError(t, err)
	require.True(t, got.Disconnected)
	require.Equal(t, state.Disconnected, got.Failback.Replication)
	require.Equal(t, state.FailbackNotStarted, got.Failback.State)
	require.EqualValues(t, 9, got.Failback.Config.BandwidthMbps)
	require.Equal(t, state.RIRunning, got.State, "the machine runs on")
	require.True(t, fault.Is(w.Disconnect(ctx, scope, v.ID), fault.Conflict), "once")
	require.NoError(t, w.Delete(ctx, scope, v.ID))
	require.NoError(t, w.Delete(ctx, scope, reversed.ID), "after a reversal it need not be disconnected")
	require.True(t, fault.Is(w.Delete(ctx, scope, v.ID), fault.NotFound))
	items, _, err := w.List(ctx, scope, state.RecoveryInstanceFilter{}, state.Page{})
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(items, func(x state.RecoveryInstance) bool { return x.ID == v.ID }))
}
