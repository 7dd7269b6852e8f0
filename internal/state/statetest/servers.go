package statetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func testServerRecord(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(mgn, 1)
	v.UserProvidedID = "mine"
	v.Agent = state.Agent{Version: "1.2.3", WireVersions: []uint32{1, 2}, Capture: "ebpf"}
	v.Disks = []state.Disk{{DeviceName: "/dev/vda", Index: 0, Bytes: 1 << 40, Boot: true}, {DeviceName: "/dev/vdb", Index: 1, Bytes: 5, Gone: true}}
	v.Properties = state.SourceProperties{UpdatedAt: epoch, OS: "Linux version 6.1", RAMBytes: 1 << 33,
		CPUs: []state.CPU{{Cores: 1, Model: "x"}}, NICs: []state.NIC{{MAC: "0A-40", IPs: []string{"10.0.0.1"}, Primary: true}},
		Disks: []state.SourceDisk{{DeviceName: "/dev/vda", Bytes: 1 << 40}}, Hints: state.Hints{Hostname: "h", FQDN: "h.example"}}
	v.LifeCycle = state.LifeCycle{State: state.NotReady, LastTest: state.LaunchRecord{InitiatedAt: epoch, JobID: "mgnjob-1"}}
	put(t, s, v)
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Server(ctx, mgn, v.ID)
		require.NoError(t, err)
		require.Equal(t, v, got)
		_, err = r.Server(ctx, drs, v.ID)
		requireKind(t, fault.NotFound, err)
		got, err = r.ServerByIdentity(ctx, mgn, v.Identity)
		require.NoError(t, err)
		require.Equal(t, v, got)
		_, err = r.ServerByIdentity(ctx, drs, v.Identity)
		requireKind(t, fault.NotFound, err)
	})
}

func list(t *testing.T, s state.Store, sc state.Scope, f state.ServerFilter, limit int) (ids []string) {
	view(t, s, func(ctx context.Context, r state.Reader) {
		for page := (state.Page{Limit: limit}); ; {
			items, next, err := r.Servers(ctx, sc, f, page)
			require.NoError(t, err)
			for _, v := range items {
				ids = append(ids, v.ID)
			}
			if next == "" {
				return
			}
			require.Len(t, items, limit, "only the last page may be short")
			page.After = next
		}
	})
	return ids
}

func testServerPages(t *testing.T, s state.Store) {
	initialise(t, s)
	var want []string
	for _, n := range []int{6, 3, 0, 5, 2, 1, 4} { // order of insertion must not show
		put(t, s, server(drs, n), server(other, 100+n))
	}
	for n := range 7 {
		want = append(want, server(drs, n).ID)
	}
	for limit := 1; limit <= 8; limit++ {
		require.Equal(t, want, list(t, s, drs, state.ServerFilter{}, limit), "limit %d", limit)
	}
	require.Empty(t, list(t, s, mgn, state.ServerFilter{}, 5))
}

func testServerFilters(t *testing.T, s state.Store) {
	initialise(t, s)
	a, b, c := server(mgn, 1), server(mgn, 2), server(mgn, 3)
	a.Archived, a.LifeCycle.State = true, state.Cutover
	b.LifeCycle.State = state.NotReady
	b.Properties.NICs = []state.NIC{{MAC: "aa"}, {MAC: "aa"}, {MAC: "bb"}}
	c.LifeCycle.State = state.ReadyForTest
	c.ReplicationType, c.UserProvidedID = state.SnapshotShipping, "mine"
	c.Properties.Hints = state.Hints{AWSInstanceID: "i-1", VMWareUUID: "u-1"}
	put(t, s, a, b, c)
	yes, no := true, false
	for _, x := range []struct {
		filter state.ServerFilter
		want   []string
	}{
		{state.ServerFilter{}, []string{a.ID, b.ID, c.ID}},
		{state.ServerFilter{IDs: []string{c.ID, a.ID, "s-unknown"}}, []string{a.ID, c.ID}},
		{state.ServerFilter{Archived: &yes}, []string{a.ID}},
		{state.ServerFilter{Archived: &no}, []string{b.ID, c.ID}},
		{state.ServerFilter{LifeCycleStates: []state.LifeCycleState{state.Cutover, state.NotReady}}, []string{a.ID, b.ID}},
		{state.ServerFilter{ReplicationTypes: []string{state.SnapshotShipping}}, []string{c.ID}},
		{state.ServerFilter{HardwareID: "bb"}, []string{b.ID}},
		{state.ServerFilter{UserProvidedID: "mine"}, []string{c.ID}},
		{state.ServerFilter{UserProvidedID: "yours"}, nil},
		{state.ServerFilter{HardwareID: "u-1"}, []string{c.ID}},
		{state.ServerFilter{HardwareID: "i-1", Archived: &yes}, nil},
	} {
		require.Equal(t, x.want, list(t, s, mgn, x.filter, 2), "%+v", x.filter)
	}
	b.Properties.NICs = nil
	put(t, s, b)
	require.Empty(t, list(t, s, mgn, state.ServerFilter{HardwareID: "bb"}, 2), "hardware that went must not match")
}

func testServerIdentity(t *testing.T, s state.Store) {
	initialise(t, s)
	a := server(drs, 1)
	put(t, s, a)
	twin := server(drs, 2)
	twin.Identity = a.Identity
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutServer(ctx, twin) }))
	elsewhere := server(mgn, 3)
	elsewhere.Identity = a.Identity
	put(t, s, elsewhere) // another service is another server
	a.Deleting = true
	put(t, s, a)
	put(t, s, twin) // a server being deleted frees its identity
}

func testServerDeletion(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	v.Deleting = true
	put(t, s, v)
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Server(ctx, drs, v.ID)
		requireKind(t, fault.NotFound, err)
		_, err = r.ServerByIdentity(ctx, drs, v.Identity)
		requireKind(t, fault.NotFound, err)
	})
	require.Empty(t, list(t, s, drs, state.ServerFilter{}, 5))
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.PutReplication(ctx, state.Replication{ServerID: v.ID, Scope: drs}))
		return tx.PutPoint(ctx, state.Point{ID: "pit-1", Scope: drs, ServerID: v.ID, Expected: epoch})
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Replication(ctx, v.ID)
		requireKind(t, fault.NotFound, err)
		_, err = r.Point(ctx, drs, "pit-1")
		requireKind(t, fault.NotFound, err)
	})
}

func testReplications(t *testing.T, s state.Store) {
	initialise(t, s)
	states := []state.ReplicationState{state.Stopped, state.Continuous, state.Continuous, state.Stalled, state.Continuous}
	var all []state.Replication
	for n, st := range states {
		v := server(drs, n)
		put(t, s, v)
		r := state.Replication{ServerID: v.ID, Scope: drs, Intent: state.IntentRun, State: st, FirstByteAt: epoch,
			Attempt: state.Attempt{ID: 3, StartedAt: epoch, NextAttemptAt: epoch.Add(time.Hour),
				Steps: []state.Step{{Name: state.StepWait, Status: state.Succeeded, StartedAt: epoch, EndedAt: epoch}}},
			Disks: []state.DiskProgress{{DeviceName: "/dev/vda", Total: 4, Replicated: 3, Rescanned: 2, Backlogged: 1}}}
		if st == state.Stalled {
			r.Error = &state.ReplicationError{Code: state.AgentNotSeen, Raw: "why"}
		}
		all = append(all, r)
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutReplication(ctx, r) })
	}
	walk := func(f state.ReplicationFilter) (out []state.Replication) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			for page := (state.Page{Limit: 2}); ; {
				items, next, err := r.Replications(ctx, f, page)
				require.NoError(t, err)
				out = append(out, items...)
				if next == "" {
					return
				}
				page.After = next
			}
		})
		return out
	}
	require.Equal(t, all, walk(state.ReplicationFilter{}))
	require.Equal(t, []state.Replication{all[1], all[2], all[4]}, walk(state.ReplicationFilter{States: []state.ReplicationState{state.Continuous}}))
	ids := []string{all[4].ServerID, all[0].ServerID}
	require.Equal(t, []state.Replication{all[0], all[4]}, walk(state.ReplicationFilter{ServerIDs: ids}))
	all[1].State = state.Stalled
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutReplication(ctx, all[1]) })
	stalled := walk(state.ReplicationFilter{States: []state.ReplicationState{state.Stalled}})
	require.True(t, slices.ContainsFunc(stalled, func(r state.Replication) bool { return r.ServerID == all[1].ServerID }))
}
