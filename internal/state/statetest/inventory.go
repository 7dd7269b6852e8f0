package statetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// pages reads a list to its end in pages of two.
func pages[T any](t *testing.T, list func(state.Page) ([]T, string, error)) (all []T) {
	t.Helper()
	for page := (state.Page{Limit: 2}); ; {
		items, next, err := list(page)
		require.NoError(t, err)
		require.LessOrEqual(t, len(items), 2)
		all = append(all, items...)
		if next == "" {
			return all
		}
		page.After = next
	}
}

func application(n int) state.Application {
	return state.Application{ID: fmt.Sprintf("app-%02d", n), Scope: mgn, Name: fmt.Sprintf("application %d", n), Description: "of a test",
		Tags: map[string]string{"n": fmt.Sprint(n)}, CreatedAt: epoch.Add(time.Duration(n/2) * time.Second), ModifiedAt: epoch}
}

func testApplications(t *testing.T, s state.Store) {
	initialise(t, s)
	all := []state.Application{application(0), application(1), application(2), application(3)}
	all[1].WaveID, all[2].WaveID, all[3].Archived = "wave-1", "wave-2", true
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutApplication(ctx, all[2]), tx.PutApplication(ctx, all[0]), tx.PutApplication(ctx, all[3]), tx.PutApplication(ctx, all[1]))
	})
	yes, no := true, false
	view(t, s, func(ctx context.Context, r state.Reader) {
		walk := func(f state.ApplicationFilter) []state.Application {
			return pages(t, func(p state.Page) ([]state.Application, string, error) { return r.Applications(ctx, mgn, f, p) })
		}
		require.Equal(t, all, walk(state.ApplicationFilter{}))
		require.Equal(t, all[3:], walk(state.ApplicationFilter{Archived: &yes}))
		require.Equal(t, all[:3], walk(state.ApplicationFilter{Archived: &no}))
		require.Equal(t, all[1:3], walk(state.ApplicationFilter{WaveIDs: []string{"wave-2", "wave-1"}}))
		require.Equal(t, all[:1], walk(state.ApplicationFilter{IDs: []string{all[0].ID, "app-99"}}))
		got, err := r.ApplicationByName(ctx, mgn, all[2].Name)
		require.NoError(t, err)
		require.Equal(t, all[2], got)
		_, err = r.ApplicationByName(ctx, drs, all[2].Name)
		requireKind(t, fault.NotFound, err)
		_, err = r.Application(ctx, other, all[0].ID)
		requireKind(t, fault.NotFound, err)
		n, err := r.CountApplications(ctx, mgn, false)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		in, err := r.CountInWaves(ctx, mgn, []string{"wave-1", "wave-3"})
		require.NoError(t, err)
		require.Equal(t, map[string]int{"wave-1": 1}, in)
	})
	twin := application(9)
	twin.Name = all[0].Name
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutApplication(ctx, twin) }))
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeleteApplication(ctx, drs, all[0].ID), tx.DeleteApplication(ctx, mgn, all[1].ID))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Application(ctx, mgn, all[0].ID)
		require.NoError(t, err, "a delete in another scope must not reach it")
		_, err = r.Application(ctx, mgn, all[1].ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testWaves(t *testing.T, s state.Store) {
	initialise(t, s)
	var all []state.Wave
	for n := range 3 {
		all = append(all, state.Wave{ID: fmt.Sprintf("wave-%d", n), Scope: mgn, Name: fmt.Sprint(n), Archived: n == 1,
			Tags: map[string]string{}, CreatedAt: epoch.Add(time.Duration(n) * time.Second), ModifiedAt: epoch})
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutWave(ctx, all[n]) })
	}
	no := false
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Equal(t, all, pages(t, func(p state.Page) ([]state.Wave, string, error) { return r.Waves(ctx, mgn, state.WaveFilter{}, p) }))
		require.Equal(t, []state.Wave{all[0], all[2]}, pages(t, func(p state.Page) ([]state.Wave, string, error) {
			return r.Waves(ctx, mgn, state.WaveFilter{Archived: &no, IDs: []string{all[0].ID, all[1].ID, all[2].ID}}, p)
		}))
		got, err := r.WaveByName(ctx, mgn, "2")
		require.NoError(t, err)
		require.Equal(t, all[2], got)
		n, err := r.CountWaves(ctx, mgn, true)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
	twin := all[0]
	twin.ID = "wave-9"
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutWave(ctx, twin) }))
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteWave(ctx, mgn, all[0].ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Wave(ctx, mgn, all[0].ID)
		requireKind(t, fault.NotFound, err)
	})
}

// testMembers sums servers up by application and wave.
func testMembers(t *testing.T, s state.Store) {
	initialise(t, s)
	a, b := application(1), application(2)
	a.WaveID, b.WaveID = "wave-1", "wave-1"
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutApplication(ctx, a), tx.PutApplication(ctx, b))
	})
	for n, x := range []struct {
		app  string
		life state.LifeCycleState
		repl state.ReplicationState
		at   time.Time
	}{
		{a.ID, state.ReadyForTest, state.Continuous, epoch.Add(2 * time.Hour)},
		{a.ID, state.ReadyForTest, state.Continuous, epoch.Add(time.Hour)},
		{a.ID, state.NotReady, state.Stalled, time.Time{}},
		{a.ID, state.PendingInstallation, "", time.Time{}},
		{b.ID, state.ReadyForTest, state.Continuous, time.Time{}},
		{"", state.ReadyForTest, state.Continuous, epoch},
	} {
		v := server(mgn, n)
		v.Migration.ApplicationID, v.LifeCycle.State = x.app, x.life
		put(t, s, v)
		if x.repl != "" {
			update(t, s, func(ctx context.Context, tx state.Tx) error {
				return tx.PutReplication(ctx, state.Replication{ServerID: v.ID, Scope: mgn, State: x.repl, FirstByteAt: x.at})
			})
		}
	}
	gone := server(mgn, 50)
	gone.Migration.ApplicationID, gone.Deleting = a.ID, true
	put(t, s, gone)
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.ApplicationMembers(ctx, mgn, []string{a.ID, "app-99"})
		require.NoError(t, err)
		require.ElementsMatch(t, []state.Members{
			{Of: a.ID, LifeCycle: state.ReadyForTest, Replication: state.Continuous, Count: 2, FirstByteAt: epoch.Add(time.Hour)},
			{Of: a.ID, LifeCycle: state.NotReady, Replication: state.Stalled, Count: 1},
			{Of: a.ID, LifeCycle: state.PendingInstallation, Count: 1},
		}, got)
		got, err = r.WaveMembers(ctx, mgn, []string{"wave-1"})
		require.NoError(t, err)
		require.ElementsMatch(t, []state.Members{
			{Of: "wave-1", LifeCycle: state.ReadyForTest, Replication: state.Continuous, Count: 3, FirstByteAt: epoch.Add(time.Hour)},
			{Of: "wave-1", LifeCycle: state.NotReady, Replication: state.Stalled, Count: 1},
			{Of: "wave-1", LifeCycle: state.PendingInstallation, Count: 1},
		}, got)
		got, err = r.ApplicationMembers(ctx, drs, []string{a.ID})
		require.NoError(t, err)
		require.Empty(t, got)
	})
	require.Equal(t, []string{server(mgn, 4).ID}, list(t, s, mgn, state.ServerFilter{ApplicationIDs: []string{b.ID}}, 2))
	require.Len(t, list(t, s, mgn, state.ServerFilter{ApplicationIDs: []string{b.ID, a.ID}}, 2), 5)
}

func testConnectors(t *testing.T, s state.Store) {
	initialise(t, s)
	var all []state.Connector
	for n := range 3 {
		all = append(all, state.Connector{ID: fmt.Sprintf("connector-%d", n), Scope: mgn, Name: "c", SSMInstanceID: "i-1", Tags: map[string]string{"a": "b"},
			Command: &state.SSMCommand{S3Output: true, S3Bucket: "logs", CloudWatchName: "g"}, CreatedAt: epoch.Add(time.Duration(n) * time.Second)})
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutConnector(ctx, all[n]) })
	}
	client := state.VcenterClient{ID: "vcc-1", Scope: mgn, Hostname: "h", UUID: "u", Datacenter: "d", LastSeenAt: epoch,
		ServerTags: map[string]string{"k": "v"}, Tags: map[string]string{}, CreatedAt: epoch}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutVcenterClient(ctx, client) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Equal(t, all, pages(t, func(p state.Page) ([]state.Connector, string, error) { return r.Connectors(ctx, mgn, nil, p) }))
		require.Equal(t, all[1:2], pages(t, func(p state.Page) ([]state.Connector, string, error) {
			return r.Connectors(ctx, mgn, []string{all[1].ID}, p)
		}))
		require.Equal(t, []state.VcenterClient{client}, pages(t, func(p state.Page) ([]state.VcenterClient, string, error) { return r.VcenterClients(ctx, mgn, p) }))
		got, err := r.VcenterClient(ctx, mgn, client.ID)
		require.NoError(t, err)
		require.Equal(t, client, got)
		_, err = r.Connector(ctx, drs, all[0].ID)
		requireKind(t, fault.NotFound, err)
		require.Equal(t, []string{mgn.Account}, pages(t, func(p state.Page) ([]string, string, error) { return r.InitialisedAccounts(ctx, state.MGN, p) }))
		require.Equal(t, []string{drs.Account, other.Account}, pages(t, func(p state.Page) ([]string, string, error) { return r.InitialisedAccounts(ctx, state.DRS, p) }))
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeleteConnector(ctx, mgn, all[0].ID), tx.DeleteVcenterClient(ctx, mgn, client.ID))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Connector(ctx, mgn, all[0].ID)
		requireKind(t, fault.NotFound, err)
		_, err = r.VcenterClient(ctx, mgn, client.ID)
		requireKind(t, fault.NotFound, err)
	})
}
