package statetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func job(s state.Scope, n int, subjects ...string) state.Job {
	j := state.Job{
		ID: fmt.Sprintf("job-%02d", n), Scope: s, Type: state.JobLaunch, InitiatedBy: state.ByStartTest, Status: state.JobPending,
		CreatedAt: epoch.Add(time.Duration(n/2) * time.Second), // pairs share a time: ids break the tie
		Tags:      map[string]string{"n": fmt.Sprint(n)},
	}
	for _, id := range subjects {
		j.Participants = append(j.Participants, state.Participant{ServerID: id, Status: state.LaunchPending})
	}
	return j
}

func putJobs(t *testing.T, s state.Store, jobs ...state.Job) {
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for _, j := range jobs {
			if err := tx.PutJob(ctx, j); err != nil {
				return err
			}
		}
		return nil
	})
}

func testJobs(t *testing.T, s state.Store) {
	initialise(t, s)
	var all []state.Job
	for n := range 7 {
		all = append(all, job(mgn, n))
	}
	putJobs(t, s, all[3], all[0], all[6], all[1], all[5], all[2], all[4]) // order of insertion must not show
	putJobs(t, s, job(other, 50), job(drs, 51))
	walk := func(f state.JobFilter) (ids []string) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			for page := (state.Page{Limit: 2}); ; {
				items, next, err := r.Jobs(ctx, mgn, f, page)
				require.NoError(t, err)
				for _, j := range items {
					require.Equal(t, mgn, j.Scope)
					ids = append(ids, j.ID)
				}
				if next == "" {
					return
				}
				page.After = next
			}
		})
		return ids
	}
	require.Equal(t, []string{"job-06", "job-05", "job-04", "job-03", "job-02", "job-01", "job-00"}, walk(state.JobFilter{}), "newest first")
	require.Equal(t, []string{"job-05", "job-00"}, walk(state.JobFilter{IDs: []string{"job-00", "job-05", "job-50", "job-99"}}))
	require.Equal(t, []string{"job-05", "job-04", "job-03", "job-02"}, walk(state.JobFilter{From: all[2].CreatedAt, To: all[5].CreatedAt}))
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Job(ctx, mgn, all[1].ID)
		require.NoError(t, err)
		require.Equal(t, all[1], got)
		_, err = r.Job(ctx, drs, all[1].ID)
		requireKind(t, fault.NotFound, err)
		_, _, err = r.Jobs(ctx, mgn, state.JobFilter{}, state.Page{After: "x"})
		requireKind(t, fault.Invalid, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteJob(ctx, drs, all[1].ID) })
	require.Len(t, walk(state.JobFilter{}), 7, "a delete in another scope must not reach it")
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteJob(ctx, mgn, all[1].ID) })
	require.Len(t, walk(state.JobFilter{}), 6)
}

func testJobSubjects(t *testing.T, s state.Store) {
	initialise(t, s)
	a, b := job(mgn, 1, "s-1", "s-2"), job(mgn, 2, "s-3")
	c := job(drs, 3)
	c.Participants = []state.Participant{{RecoveryInstanceID: "i-1"}, {SourceNetworkID: "sn-1"}}
	putJobs(t, s, a, b, c)
	putJobs(t, s, a) // again: nothing is in its own way
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutJob(ctx, job(mgn, 4, "s-9", "s-2")) }))
	view(t, s, func(ctx context.Context, r state.Reader) {
		busy, err := r.BusyIn(ctx, []string{"s-2", "s-3", "s-9", "i-1", "sn-1"})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"s-2": a.ID, "s-3": b.ID, "i-1": c.ID, "sn-1": c.ID}, busy)
		busy, err = r.BusyIn(ctx, nil)
		require.NoError(t, err)
		require.Empty(t, busy)
		jobs, subjects, err := r.JobLoad(ctx, mgn)
		require.NoError(t, err)
		require.Equal(t, []int{2, 3}, []int{jobs, subjects})
		items, next, err := r.UnfinishedJobs(ctx, state.Page{Limit: 2})
		require.NoError(t, err)
		require.Equal(t, []state.Job{a, b}, items)
		items, next, err = r.UnfinishedJobs(ctx, state.Page{Limit: 2, After: next})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Equal(t, []state.Job{c}, items)
	})
	a.Status, a.EndedAt = state.JobCompleted, epoch.Add(time.Hour)
	putJobs(t, s, a)
	putJobs(t, s, job(mgn, 5, "s-2")) // who is done is free
	view(t, s, func(ctx context.Context, r state.Reader) {
		jobs, subjects, err := r.JobLoad(ctx, mgn)
		require.NoError(t, err)
		require.Equal(t, []int{2, 2}, []int{jobs, subjects})
		got, err := r.Job(ctx, mgn, a.ID)
		require.NoError(t, err)
		require.Equal(t, a, got)
	})
}

func testJobLog(t *testing.T, s state.Store) {
	initialise(t, s)
	putJobs(t, s, job(mgn, 1), job(mgn, 2))
	var want []state.JobEvent
	for n := range 5 {
		e := state.JobEvent{JobID: "job-01", Seq: int64(n + 1), At: epoch.Add(time.Duration(n) * time.Second), Event: state.LaunchStart,
			ServerID: "s-1", TargetInstanceID: "i-1", ConversionServerID: "i-2", RawError: "why", Attempt: 1, MaxAttempts: 3}
		want = append(want, e)
		e.Seq = 0
		elsewhere := e
		elsewhere.JobID = "job-02"
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.AddJobEvent(ctx, e) })
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.AddJobEvent(ctx, elsewhere) })
	}
	read := func() (events []state.JobEvent) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			for page := (state.Page{Limit: 2}); ; {
				items, next, err := r.JobLog(ctx, "job-01", page)
				require.NoError(t, err)
				events = append(events, items...)
				if next == "" {
					return
				}
				page.After = next
			}
		})
		return events
	}
	require.Equal(t, want, read())
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, _, err := r.JobLog(ctx, "job-01", state.Page{After: "x"})
		requireKind(t, fault.Invalid, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteJob(ctx, mgn, "job-01") })
	require.Empty(t, read(), "the log goes with its job")
}
