package launches

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var scope = state.Scope{Account: "111122223333", Service: state.MGN}

// taken is a launcher that notes what it is told.
type taken struct{ jobs []state.Job }

func (l *taken) Take(j state.Job) { l.jobs = append(l.jobs, j) }

// guarded is a finalizer that only asks the guard.
type guarded struct{ store state.Store }

func (g guarded) FinalizeCutover(ctx context.Context, s state.Scope, id string, guard func(context.Context, state.Tx, state.Server) error) error {
	return g.store.Update(ctx, func(tx state.Tx) error {
		v, err := tx.Server(ctx, s, id)
		if err != nil {
			return err
		}
		return guard(ctx, tx, v)
	})
}

type world struct {
	*MGN
	t        *testing.T
	launcher *taken
	made     int
}

func setup(t *testing.T, withLauncher bool) *world {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error { return tx.PutInitialised(t.Context(), scope, time.Now()) }))
	w := &world{t: t, launcher: &taken{}}
	var launcher Launcher
	if withLauncher {
		launcher = w.launcher
	}
	w.MGN = NewMGN(store, jobs.New(store, nil), guarded{store}, launcher)
	return w
}

// server adds one that is launchable.
func (w *world) server(life state.LifeCycleState, change ...func(*state.Server, *state.Replication)) string {
	w.t.Helper()
	w.made++
	v := state.Server{ID: fmt.Sprintf("s-%017x", w.made), Scope: scope, Identity: fmt.Sprint(w.made), LifeCycle: state.LifeCycle{State: life}}
	r := state.Replication{ServerID: v.ID, Scope: scope, State: state.Continuous, RecoverableAt: time.Now()}
	for _, fn := range change {
		fn(&v, &r)
	}
	require.NoError(w.t, w.store.Update(w.t.Context(), func(tx state.Tx) error {
		if err := tx.PutServer(w.t.Context(), v); err != nil {
			return err
		}
		return tx.PutReplication(w.t.Context(), r)
	}))
	return v.ID
}

func (w *world) read(id string) (v state.Server) {
	w.t.Helper()
	require.NoError(w.t, w.store.View(w.t.Context(), func(r state.Reader) (err error) {
		v, err = r.Server(w.t.Context(), scope, id)
		return err
	}))
	return v
}

// finish ends a job as a launcher does.
func (w *world) finish(j state.Job) {
	w.t.Helper()
	ctx := w.t.Context()
	require.NoError(w.t, w.jobs.Begin(ctx, scope, j.ID))
	for _, p := range j.Participants {
		require.NoError(w.t, w.jobs.Move(ctx, scope, j.ID, p.ServerID, jobs.Fail, nil, nil))
	}
	require.NoError(w.t, w.jobs.Finish(ctx, scope, j.ID))
}

func launched(v *state.Server, _ *state.Replication) {
	v.Migration.Launched = state.LaunchedInstance{InstanceID: "i-0123456789abcdef0", JobID: "mgnjob-1", FirstBoot: "SUCCEEDED"}
}

var states = []state.LifeCycleState{state.LifeCycleStopped, state.NotReady, state.ReadyForTest, state.Testing, state.ReadyForCutover,
	state.CuttingOver, state.Cutover, state.LifeDisconnected, state.Discovered, state.PendingInstallation}

// TestEveryLifeCycleState calls each operation in each state.
func TestEveryLifeCycleState(t *testing.T) {
	w := setup(t, true)
	for name, c := range map[string]struct {
		call    func(context.Context, state.Scope, []string, map[string]string) (state.Job, error)
		allowed []state.LifeCycleState
		to      state.LifeCycleState // empty: it stays
		by      state.JobInitiator
	}{
		"test":      {w.StartTest, []state.LifeCycleState{state.ReadyForTest, state.Testing, state.ReadyForCutover}, state.Testing, state.ByStartTest},
		"cutover":   {w.StartCutover, []state.LifeCycleState{state.ReadyForCutover, state.CuttingOver}, state.CuttingOver, state.ByStartCutover},
		"terminate": {w.Terminate, []state.LifeCycleState{state.LifeCycleStopped, state.NotReady, state.ReadyForTest, state.ReadyForCutover, state.LifeDisconnected, state.Discovered, state.PendingInstallation}, "", state.ByTerminate},
	} {
		for _, life := range states {
			id := w.server(life, launched)
			j, err := c.call(t.Context(), scope, []string{id}, map[string]string{"k": "v"})
			if !slices.Contains(c.allowed, life) {
				require.True(t, fault.Is(err, fault.Conflict), "%s in %s: %v", name, life, err)
				require.Equal(t, life, w.read(id).LifeCycle.State)
				continue
			}
			require.NoError(t, err, "%s in %s", name, life)
			require.Equal(t, c.by, j.InitiatedBy)
			require.Equal(t, state.JobPending, j.Status)
			require.Equal(t, map[string]string{"k": "v"}, j.Tags)
			require.Equal(t, j, w.launcher.jobs[len(w.launcher.jobs)-1], "the launcher is told")
			v := w.read(id)
			switch c.by {
			case state.ByStartTest:
				require.Equal(t, state.LaunchRecord{InitiatedAt: j.CreatedAt, JobID: j.ID}, v.LifeCycle.LastTest)
			case state.ByStartCutover:
				require.Equal(t, state.LaunchRecord{InitiatedAt: j.CreatedAt, JobID: j.ID}, v.LifeCycle.LastCutover)
			default:
				require.Equal(t, state.JobTerminate, j.Type)
				require.Equal(t, "i-0123456789abcdef0", j.Participants[0].InstanceID)
			}
			if c.to != "" {
				require.Equal(t, c.to, v.LifeCycle.State)
			}
			w.finish(j)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := setup(t, true)
	ctx := t.Context()
	good, empty := w.server(state.ReadyForTest), w.server(state.ReadyForTest, func(_ *state.Server, r *state.Replication) { r.RecoverableAt = time.Time{} })
	young, plain := w.server(state.NotReady), w.server(state.ReadyForTest)
	_, err := w.StartTest(ctx, scope, []string{good, "s-0000000000000ffff"}, nil)
	require.True(t, fault.Is(err, fault.NotFound))
	_, err = w.StartTest(ctx, scope, []string{good, good}, nil)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	_, err = w.StartTest(ctx, state.Scope{Account: "444455556666", Service: state.MGN}, []string{good}, nil)
	require.True(t, fault.Is(err, fault.NotFound))
	_, err = w.StartTest(ctx, scope, []string{good, empty, young}, nil)
	require.True(t, fault.Is(err, fault.Conflict))
	many := &control.ResourceErrors{}
	require.ErrorAs(t, err, &many)
	require.Equal(t, []string{empty, young}, []string{many.Each[0].ID, many.Each[1].ID}, "each that is in the way")
	require.Equal(t, state.ReadyForTest, w.read(good).LifeCycle.State, "all or none")
	_, err = w.Terminate(ctx, scope, []string{plain}, nil)
	require.ErrorContains(t, err, "has no launched machine")

	j, err := w.StartTest(ctx, scope, []string{good}, nil)
	require.NoError(t, err)
	_, err = w.StartTest(ctx, scope, []string{plain, good}, nil)
	require.True(t, fault.Is(err, fault.Conflict))
	require.ErrorContains(t, err, "currently being processed by a Job")
	w.finish(j)
	_, err = w.StartTest(ctx, scope, []string{plain, good}, nil)
	require.NoError(t, err, "a test may be launched again")
	require.Len(t, w.launcher.jobs, 2)
}

// TestWithoutALauncher: everything is checked, nothing is pretended.
func TestWithoutALauncher(t *testing.T) {
	w := setup(t, false)
	ctx := t.Context()
	_, err := w.StartTest(ctx, scope, []string{w.server(state.NotReady)}, nil)
	require.True(t, fault.Is(err, fault.Conflict), "what is wrong is said first")
	for id, call := range map[string]func(context.Context, state.Scope, []string, map[string]string) (state.Job, error){
		w.server(state.ReadyForTest): w.StartTest, w.server(state.ReadyForCutover): w.StartCutover, w.server(state.ReadyForCutover, launched): w.Terminate} {
		before := w.read(id)
		_, err := call(ctx, scope, []string{id}, nil)
		require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
		require.ErrorContains(t, err, "no launch provider is configured on this installation")
		require.Equal(t, before, w.read(id))
	}
	all, _, err := w.jobs.List(ctx, scope, state.JobFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestActionsThatMustSucceed(t *testing.T) {
	w := setup(t, true)
	ctx := t.Context()
	id := w.server(state.ReadyForCutover)
	j, err := w.StartCutover(ctx, scope, []string{id}, nil)
	require.NoError(t, err)
	run := state.ActionRun{Document: state.SSMDocument{ActionName: "check", MustSucceed: true}, Status: "IN_PROGRESS"}
	set := func(status string, must bool) {
		run.Status, run.Document.MustSucceed = status, must
		require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error {
			j.Participants[0].Runs = []state.ActionRun{run}
			return tx.PutJob(ctx, j)
		}))
	}
	for _, status := range []string{"IN_PROGRESS", "FAILED"} {
		set(status, true)
		err := w.FinalizeCutover(ctx, scope, id)
		require.True(t, fault.Is(err, fault.Conflict), status)
		require.ErrorContains(t, err, "check")
		set(status, false)
		require.NoError(t, w.FinalizeCutover(ctx, scope, id), "nobody waits for it")
	}
	set("SUCCESS", true)
	require.NoError(t, w.FinalizeCutover(ctx, scope, id))
	set("FAILED", true)
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteJob(ctx, scope, j.ID) }))
	require.NoError(t, w.FinalizeCutover(ctx, scope, id), "nobody knows any more")
	require.True(t, fault.Is(w.FinalizeCutover(ctx, scope, "s-0"), fault.NotFound))
}

// TestNamedTwice: a list that names a server twice is wrong in itself, whatever state the server is in.
func TestNamedTwice(t *testing.T) {
	w := setup(t, true)
	for _, life := range states {
		id := w.server(life)
		for _, call := range []func(context.Context, state.Scope, []string, map[string]string) (state.Job, error){w.StartTest, w.StartCutover, w.Terminate} {
			_, err := call(t.Context(), scope, []string{id, id}, nil)
			require.True(t, fault.Is(err, fault.Invalid), "%s: %v", life, err)
			require.ErrorContains(t, err, "named twice")
		}
	}
}
