package jobs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	mgn = state.Scope{Account: "111122223333", Service: state.MGN}
	drs = state.Scope{Account: "111122223333", Service: state.DRS}
)

func setup(t *testing.T, set map[quotas.Code]int64) (*Jobs, state.Store) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
		if err := tx.PutInitialised(t.Context(), mgn, time.Now()); err != nil {
			return err
		}
		return tx.PutInitialised(t.Context(), drs, time.Now())
	}))
	limits, err := quotas.New(set)
	require.NoError(t, err)
	return New(store, limits), store
}

func create(t *testing.T, v *Jobs, s state.Scope, servers ...string) (out state.Job, err error) {
	spec := Spec{Type: state.JobLaunch, InitiatedBy: state.ByStartTest, Tags: map[string]string{"k": "v"}}
	for _, id := range servers {
		spec.Participants = append(spec.Participants, state.Participant{ServerID: id, Status: state.Launched})
	}
	err = v.store.Update(t.Context(), func(tx state.Tx) error {
		out, err = v.Create(t.Context(), tx, s, spec)
		return err
	})
	return out, err
}

// TestTables tries every trigger in every status: what the tables allow happens, everything else is refused.
func TestTables(t *testing.T) {
	for _, on := range Triggers {
		for _, from := range state.JobStatuses {
			j := state.Job{ID: "mgnjob-1", Status: from}
			i := slices.IndexFunc(JobTable, func(r JobRow) bool { return r.On == on && slices.Contains(r.From, from) })
			err := moveJob(&j, on)
			if i < 0 {
				require.True(t, fault.Is(err, fault.Conflict), "%s of a %s job", on, from)
				require.Equal(t, from, j.Status, "a refusal changes nothing")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, JobTable[i].To, j.Status)
		}
		for _, from := range state.LaunchStatuses {
			p := state.Participant{ServerID: "s-1", Status: from}
			i := slices.IndexFunc(ParticipantTable, func(r ParticipantRow) bool { return r.On == on && slices.Contains(r.From, from) })
			err := moveParticipant("mgnjob-1", &p, on)
			if i < 0 {
				require.True(t, fault.Is(err, fault.Conflict), "%s of a %s participant", on, from)
				require.Equal(t, from, p.Status)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, ParticipantTable[i].To, p.Status)
		}
	}
}

// TestTheWayOfAJob pins the tables to what the services document.
func TestTheWayOfAJob(t *testing.T) {
	paths := map[state.JobStatus][]state.JobStatus{}
	for _, r := range JobTable {
		for _, from := range r.From {
			paths[from] = append(paths[from], r.To)
		}
	}
	require.Equal(t, map[state.JobStatus][]state.JobStatus{
		state.JobPending: {state.JobStarted}, state.JobStarted: {state.JobCompleted}}, paths)
}

func TestLifeOfAJob(t *testing.T) {
	v, _ := setup(t, nil)
	ctx := t.Context()
	j, err := create(t, v, mgn, "s-1", "s-2")
	require.NoError(t, err)
	require.Regexp(t, `^mgnjob-[0-9a-f]{17}$`, j.ID)
	require.Equal(t, state.JobPending, j.Status)
	for _, p := range j.Participants {
		require.Equal(t, state.LaunchPending, p.Status, "everybody begins there")
	}
	require.True(t, fault.Is(v.Finish(ctx, mgn, j.ID), fault.Conflict), "participants are not settled")
	require.NoError(t, v.Begin(ctx, mgn, j.ID))
	require.True(t, fault.Is(v.Begin(ctx, mgn, j.ID), fault.Conflict))
	require.True(t, fault.Is(v.Delete(ctx, mgn, j.ID), fault.Conflict))
	require.NoError(t, v.Move(ctx, mgn, j.ID, "s-1", Proceed, nil, nil, state.JobEvent{Event: state.LaunchStart, ServerID: "s-1"}))
	require.NoError(t, v.Move(ctx, mgn, j.ID, "s-1", Succeed, func(p *state.Participant) { p.InstanceID = "i-1" }, nil))
	require.True(t, fault.Is(v.Finish(ctx, mgn, j.ID), fault.Conflict), "s-2 is not settled")
	require.NoError(t, v.Move(ctx, mgn, j.ID, "s-2", Fail, nil, nil, state.JobEvent{Event: state.LaunchFail, ServerID: "s-2", RawError: "no disk"}))
	require.True(t, fault.Is(v.Move(ctx, mgn, j.ID, "s-3", Fail, nil, nil), fault.NotFound))
	require.NoError(t, v.Record(ctx, mgn, j.ID, state.JobEvent{Event: state.CleanupStart}))
	require.NoError(t, v.Finish(ctx, mgn, j.ID))

	done, err := v.Get(ctx, mgn, j.ID)
	require.NoError(t, err)
	require.Equal(t, state.JobCompleted, done.Status)
	require.False(t, done.EndedAt.IsZero())
	require.Equal(t, "i-1", done.Participants[0].InstanceID)
	require.Equal(t, state.LaunchFailed, done.Participants[1].Status)
	events, _, err := v.Log(ctx, mgn, j.ID, state.Page{})
	require.NoError(t, err)
	var names []state.JobEventName
	for _, e := range events {
		names = append(names, e.Event)
		require.False(t, e.At.IsZero())
	}
	require.Equal(t, []state.JobEventName{state.JobStart, state.LaunchStart, state.LaunchFail, state.CleanupStart, state.JobEnd}, names)

	require.True(t, fault.Is(v.Delete(ctx, drs, j.ID), fault.NotFound), "another service's job")
	require.NoError(t, v.Delete(ctx, mgn, j.ID))
	_, _, err = v.Log(ctx, mgn, j.ID, state.Page{})
	require.True(t, fault.Is(err, fault.NotFound))
}

// TestMoveIsOneTransaction: what goes with a participant's change is undone with it.
func TestMoveIsOneTransaction(t *testing.T) {
	v, _ := setup(t, nil)
	j, err := create(t, v, mgn, "s-1")
	require.NoError(t, err)
	err = v.Move(t.Context(), mgn, j.ID, "s-1", Proceed, nil, func(_ context.Context, _ state.Tx, p state.Participant) error {
		require.Equal(t, state.LaunchInProgress, p.Status)
		return fault.New(fault.OutOfSpace, "test", "no room")
	}, state.JobEvent{Event: state.LaunchStart})
	require.True(t, fault.Is(err, fault.OutOfSpace))
	got, err := v.Get(t.Context(), mgn, j.ID)
	require.NoError(t, err)
	require.Equal(t, state.LaunchPending, got.Participants[0].Status)
	events, _, err := v.Log(t.Context(), mgn, j.ID, state.Page{})
	require.NoError(t, err)
	require.Empty(t, events)
}

func TestOneJobPerServer(t *testing.T) {
	v, _ := setup(t, nil)
	_, err := create(t, v, mgn, "s-1", "s-1")
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	_, err = create(t, v, mgn)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	j, err := create(t, v, mgn, "s-1", "s-2")
	require.NoError(t, err)
	_, err = create(t, v, mgn, "s-2", "s-3")
	require.True(t, fault.Is(err, fault.Conflict))
	require.ErrorContains(t, err, "One or more of the Source Servers included in API call are currently being processed by a Job")
	many := &control.ResourceErrors{}
	require.ErrorAs(t, err, &many)
	require.Len(t, many.Each, 1)
	require.Equal(t, "s-2", many.Each[0].ID)

	require.NoError(t, v.Begin(t.Context(), mgn, j.ID))
	for _, id := range []string{"s-1", "s-2"} {
		require.NoError(t, v.Move(t.Context(), mgn, j.ID, id, Fail, nil, nil))
	}
	require.NoError(t, v.Finish(t.Context(), mgn, j.ID))
	_, err = create(t, v, mgn, "s-2", "s-3")
	require.NoError(t, err, "who is done may take part again")
}

func TestQuotas(t *testing.T) {
	v, _ := setup(t, map[quotas.Code]int64{quotas.MGNJobs: 2, quotas.MGNPerJob: 3, quotas.MGNInAllJobs: 4})
	ids := func(from, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("s-%d", from+i))
		}
		return out
	}
	_, err := create(t, v, mgn, ids(0, 4)...)
	require.ErrorIs(t, err, control.ErrQuota)
	_, err = create(t, v, mgn, ids(0, 3)...)
	require.NoError(t, err)
	_, err = create(t, v, mgn, ids(10, 2)...)
	require.ErrorIs(t, err, control.ErrQuota, "five in all jobs")
	_, err = create(t, v, mgn, ids(10, 1)...)
	require.NoError(t, err)
	_, err = create(t, v, drs, ids(20, 5)...)
	require.NoError(t, err, "another service has quotas of its own")
	require.NoError(t, v.store.Update(t.Context(), func(tx state.Tx) error {
		return tx.PutAccount(t.Context(), state.Account{ID: mgn.Account, Quotas: map[string]int64{string(quotas.MGNInAllJobs): 40}})
	}))
	_, err = create(t, v, mgn, ids(30, 1)...)
	require.ErrorIs(t, err, control.ErrQuota, "a third job")
}

func TestUnfinishedTagsAndLists(t *testing.T) {
	v, _ := setup(t, nil)
	ctx := t.Context()
	a, err := create(t, v, mgn, "s-1")
	require.NoError(t, err)
	b, err := create(t, v, drs, "s-2")
	require.NoError(t, err)
	require.Regexp(t, `^drsjob-`, b.ID)
	todo, err := v.Unfinished(ctx)
	require.NoError(t, err)
	require.Len(t, todo, 2)
	require.Equal(t, a.ID, todo[0].ID)
	require.NoError(t, v.Tag(ctx, mgn, a.ID, map[string]string{"more": "yes"}))
	require.NoError(t, v.Untag(ctx, mgn, a.ID, []string{"k"}))
	items, next, err := v.List(ctx, mgn, state.JobFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, items, 1)
	require.Equal(t, map[string]string{"more": "yes"}, items[0].Tags)
}
