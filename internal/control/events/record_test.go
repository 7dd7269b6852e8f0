package events

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const account = "123456789012"

var (
	drs = state.Scope{Account: account, Service: state.DRS}
	mgn = state.Scope{Account: account, Service: state.MGN}
)

// open makes a recorder with the given servers of both services, "d-" of DRS and "m-" of MGN.
func open(t *testing.T, servers ...string) *Recorder {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	r := NewRecorder(s, "us-east-1")
	change(t, r, func(ctx context.Context, tx state.Tx) error {
		err := errors.Join(tx.PutInitialised(ctx, drs, time.Now()), tx.PutInitialised(ctx, mgn, time.Now()))
		for _, id := range servers {
			err = errors.Join(err, tx.PutServer(ctx, state.Server{ID: id, Scope: scopeOf(id), Identity: id, CreatedAt: time.Now()}))
		}
		return err
	})
	return r
}

func scopeOf(id string) state.Scope {
	if id[0] == 'm' {
		return mgn
	}
	return drs
}

func change(t *testing.T, r *Recorder, fn func(context.Context, state.Tx) error) {
	t.Helper()
	require.NoError(t, r.Update(t.Context(), func(tx state.Tx) error { return fn(t.Context(), tx) }))
}

func recorded(t *testing.T, r *Recorder) (out []state.Event) {
	require.NoError(t, r.View(t.Context(), func(tx state.Reader) (err error) {
		out, err = tx.Events(t.Context(), account, state.EventFilter{Limit: state.MaxLimit})
		return err
	}))
	return out
}

// told is what matters of events: their type and detail.
func told(all []state.Event) (out []string) {
	for _, e := range all {
		detail, _ := json.Marshal(e.Detail)
		out = append(out, e.DetailType+" "+string(detail))
	}
	return out
}

func replicate(t *testing.T, r *Recorder, id string, states ...state.ReplicationState) {
	for _, s := range states {
		change(t, r, func(ctx context.Context, tx state.Tx) error {
			return tx.PutReplication(ctx, state.Replication{ServerID: id, Scope: scopeOf(id), State: s})
		})
	}
}

func TestAStallIsToldOnce(t *testing.T) {
	r := open(t, "m-1", "d-1")
	replicate(t, r, "m-1", state.Initiating, state.Stalled, state.Stalled, state.Initiating, state.Stalled, state.Initiating,
		state.InitialSync, state.Continuous, state.Stalled, state.Stopped)
	replicate(t, r, "d-1", state.Stalled)
	require.Equal(t, []string{
		`MGN Source Server Data Replication Stalled Change {"state":"STALLED"}`,
		`MGN Source Server Data Replication Stalled Change {"state":"NOT_STALLED"}`,
		`MGN Source Server Data Replication Stalled Change {"state":"STALLED"}`,
		`MGN Source Server Data Replication Stalled Change {"state":"NOT_STALLED"}`,
		`DRS Source Server Data Replication Stalled Change {"state":"STALLED"}`,
	}, told(recorded(t, r)))
}

func TestReadyForTestIsToldTheFirstTime(t *testing.T) {
	r := open(t, "m-1", "d-1")
	for _, s := range []state.LifeCycleState{state.NotReady, state.ReadyForTest, state.Testing, state.ReadyForTest, state.NotReady, state.ReadyForTest} {
		for _, id := range []string{"m-1", "d-1"} {
			change(t, r, func(ctx context.Context, tx state.Tx) error {
				return tx.PutServer(ctx, state.Server{ID: id, Scope: scopeOf(id), Identity: id, LifeCycle: state.LifeCycle{State: s}})
			})
		}
	}
	require.Equal(t, []string{`MGN Source Server Lifecycle State Change {"state":"READY_FOR_TEST"}`}, told(recorded(t, r)))
}

func TestEveryPointOfDRSIsTold(t *testing.T) {
	r := open(t, "m-1", "d-1")
	for n, id := range []string{"d-1", "m-1", "d-1"} {
		p := state.Point{ID: "pit-" + string(rune('a'+n)), Scope: scopeOf(id), ServerID: id, Expected: time.Unix(int64(n), 0)}
		for range 2 { // a change of it is not another one
			change(t, r, func(ctx context.Context, tx state.Tx) error { return tx.PutPoint(ctx, p) })
		}
	}
	require.Equal(t, []string{
		`DRS PIT Snapshot Taken {"DrsSnapshotID":"pit-a","EbsSnapshotIDs":""}`,
		`DRS PIT Snapshot Taken {"DrsSnapshotID":"pit-c","EbsSnapshotIDs":""}`,
	}, told(recorded(t, r)))
}

func TestLaunchResults(t *testing.T) {
	r := open(t, "m-1", "d-1", "d-2")
	run := func(j state.Job, steps ...[]state.LaunchStatus) {
		for _, statuses := range steps {
			for i, s := range statuses {
				j.Participants[i].Status = s
			}
			change(t, r, func(ctx context.Context, tx state.Tx) error { return tx.PutJob(ctx, j) })
		}
		j.Status = state.JobCompleted
		change(t, r, func(ctx context.Context, tx state.Tx) error { return tx.PutJob(ctx, j) })
	}
	pair := []state.Participant{{ServerID: "d-1"}, {ServerID: "d-2"}}
	run(state.Job{ID: "j-1", Scope: drs, Type: state.JobLaunch, InitiatedBy: state.ByStartDrill, Participants: pair},
		[]state.LaunchStatus{state.LaunchPending, state.LaunchPending},
		[]state.LaunchStatus{state.LaunchInProgress, state.LaunchFailed},
		[]state.LaunchStatus{state.Launched, state.LaunchFailed})
	run(state.Job{ID: "j-2", Scope: drs, Type: state.JobLaunch, InitiatedBy: state.ByStartRecovery, Participants: pair[:1]}, []state.LaunchStatus{state.Launched})
	single := []state.Participant{{ServerID: "m-1"}}
	run(state.Job{ID: "j-3", Scope: mgn, Type: state.JobLaunch, InitiatedBy: state.ByStartTest, Participants: single}, []state.LaunchStatus{state.LaunchFailed})
	run(state.Job{ID: "j-4", Scope: mgn, Type: state.JobLaunch, InitiatedBy: state.ByStartCutover, Participants: single}, []state.LaunchStatus{state.Launched})
	run(state.Job{ID: "j-5", Scope: mgn, Type: state.JobTerminate, InitiatedBy: state.ByTerminate, Participants: single}, []state.LaunchStatus{state.LaunchTerminated})
	require.Equal(t, []string{
		`DRS Source Server Launch Result {"is-drill":"TRUE","job-id":"j-1","state":"RECOVERY_LAUNCH_FAILED"}`,
		`DRS Source Server Launch Result {"is-drill":"TRUE","job-id":"j-1","state":"RECOVERY_LAUNCH_SUCCEEDED"}`,
		`DRS Source Server Launch Result {"is-drill":"FALSE","job-id":"j-2","state":"RECOVERY_LAUNCH_SUCCEEDED"}`,
		`MGN Source Server Launch Result {"job-id":"j-3","state":"TEST_LAUNCH_FAILED"}`,
		`MGN Source Server Launch Result {"job-id":"j-4","state":"CUTOVER_LAUNCH_SUCCEEDED"}`,
	}, told(recorded(t, r)))
}

func TestFailbackStates(t *testing.T) {
	r := open(t, "d-1")
	for _, s := range state.FailbackStates {
		for range 2 {
			change(t, r, func(ctx context.Context, tx state.Tx) error {
				return tx.PutRecoveryInstance(ctx, state.RecoveryInstance{ID: "i-1", Scope: drs, ServerID: "d-1", Failback: state.Failback{State: s}})
			})
		}
	}
	all := recorded(t, r)
	require.Equal(t, []string{
		`DRS Recovery Instance Failback State Change {"state":"FAILBACK_IN_PROGRESS"}`,
		`DRS Recovery Instance Failback State Change {"state":"FAILBACK_COMPLETED"}`,
		`DRS Recovery Instance Failback State Change {"state":"FAILBACK_ERROR"}`,
	}, told(all))
	require.Equal(t, []string{"arn:aws:drs:us-east-1:123456789012:recovery-instance/i-1"}, all[0].Resources)
	require.Equal(t, "d-1", all[0].Subject)
}

func TestAFindingIsToldOnce(t *testing.T) {
	r := open(t, "m-1", "d-1")
	since := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	put := func(id string, f *state.Finding) {
		change(t, r, func(ctx context.Context, tx state.Tx) error {
			return tx.PutReplication(ctx, state.Replication{ServerID: id, Scope: scopeOf(id), State: state.Initiating, Finding: f})
		})
	}
	for _, f := range []*state.Finding{
		nil, {Journal: "a", Epoch: 3, Since: since, Bytes: 12288, Absent: 4096}, {Journal: "a", Epoch: 3, Since: since, Bytes: 12288, Absent: 4096},
		{Journal: "b", Epoch: 3, Bytes: 512, Absent: 512},
	} {
		put("d-1", f)
	}
	put("m-1", &state.Finding{Journal: "a", Epoch: 9, Bytes: 1})
	require.Equal(t, []string{
		`DRS Source Server Verify Finding {"absent-bytes":"4096","differed-bytes":"8192","epoch":"3","since":"2026-01-02T03:04:05Z","state":"DIFFERED"}`,
		`DRS Source Server Verify Finding {"absent-bytes":"512","differed-bytes":"0","epoch":"3","since":"","state":"ABSENT"}`,
		`MGN Source Server Verify Finding {"absent-bytes":"0","differed-bytes":"1","epoch":"9","since":"","state":"DIFFERED"}`,
	}, told(recorded(t, r)))
}

func TestNoChangeNoEvent(t *testing.T) {
	r := open(t, "d-1")
	boom := errors.New("boom")
	woken := r.Changed()
	require.ErrorIs(t, r.Update(t.Context(), func(tx state.Tx) error {
		require.NoError(t, tx.PutReplication(t.Context(), state.Replication{ServerID: "d-1", Scope: drs, State: state.Stalled}))
		return boom
	}), boom)
	require.Empty(t, recorded(t, r))
	select {
	case <-woken:
		t.Fatal("nothing happened")
	default:
	}
	replicate(t, r, "d-1", state.Stalled)
	<-woken
}

func TestEnvelope(t *testing.T) {
	e := state.Event{Seq: 7, ID: "6a7e8feb-b491-4cf7-a9f1-bf3703467718", Account: account, Region: "us-east-1", Source: "aws.drs",
		DetailType: "DRS PIT Snapshot Taken", Subject: "s-1", Resources: []string{"arn:aws:drs:us-east-1:123456789012:source-server/s-1"},
		Detail: map[string]string{"DrsSnapshotID": "pit-1", "EbsSnapshotIDs": ""}, At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	got, err := json.Marshal(cloudEventOf(e))
	require.NoError(t, err)
	require.JSONEq(t, `{"specversion":"1.0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","source":"aws.drs","type":"aws.drs.pit-snapshot-taken",
		"subject":"arn:aws:drs:us-east-1:123456789012:source-server/s-1","time":"2026-01-02T03:04:05.000000006Z","datacontenttype":"application/json",
		"partitionkey":"s-1","sequence":"00000000000000000007","data":{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718",
		"detail-type":"DRS PIT Snapshot Taken","source":"aws.drs","account":"123456789012","time":"2026-01-02T03:04:05Z","region":"us-east-1",
		"resources":["arn:aws:drs:us-east-1:123456789012:source-server/s-1"],"detail":{"DrsSnapshotID":"pit-1","EbsSnapshotIDs":""}}}`, string(got))
}
