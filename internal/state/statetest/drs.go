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

// walkIDs collects a list in pages of two.
func walkIDs[T any](t *testing.T, s state.Store, list func(context.Context, state.Reader, state.Page) ([]T, string, error), id func(T) string) (ids []string) {
	view(t, s, func(ctx context.Context, r state.Reader) {
		for page := (state.Page{Limit: 2}); ; {
			items, next, err := list(ctx, r, page)
			require.NoError(t, err)
			for _, v := range items {
				ids = append(ids, id(v))
			}
			if next == "" {
				return
			}
			page.After = next
		}
	})
	return ids
}

func testDRSLaunch(t *testing.T, s state.Store) {
	initialise(t, s)
	one := server(drs, 1)
	config := state.DRSLaunchConfig{ServerID: one.ID, Scope: drs, Name: "n", EC2LaunchTemplateID: "lt-1",
		Settings: state.DRSLaunchSettings{LaunchDisposition: "STARTED", RightSizing: "BASIC", CopyTags: true}, LaunchIntoInstance: "i-1"}
	tpl := state.DRSLaunchTemplate{ID: "lct-1", Scope: drs, CreatedAt: epoch, Tags: map[string]string{"a": "b"}, ExportBucketARN: "arn:aws:s3:::b"}
	action := func(resource string, n, order int) state.DRSLaunchAction {
		return state.DRSLaunchAction{Resource: resource, Scope: drs, ID: fmt.Sprintf("action-%d", n), Order: int32(order), Name: "n",
			Parameters: map[string]state.DRSActionParameter{"p": {Type: "DYNAMIC", Value: "v"}}}
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.PutServer(ctx, one))
		require.NoError(t, tx.PutDRSLaunchConfig(ctx, state.DRSLaunchConfig{ServerID: one.ID}))
		require.NoError(t, tx.PutDRSLaunchConfig(ctx, config))
		require.NoError(t, tx.PutDRSLaunchTemplate(ctx, tpl))
		for _, a := range []state.DRSLaunchAction{action(one.ID, 1, 30), action(one.ID, 2, 10), action(one.ID, 3, 10), action(tpl.ID, 1, 5)} {
			require.NoError(t, tx.PutDRSLaunchAction(ctx, a))
		}
		return tx.PutDRSLaunchAction(ctx, action(one.ID, 2, 40))
	})
	actions := func(resource string, ids ...string) []string {
		return walkIDs(t, s, func(ctx context.Context, r state.Reader, p state.Page) ([]state.DRSLaunchAction, string, error) {
			return r.DRSLaunchActions(ctx, resource, ids, p)
		}, func(a state.DRSLaunchAction) string { return a.ID })
	}
	require.Equal(t, []string{"action-3", "action-1", "action-2"}, actions(one.ID), "by order, and a second put replaces")
	require.Equal(t, []string{"action-2"}, actions(one.ID, "action-2", "action-9"))
	require.Equal(t, []string{"action-1"}, actions(tpl.ID))
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.DRSLaunchConfig(ctx, one.ID)
		require.NoError(t, err)
		require.Equal(t, config, got)
		have, err := r.DRSLaunchTemplate(ctx, drs, tpl.ID)
		require.NoError(t, err)
		require.Equal(t, tpl, have)
		_, err = r.DRSLaunchTemplate(ctx, other, tpl.ID)
		requireKind(t, fault.NotFound, err)
		a, err := r.DRSLaunchAction(ctx, tpl.ID, "action-1")
		require.NoError(t, err)
		require.Equal(t, action(tpl.ID, 1, 5), a)
		_, err = r.DRSLaunchAction(ctx, tpl.ID, "action-2")
		requireKind(t, fault.NotFound, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.DeleteDRSLaunchAction(ctx, one.ID, "action-1"))
		return tx.DeleteDRSLaunchTemplate(ctx, drs, tpl.ID)
	})
	require.Empty(t, actions(tpl.ID), "they go with the template")
	require.Len(t, actions(one.ID), 2)
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, one.ID) })
	require.Empty(t, actions(one.ID), "they go with the server")
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.DRSLaunchConfig(ctx, one.ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testSourceNetworks(t *testing.T, s state.Store) {
	initialise(t, s)
	network := func(sc state.Scope, n int) state.SourceNetwork {
		return state.SourceNetwork{ID: fmt.Sprintf("sn-%02d", n), Scope: sc, CreatedAt: epoch.Add(time.Duration(n/2) * time.Second), VPCID: "vpc-1",
			OriginAccount: fmt.Sprint("account ", n%2), OriginRegion: fmt.Sprint("region ", n%3), Status: state.NetworkStopped,
			Facts: state.NetworkFacts{Hosts: []state.NetworkHost{{ServerID: "s-1", NICs: []state.NIC{{MAC: "m", IPs: []string{"i"}}}}}}}
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for _, n := range []int{4, 1, 3, 0, 2} {
			require.NoError(t, tx.PutSourceNetwork(ctx, network(drs, n)))
		}
		return tx.PutSourceNetwork(ctx, network(other, 9))
	})
	list := func(f state.SourceNetworkFilter) []string {
		return walkIDs(t, s, func(ctx context.Context, r state.Reader, p state.Page) ([]state.SourceNetwork, string, error) {
			return r.SourceNetworks(ctx, drs, f, p)
		}, func(v state.SourceNetwork) string { return v.ID })
	}
	require.Equal(t, []string{"sn-00", "sn-01", "sn-02", "sn-03", "sn-04"}, list(state.SourceNetworkFilter{}))
	require.Equal(t, []string{"sn-01", "sn-03"}, list(state.SourceNetworkFilter{OriginAccount: "account 1"}))
	require.Equal(t, []string{"sn-01", "sn-04"}, list(state.SourceNetworkFilter{OriginRegion: "region 1"}))
	require.Equal(t, []string{"sn-02"}, list(state.SourceNetworkFilter{IDs: []string{"sn-02", "sn-09"}}))
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.SourceNetwork(ctx, drs, "sn-03")
		require.NoError(t, err)
		require.Equal(t, network(drs, 3), got)
		_, err = r.SourceNetwork(ctx, drs, "sn-09")
		requireKind(t, fault.NotFound, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.DeleteSourceNetwork(ctx, other, "sn-03"))
		return tx.DeleteSourceNetwork(ctx, drs, "sn-02")
	})
	require.Equal(t, []string{"sn-00", "sn-01", "sn-03", "sn-04"}, list(state.SourceNetworkFilter{}))
}

func testExtensions(t *testing.T, s state.Store) {
	initialise(t, s)
	ext := func(n int, staging, server string) state.Extension {
		return state.Extension{ServerID: fmt.Sprintf("s-%02d", n), Scope: drs, StagingAccount: staging, StagingServer: server}
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for n := range 5 {
			v := server(drs, n)
			v.ID = fmt.Sprintf("s-%02d", n)
			require.NoError(t, tx.PutServer(ctx, v))
		}
		require.NoError(t, tx.PutExtension(ctx, ext(1, "account b", "s-x")))
		require.NoError(t, tx.PutExtension(ctx, ext(2, "account a", "s-x")))
		require.NoError(t, tx.PutExtension(ctx, ext(3, "account c", "s-z")))
		return tx.PutExtension(ctx, ext(4, "account a", "s-y"))
	})
	err := s.Update(t.Context(), func(tx state.Tx) error { return tx.PutExtension(t.Context(), ext(0, "account a", "s-y")) })
	requireKind(t, fault.Conflict, err)
	require.Equal(t, []string{"account a", "account b", "account c"},
		walkIDs(t, s, func(ctx context.Context, r state.Reader, p state.Page) ([]string, string, error) {
			return r.StagingAccounts(ctx, drs, p)
		}, func(v string) string { return v }))
	view(t, s, func(ctx context.Context, r state.Reader) {
		one, err := r.Extension(ctx, "s-03")
		require.NoError(t, err)
		require.Equal(t, ext(3, "account c", "s-z"), one)
		_, err = r.Extension(ctx, "s-00")
		requireKind(t, fault.NotFound, err)
		all, err := r.Extensions(ctx, []string{"s-00", "s-01", "s-02"})
		require.NoError(t, err)
		require.ElementsMatch(t, []state.Extension{ext(1, "account b", "s-x"), ext(2, "account a", "s-x")}, all)
		none, err := r.Extensions(ctx, nil)
		require.NoError(t, err)
		require.Empty(t, none)
		of, err := r.ExtensionsOf(ctx, drs, "account a", []string{"s-x", "s-z"})
		require.NoError(t, err)
		require.Equal(t, []state.Extension{ext(2, "account a", "s-x")}, of)
		of, err = r.ExtensionsOf(ctx, other, "account a", []string{"s-x"})
		require.NoError(t, err)
		require.Empty(t, of)
	})
	for _, x := range []struct {
		staged []string
		want   []string
	}{
		{[]string{"account a"}, []string{"s-02", "s-04"}},
		{[]string{"account c", "account b"}, []string{"s-01", "s-03"}},
		{[]string{drs.Account}, []string{"s-00"}},
		{[]string{drs.Account, "account a"}, []string{"s-00", "s-02", "s-04"}},
		{[]string{"account d"}, nil},
	} {
		for limit := 1; limit <= 3; limit++ {
			require.Equal(t, x.want, list(t, s, drs, state.ServerFilter{StagingAccounts: x.staged}, limit), "staged in %v", x.staged)
		}
	}
	put(t, s, extensible(1), extensible(2), extensible(3))
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return tx.PutExtension(ctx, ext(0, other.Account, extensible(2).ID))
	})
	require.Equal(t, []string{extensible(1).ID, extensible(3).ID}, list(t, s, other, state.ServerFilter{ExtensibleBy: &drs}, 1))
	require.Len(t, list(t, s, other, state.ServerFilter{ExtensibleBy: &mgn}, 2), 3, "what others extend can be extended")
	require.Empty(t, list(t, s, drs, state.ServerFilter{ExtensibleBy: &other}, 1), "extensions cannot")
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, "s-03") })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Extension(ctx, "s-03")
		requireKind(t, fault.NotFound, err)
	})
}

// extensible is a server of the other account.
func extensible(n int) state.Server { return server(other, 50+n) }

func testRecoveryInstances(t *testing.T, s state.Store) {
	initialise(t, s)
	instance := func(sc state.Scope, n int) state.RecoveryInstance {
		return state.RecoveryInstance{ID: fmt.Sprintf("i-%02d", n), Scope: sc, ServerID: fmt.Sprint("s-", n%2), CreatedAt: epoch.Add(time.Duration(n/2) * time.Second),
			State: state.RIRunning, Disks: []state.RecoveryDisk{{DeviceName: "/dev/vda", Bytes: 5, VolumeID: "vol-1"}},
			Failback: state.Failback{State: state.FailbackNotStarted, Config: state.FailbackConfig{Name: "n", BandwidthMbps: 7}, Replication: state.ReplicationNotStarted}}
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for _, n := range []int{3, 0, 2, 1} {
			require.NoError(t, tx.PutRecoveryInstance(ctx, instance(drs, n)))
		}
		return tx.PutRecoveryInstance(ctx, instance(other, 9))
	})
	list := func(f state.RecoveryInstanceFilter) []string {
		return walkIDs(t, s, func(ctx context.Context, r state.Reader, p state.Page) ([]state.RecoveryInstance, string, error) {
			return r.RecoveryInstances(ctx, drs, f, p)
		}, func(v state.RecoveryInstance) string { return v.ID })
	}
	require.Equal(t, []string{"i-00", "i-01", "i-02", "i-03"}, list(state.RecoveryInstanceFilter{}))
	require.Equal(t, []string{"i-01", "i-03"}, list(state.RecoveryInstanceFilter{ServerIDs: []string{"s-1"}}))
	require.Equal(t, []string{"i-02"}, list(state.RecoveryInstanceFilter{IDs: []string{"i-02", "i-09"}}))
	changed := instance(drs, 2)
	changed.State, changed.Failback.State = state.RIStopped, state.FailbackInProgress
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.PutRecoveryInstance(ctx, changed))
		require.NoError(t, tx.DeleteRecoveryInstance(ctx, other, "i-00"))
		return tx.DeleteRecoveryInstance(ctx, drs, "i-01")
	})
	require.Equal(t, []string{"i-00", "i-02", "i-03"}, list(state.RecoveryInstanceFilter{}))
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.RecoveryInstance(ctx, drs, "i-02")
		require.NoError(t, err)
		require.Equal(t, changed, got)
		_, err = r.RecoveryInstance(ctx, drs, "i-09")
		requireKind(t, fault.NotFound, err)
	})
}
