package extended_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const (
	stagingAccount = "111111111111"
	targetAccount  = "222222222222"
)

var (
	stage  = state.Scope{Account: stagingAccount, Service: state.DRS}
	target = state.Scope{Account: targetAccount, Service: state.DRS}
)

// engine notes which servers it was asked about.
type engine struct {
	control.Replication
	asked []string
}

func (e *engine) note(_ context.Context, _ state.Scope, id string) error {
	e.asked = append(e.asked, id)
	return nil
}
func (e *engine) Start(ctx context.Context, s state.Scope, id string) error {
	return e.note(ctx, s, id)
}
func (e *engine) Stop(ctx context.Context, s state.Scope, id string) error { return e.note(ctx, s, id) }
func (e *engine) Retry(ctx context.Context, s state.Scope, id string) error {
	return e.note(ctx, s, id)
}
func (e *engine) Disconnect(ctx context.Context, s state.Scope, id string) error {
	return e.note(ctx, s, id)
}
func (e *engine) Delete(ctx context.Context, s state.Scope, id string) error {
	return e.note(ctx, s, id)
}
func (e *engine) Describe(_ context.Context, list []state.Server) ([]control.ReplicationInfo, error) {
	out := make([]control.ReplicationInfo, len(list))
	for i, v := range list {
		out[i] = control.ReplicationInfo{State: state.Continuous, ReplicatorID: "of " + v.ID}
	}
	return out, nil
}

// shelf has one point per server.
type shelf struct{ control.Points }

func (shelf) List(_ context.Context, s state.Scope, id string, _ state.PointFilter, _ state.Page) ([]state.Point, string, error) {
	return []state.Point{{ID: "pit of " + s.Account + " " + id, Scope: s, ServerID: id}}, "", nil
}

type world struct {
	*extended.Extensions
	store   state.Store
	servers control.Servers
	joined  *int
}

func open(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	for _, s := range []state.Scope{stage, target} {
		require.NoError(t, accounts.New(store).Initialize(t.Context(), s))
		require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
			if _, err := tx.Account(t.Context(), s.Account); err == nil {
				return nil
			}
			return tx.PutAccount(t.Context(), state.Account{ID: s.Account, CreatedAt: time.Now()})
		}))
	}
	w := &world{store: store, joined: new(int)}
	all := servers.New(store)
	all.OnAdd(func(context.Context, state.Tx, state.Server) error { *w.joined++; return nil })
	w.Extensions = extended.New(store, all)
	w.servers = w.Extensions.Servers(all)
	return w
}

func (w *world) trust(t *testing.T, who ...string) {
	t.Helper()
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error {
		name := extended.RolePrefix + targetAccount
		if len(who) == 0 {
			return tx.DeleteRole(t.Context(), stagingAccount, name)
		}
		return tx.PutRole(t.Context(), state.Role{Account: stagingAccount, Name: name, Trust: who})
	}))
}

func (w *world) add(t *testing.T, s state.Scope, n int) string {
	t.Helper()
	v := state.Server{ID: fmt.Sprintf("s-%017d", n), Scope: s, Identity: fmt.Sprint(n), CreatedAt: time.Unix(int64(n), 0), UserProvidedID: "mine",
		LifeCycle: state.LifeCycle{LastLaunch: state.DRSLaunch{Status: "LAUNCHED"}}, Tags: map[string]string{"stage": "yes"},
		Properties: state.SourceProperties{RAMBytes: uint64(n), Hints: state.Hints{Hostname: fmt.Sprint("host-", n)}}}
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutServer(t.Context(), v) }))
	return v.ID
}

func (w *world) extend(t *testing.T, id string) state.Server {
	t.Helper()
	v, err := w.Extend(t.Context(), target, stagingAccount, id, map[string]string{"a": "b"})
	require.NoError(t, err)
	return v
}

func TestTrustIsARole(t *testing.T) {
	w, ctx := open(t), t.Context()
	id := w.add(t, stage, 1)
	refused := func() {
		t.Helper()
		_, err := w.Extend(ctx, target, stagingAccount, id, nil)
		require.True(t, fault.Is(err, fault.Denied), "%v", err)
		_, _, err = w.Extensible(ctx, target, stagingAccount, state.Page{})
		require.True(t, fault.Is(err, fault.Denied), "%v", err)
	}
	refused()
	w.trust(t, "333333333333", "arn:aws:iam::2222222222223:root")
	refused()
	w.trust(t, "333333333333", "arn:aws:iam::222222222222:root")
	w.extend(t, id)
	_, _, err := w.Extensible(ctx, stage, targetAccount, state.Page{})
	require.True(t, fault.Is(err, fault.Denied), "trust has a direction: %v", err)
	_, _, err = w.Extensible(ctx, target, "999999999999", state.Page{})
	require.True(t, fault.Is(err, fault.Denied), "whether it exists is nobody's business: %v", err)
}

func TestExtend(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.trust(t, targetAccount)
	one, two := w.add(t, stage, 1), w.add(t, stage, 2)
	v := w.extend(t, one)
	require.NotEqual(t, one, v.ID)
	require.Equal(t, target, v.Scope)
	require.Equal(t, map[string]string{"a": "b"}, v.Tags, "its own")
	require.Empty(t, v.UserProvidedID)
	require.Zero(t, v.LifeCycle.LastLaunch, "what was launched there was not launched here")
	require.Equal(t, 1, *w.joined, "a server like every other")

	for why, call := range map[string]error{
		"again":         second(w.Extend(ctx, target, stagingAccount, one, nil)),
		"in itself":     second(w.Extend(ctx, target, targetAccount, v.ID, nil)),
		"tags too long": second(w.Extend(ctx, target, stagingAccount, two, map[string]string{"": "x"})),
	} {
		require.True(t, fault.Is(call, fault.Invalid), "%s: %v", why, call)
	}
	_, err := w.Extend(ctx, target, stagingAccount, "s-00000000000000099", nil)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)

	items, _, err := w.Extensible(ctx, target, stagingAccount, state.Page{})
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.Equal(t, two, items[0].ID)
	list, _, err := w.StagingAccounts(ctx, target, state.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{stagingAccount}, list)
	list, _, err = w.StagingAccounts(ctx, stage, state.Page{})
	require.NoError(t, err)
	require.Empty(t, list)
}

// An extension cannot be extended in turn.
func TestNoChains(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.trust(t, targetAccount)
	v := w.extend(t, w.add(t, stage, 1))
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error {
		return tx.PutRole(ctx, state.Role{Account: targetAccount, Name: extended.RolePrefix + stagingAccount, Trust: []string{stagingAccount}})
	}))
	_, err := w.Extend(ctx, stage, targetAccount, v.ID, nil)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	items, _, err := w.Extensible(ctx, stage, targetAccount, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items)
}

func second[T any](_ T, err error) error { return err }

func TestWhatAnExtendedServerShows(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.trust(t, targetAccount)
	id := w.add(t, stage, 1)
	v, own := w.extend(t, id), w.add(t, target, 50)
	w.add(t, stage, 1) // the staging server changes
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error {
		s, err := tx.Server(ctx, stage, id)
		require.NoError(t, err)
		s.Properties.RAMBytes, s.Config.BandwidthMbps = 777, 5
		return tx.PutServer(ctx, s)
	}))
	list, _, err := w.servers.List(ctx, target, state.ServerFilter{}, state.Page{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.EqualValues(t, 50, list[0].Properties.RAMBytes)
	require.EqualValues(t, 777, list[1].Properties.RAMBytes)
	got, err := w.servers.Get(ctx, target, v.ID)
	require.NoError(t, err)
	require.EqualValues(t, 5, got.Config.BandwidthMbps)
	require.Contains(t, got.Config.Name, v.ID)
	require.Equal(t, map[string]string{"a": "b"}, got.Tags)

	infos, err := w.Replication(&engine{}).Describe(ctx, list)
	require.NoError(t, err)
	require.Equal(t, []string{"of " + own, "of " + id}, []string{infos[0].ReplicatorID, infos[1].ReplicatorID})
	points, _, err := w.Points(shelf{}).List(ctx, target, v.ID, state.PointFilter{}, state.Page{})
	require.NoError(t, err)
	require.Equal(t, []state.Point{{ID: "pit of " + stagingAccount + " " + id, Scope: target, ServerID: v.ID}}, points)
	points, _, err = w.Points(shelf{}).List(ctx, target, own, state.PointFilter{}, state.Page{})
	require.NoError(t, err)
	require.Equal(t, "pit of "+targetAccount+" "+own, points[0].ID)
	points, _, err = w.Points(shelf{}).List(ctx, stage, v.ID, state.PointFilter{}, state.Page{})
	require.NoError(t, err)
	require.Equal(t, "pit of "+stagingAccount+" "+v.ID, points[0].ID, "another scope's extension is none")
}

func TestReplicationBelongsToTheStagingAccount(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.trust(t, targetAccount)
	id := w.add(t, stage, 1)
	v, own := w.extend(t, id), w.add(t, target, 50)
	inner := &engine{}
	r := w.Replication(inner)
	for _, c := range []struct {
		do   func(context.Context, state.Scope, string) error
		kind fault.Kind
	}{{r.Start, fault.Conflict}, {r.Stop, fault.Conflict}, {r.Disconnect, fault.Conflict}, {r.Retry, fault.Invalid}} {
		err := c.do(ctx, target, v.ID)
		require.True(t, fault.Is(err, c.kind), "%v", err)
		require.ErrorContains(t, err, "call this in account "+stagingAccount)
		require.NoError(t, c.do(ctx, target, own))
		require.NoError(t, c.do(ctx, stage, id))
	}
	require.Len(t, inner.asked, 8)
	_, err := w.servers.UpdateConfig(ctx, target, v.ID, control.ConfigPatch{})
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)

	var j state.Job
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) (err error) {
		j, err = jobs.New(w.store, nil).Create(ctx, tx, target, jobs.Spec{Type: state.JobLaunch, Participants: []state.Participant{{ServerID: v.ID}}})
		return err
	}))
	require.True(t, fault.Is(r.Delete(ctx, target, v.ID), fault.Conflict), "while it is being launched")
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteJob(ctx, target, j.ID) }))
	require.NoError(t, r.Delete(ctx, target, v.ID))
	_, err = w.servers.Get(ctx, target, v.ID)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	_, err = w.servers.Get(ctx, stage, id)
	require.NoError(t, err, "nothing happens to what it extended")
	require.NoError(t, r.Delete(ctx, target, own))
	require.Equal(t, own, inner.asked[len(inner.asked)-1])
	w.extend(t, id)
}

func TestBrokenLinks(t *testing.T) {
	for name, breaks := range map[string]func(*testing.T, *world, string){
		"trust was withdrawn": func(t *testing.T, w *world, _ string) { w.trust(t) },
		"server was deleted": func(t *testing.T, w *world, id string) {
			require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.DeleteServer(t.Context(), id) }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, ctx := open(t), t.Context()
			w.trust(t, targetAccount)
			id := w.add(t, stage, 1)
			v := w.extend(t, id)
			links, err := w.Links(ctx, []state.Server{v})
			require.NoError(t, err)
			require.Empty(t, links[v.ID].Broken)
			require.Equal(t, stagingAccount, links[v.ID].StagingAccount)
			breaks(t, w, id)
			links, err = w.Links(ctx, []state.Server{v})
			require.NoError(t, err)
			require.NotEmpty(t, links[v.ID].Broken)
			points, _, err := w.Points(shelf{}).List(ctx, target, v.ID, state.PointFilter{}, state.Page{})
			require.NoError(t, err)
			require.Empty(t, points)
			infos, err := w.Replication(&engine{}).Describe(ctx, []state.Server{v})
			require.NoError(t, err)
			require.Equal(t, control.ReplicationInfo{State: state.Disconnected}, infos[0])
			got, err := w.servers.Get(ctx, target, v.ID)
			require.NoError(t, err)
			require.EqualValues(t, 1, got.Properties.RAMBytes, "what was known last stays")
			require.NoError(t, w.Replication(&engine{}).Delete(ctx, target, v.ID))
		})
	}
}
