package inventory

import (
	"context"
	"fmt"
	"path/filepath"
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
	mgn       = state.Scope{Account: "111122223333", Service: state.MGN}
	elsewhere = state.Scope{Account: "444455556666", Service: state.MGN}
	begin     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

type world struct {
	t            *testing.T
	ctx          context.Context
	store        state.Store
	applications *Applications
	waves        *Waves
	connectors   *Connectors
	servers      *Servers
}

func setup(t *testing.T, set map[quotas.Code]int64) *world {
	q, err := quotas.New(set)
	require.NoError(t, err)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	w := &world{t: t, ctx: t.Context(), store: store, applications: NewApplications(store, q), waves: NewWaves(store, q),
		connectors: NewConnectors(store), servers: NewServers(store)}
	w.update(func(tx state.Tx) error {
		if err := tx.PutInitialised(w.ctx, mgn, begin); err != nil {
			return err
		}
		return tx.PutInitialised(w.ctx, elsewhere, begin)
	})
	return w
}

func (w *world) update(fn func(state.Tx) error) {
	w.t.Helper()
	require.NoError(w.t, w.store.Update(w.ctx, fn))
}

// server puts a server into the store; no replication state means that no agent has registered.
func (w *world) server(n int, life state.LifeCycleState, repl state.ReplicationState) string {
	w.t.Helper()
	v := state.Server{ID: fmt.Sprintf("s-%017x", n), Scope: mgn, Identity: fmt.Sprint(n), CreatedAt: begin, ReplicationType: state.AgentBased,
		LifeCycle: state.LifeCycle{State: life}}
	w.update(func(tx state.Tx) error {
		if err := tx.PutServer(w.ctx, v); err != nil || repl == "" {
			return err
		}
		r := state.Replication{ServerID: v.ID, Scope: mgn, State: repl}
		if repl != state.Stopped && repl != state.Initiating {
			r.FirstByteAt = begin.Add(time.Duration(n) * time.Minute)
		}
		return tx.PutReplication(w.ctx, r)
	})
	return v.ID
}

func (w *world) application(name string, servers ...string) string {
	w.t.Helper()
	a, err := w.applications.Create(w.ctx, mgn, name, "", nil)
	require.NoError(w.t, err)
	if len(servers) > 0 {
		require.NoError(w.t, w.applications.Associate(w.ctx, mgn, a.ID, servers))
	}
	return a.ID
}

func (w *world) requireKind(k fault.Kind, err error) {
	w.t.Helper()
	require.Error(w.t, err)
	require.Equal(w.t, k, fault.KindOf(err), "%v", err)
}

func (w *world) applicationStatus(id string) Status {
	w.t.Helper()
	items, _, err := w.applications.List(w.ctx, mgn, state.ApplicationFilter{IDs: []string{id}}, state.Page{})
	require.NoError(w.t, err)
	require.Len(w.t, items, 1)
	return items[0].Status
}

func (w *world) waveStatus(id string) Status {
	w.t.Helper()
	items, _, err := w.waves.List(w.ctx, mgn, state.WaveFilter{IDs: []string{id}}, state.Page{})
	require.NoError(w.t, err)
	require.Len(w.t, items, 1)
	return items[0].Status
}

func TestApplication(t *testing.T) {
	w := setup(t, nil)
	a, err := w.applications.Create(w.ctx, mgn, "shop", "of shoes", map[string]string{"k": "v"})
	require.NoError(t, err)
	require.Regexp(t, `^app-[0-9a-f]{17}$`, a.ID)
	require.Equal(t, Healthy, a.Status.Health)
	require.Equal(t, NotStarted, a.Status.Progress)
	require.False(t, a.Status.UpdatedAt.IsZero())

	_, err = w.applications.Create(w.ctx, mgn, "shop", "", nil)
	w.requireKind(fault.Conflict, err)
	b := w.application("stock")
	_, err = w.applications.Update(w.ctx, mgn, b, new("shop"), nil)
	w.requireKind(fault.Conflict, err)
	changed, err := w.applications.Update(w.ctx, mgn, a.ID, new("shop"), new("of boots"))
	require.NoError(t, err, "it may keep its name")
	require.Equal(t, "of boots", changed.Description)
	require.True(t, changed.ModifiedAt.After(a.ModifiedAt))
	changed, err = w.applications.Update(w.ctx, mgn, a.ID, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "of boots", changed.Description)

	_, err = w.applications.Get(w.ctx, elsewhere, a.ID)
	w.requireKind(fault.NotFound, err)
	_, err = w.applications.Create(w.ctx, elsewhere, "shop", "", nil)
	require.NoError(t, err, "another account has names of its own")
	require.NoError(t, w.applications.Tag(w.ctx, mgn, a.ID, map[string]string{"x": "y"}))
	require.NoError(t, w.applications.Untag(w.ctx, mgn, a.ID, []string{"k"}))
	got, err := w.applications.Get(w.ctx, mgn, a.ID)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x": "y"}, got.Tags)
	w.requireKind(fault.NotFound, w.applications.Delete(w.ctx, elsewhere, a.ID))
	require.NoError(t, w.applications.Delete(w.ctx, mgn, a.ID))
	w.requireKind(fault.NotFound, w.applications.Delete(w.ctx, mgn, a.ID))
}

func TestAssociations(t *testing.T) {
	w := setup(t, nil)
	x, y, z := w.server(1, state.NotReady, state.InitialSync), w.server(2, state.NotReady, state.InitialSync), w.server(3, state.NotReady, state.InitialSync)
	a, b := w.application("a", x, y, x), w.application("b")
	require.Equal(t, 2, w.applicationStatus(a).Servers, "naming one twice is naming it once")
	require.NoError(t, w.applications.Associate(w.ctx, mgn, a, []string{x}), "again")
	w.requireKind(fault.NotFound, w.applications.Associate(w.ctx, mgn, a, []string{"s-0000000000000ffff"}))

	err := w.applications.Associate(w.ctx, mgn, b, []string{z, x, y})
	w.requireKind(fault.Conflict, err)
	many := &control.ResourceErrors{}
	require.ErrorAs(t, err, &many)
	require.Len(t, many.Each, 2)
	require.Zero(t, w.applicationStatus(b).Servers, "a refused call changes nothing")
	w.requireKind(fault.Conflict, w.applications.Delete(w.ctx, mgn, a))
	w.requireKind(fault.Conflict, w.applications.Disassociate(w.ctx, mgn, a, []string{x, z}))
	require.NoError(t, w.applications.Disassociate(w.ctx, mgn, a, []string{x, y}))
	require.NoError(t, w.applications.Delete(w.ctx, mgn, a))
	require.NoError(t, w.applications.Associate(w.ctx, mgn, b, []string{x}))
	v, err := w.servers.Get(w.ctx, mgn, x)
	require.NoError(t, err)
	require.Equal(t, b, v.Migration.ApplicationID)

	wave, err := w.waves.Create(w.ctx, mgn, "first", "", nil)
	require.NoError(t, err)
	next, err := w.waves.Create(w.ctx, mgn, "second", "", nil)
	require.NoError(t, err)
	c := w.application("c")
	require.NoError(t, w.waves.Associate(w.ctx, mgn, wave.ID, []string{b, c, b}))
	require.Equal(t, 2, w.waveStatus(wave.ID).Applications)
	w.requireKind(fault.Conflict, w.waves.Associate(w.ctx, mgn, next.ID, []string{b}))
	w.requireKind(fault.NotFound, w.waves.Associate(w.ctx, mgn, next.ID, []string{"app-00000000000000000"}))
	w.requireKind(fault.Conflict, w.waves.Disassociate(w.ctx, mgn, next.ID, []string{b}))
	w.requireKind(fault.Conflict, w.waves.Delete(w.ctx, mgn, wave.ID))
	require.NoError(t, w.waves.Disassociate(w.ctx, mgn, wave.ID, []string{b, c}))
	require.NoError(t, w.waves.Delete(w.ctx, mgn, wave.ID))
}

func TestAggregatedStatus(t *testing.T) {
	w := setup(t, nil)
	none, stopped := w.server(1, state.PendingInstallation, ""), w.server(2, state.LifeCycleStopped, state.Stopped)
	fresh, healthy := w.server(3, state.NotReady, state.Initiating), w.server(4, state.ReadyForTest, state.Continuous)
	behind, scanning := w.server(5, state.ReadyForTest, state.Backlog), w.server(6, state.ReadyForTest, state.Rescan)
	stalled, over := w.server(7, state.ReadyForTest, state.Stalled), w.server(8, state.Cutover, state.Disconnected)
	gone := w.server(9, state.LifeDisconnected, state.Disconnected)
	for _, c := range []struct {
		servers  []string
		health   Health
		progress Progress
	}{
		{nil, Healthy, NotStarted},
		{[]string{none, stopped}, Healthy, NotStarted},
		{[]string{none, fresh}, Healthy, InProgress},
		{[]string{healthy}, Healthy, InProgress},
		{[]string{healthy, behind}, Lagging, InProgress},
		{[]string{healthy, scanning}, Lagging, InProgress},
		{[]string{behind, stalled, healthy}, Error, InProgress},
		{[]string{over}, Healthy, Completed},
		{[]string{over, none}, Healthy, InProgress},
		{[]string{gone}, Healthy, InProgress}, // it had begun
	} {
		a := w.application("under test", c.servers...)
		wave, err := w.waves.Create(w.ctx, mgn, "under test", "", nil)
		require.NoError(t, err)
		require.NoError(t, w.waves.Associate(w.ctx, mgn, wave.ID, []string{a}))
		for _, got := range []Status{w.applicationStatus(a), w.waveStatus(wave.ID)} {
			require.Equal(t, c.health, got.Health, "%v", c.servers)
			require.Equal(t, c.progress, got.Progress, "%v", c.servers)
			require.Equal(t, len(c.servers), got.Servers)
		}
		require.NoError(t, w.waves.Disassociate(w.ctx, mgn, wave.ID, []string{a}))
		require.NoError(t, w.waves.Delete(w.ctx, mgn, wave.ID))
		if len(c.servers) > 0 {
			require.NoError(t, w.applications.Disassociate(w.ctx, mgn, a, c.servers))
		}
		require.NoError(t, w.applications.Delete(w.ctx, mgn, a))
	}
	a := w.application("both", stalled, healthy)
	require.Equal(t, begin.Add(4*time.Minute), w.applicationStatus(a).StartedAt, "the first of them")
}

func TestArchive(t *testing.T) {
	w := setup(t, nil)
	x := w.server(1, state.ReadyForTest, state.Continuous)
	y := w.server(2, state.LifeDisconnected, state.Disconnected)
	a := w.application("a", x, y)
	wave, err := w.waves.Create(w.ctx, mgn, "w", "", nil)
	require.NoError(t, err)
	require.NoError(t, w.waves.Associate(w.ctx, mgn, wave.ID, []string{a}))
	_, err = w.applications.Archive(w.ctx, mgn, a)
	w.requireKind(fault.Conflict, err)
	_, err = w.waves.Archive(w.ctx, mgn, wave.ID)
	w.requireKind(fault.Conflict, err)
	_, err = w.servers.Change(w.ctx, mgn, x, func(_ state.Tx, v *state.Server) error { v.LifeCycle.State = state.Cutover; return nil })
	require.NoError(t, err)

	done, err := w.applications.Archive(w.ctx, mgn, a)
	require.NoError(t, err)
	require.True(t, done.Archived)
	require.Empty(t, done.Status.Health, "nobody looks any more")
	again, err := w.applications.Archive(w.ctx, mgn, a)
	require.NoError(t, err)
	require.Equal(t, done.ModifiedAt, again.ModifiedAt)
	w.requireKind(fault.Conflict, w.applications.Associate(w.ctx, mgn, a, []string{w.server(3, state.NotReady, state.InitialSync)}))
	back, err := w.applications.Unarchive(w.ctx, mgn, a)
	require.NoError(t, err)
	require.False(t, back.Archived)
	require.Equal(t, Healthy, back.Status.Health)

	doneWave, err := w.waves.Archive(w.ctx, mgn, wave.ID)
	require.NoError(t, err)
	require.True(t, doneWave.Archived)
	w.requireKind(fault.Conflict, w.waves.Associate(w.ctx, mgn, wave.ID, []string{w.application("b")}))
	_, err = w.waves.Unarchive(w.ctx, mgn, wave.ID)
	require.NoError(t, err)
	require.NoError(t, w.waves.Associate(w.ctx, mgn, wave.ID, []string{w.application("c")}))
}

func TestQuotas(t *testing.T) {
	w := setup(t, map[quotas.Code]int64{quotas.MGNApplications: 2, quotas.MGNArchivedApplications: 1, quotas.MGNWaves: 2,
		quotas.MGNArchivedWaves: 1, quotas.MGNPerApplication: 2, quotas.MGNPerWave: 1})
	a, b := w.application("a"), w.application("b")
	_, err := w.applications.Create(w.ctx, mgn, "c", "", nil)
	require.ErrorIs(t, err, control.ErrQuota)
	_, err = w.applications.Archive(w.ctx, mgn, a)
	require.NoError(t, err)
	c := w.application("c")
	_, err = w.applications.Archive(w.ctx, mgn, b)
	require.ErrorIs(t, err, control.ErrQuota, "one may be archived")
	_, err = w.applications.Unarchive(w.ctx, mgn, a)
	require.ErrorIs(t, err, control.ErrQuota, "and two active")

	servers := []string{w.server(1, state.NotReady, ""), w.server(2, state.NotReady, ""), w.server(3, state.NotReady, "")}
	require.ErrorIs(t, w.applications.Associate(w.ctx, mgn, b, servers), control.ErrQuota)
	require.NoError(t, w.applications.Associate(w.ctx, mgn, b, servers[:2]))
	require.ErrorIs(t, w.applications.Associate(w.ctx, mgn, b, servers[2:]), control.ErrQuota)

	first, err := w.waves.Create(w.ctx, mgn, "a", "", nil)
	require.NoError(t, err)
	second, err := w.waves.Create(w.ctx, mgn, "b", "", nil)
	require.NoError(t, err)
	_, err = w.waves.Create(w.ctx, mgn, "c", "", nil)
	require.ErrorIs(t, err, control.ErrQuota)
	require.ErrorIs(t, w.waves.Associate(w.ctx, mgn, first.ID, []string{b, c}), control.ErrQuota)
	require.NoError(t, w.waves.Associate(w.ctx, mgn, first.ID, []string{b}))
	require.ErrorIs(t, w.waves.Associate(w.ctx, mgn, first.ID, []string{c}), control.ErrQuota)
	_, err = w.waves.Archive(w.ctx, mgn, second.ID)
	require.NoError(t, err)
	third, err := w.waves.Create(w.ctx, mgn, "c", "", nil)
	require.NoError(t, err)
	_, err = w.waves.Archive(w.ctx, mgn, third.ID)
	require.ErrorIs(t, err, control.ErrQuota)
}

func TestConnectors(t *testing.T) {
	w := setup(t, nil)
	_, err := w.connectors.Create(w.ctx, mgn, "c", "i-1", &state.SSMCommand{S3Output: true}, nil)
	w.requireKind(fault.Invalid, err)
	c, err := w.connectors.Create(w.ctx, mgn, "c", "i-1", &state.SSMCommand{S3Output: true, S3Bucket: "logs"}, nil)
	require.NoError(t, err)
	_, err = w.connectors.Update(w.ctx, mgn, c.ID, nil, &state.SSMCommand{S3Output: true})
	w.requireKind(fault.Invalid, err)
	changed, err := w.connectors.Update(w.ctx, mgn, c.ID, new("d"), nil)
	require.NoError(t, err)
	require.Equal(t, "d", changed.Name)
	require.Equal(t, "logs", changed.Command.S3Bucket)

	id := w.server(1, state.NotReady, state.InitialSync)
	arn := "arn:aws:mgn:us-east-1:111122223333:connector/"
	secret := "arn:aws:secretsmanager:us-east-1:111122223333:secret:s"
	require.NoError(t, w.servers.SetConnectorAction(w.ctx, mgn, id, &state.ConnectorAction{ConnectorARN: arn + c.ID, CredentialsSecretARN: secret}))
	require.NoError(t, w.servers.SetConnectorAction(w.ctx, mgn, id, nil))
	w.requireKind(fault.NotFound, w.servers.SetConnectorAction(w.ctx, mgn, id, &state.ConnectorAction{ConnectorARN: arn + "connector-00000000000000000"}))
	w.requireKind(fault.NotFound, w.servers.SetConnectorAction(w.ctx, mgn, id, &state.ConnectorAction{
		ConnectorARN: "arn:aws:mgn:us-east-1:444455556666:connector/" + c.ID}))
	v, err := w.servers.Get(w.ctx, mgn, id)
	require.NoError(t, err)
	require.Equal(t, secret, v.Migration.Connector.CredentialsSecretARN)
	require.NoError(t, w.servers.SetConnectorAction(w.ctx, mgn, id, &state.ConnectorAction{}))
	v, err = w.servers.Change(w.ctx, mgn, id, func(_ state.Tx, x *state.Server) error { x.Archived = true; return nil })
	require.NoError(t, err)
	require.Empty(t, v.Migration.Connector)
	w.requireKind(fault.Conflict, w.servers.SetConnectorAction(w.ctx, mgn, id, nil))
	require.NoError(t, w.connectors.Delete(w.ctx, mgn, c.ID))
}

func TestReplicationType(t *testing.T) {
	w := setup(t, nil)
	id := w.server(1, state.ReadyForTest, state.Continuous)
	require.NoError(t, w.servers.SetReplicationType(w.ctx, mgn, id, state.AgentBased), "as it is")
	w.requireKind(fault.Invalid, w.servers.SetReplicationType(w.ctx, mgn, id, state.SnapshotShipping))
	_, err := w.servers.Change(w.ctx, mgn, id, func(_ state.Tx, v *state.Server) error { v.Migration.VcenterClientID = "vcc-1"; return nil })
	require.NoError(t, err)
	for _, at := range state.ReplicationStates {
		w.update(func(tx state.Tx) error {
			return tx.PutReplication(w.ctx, state.Replication{ServerID: id, Scope: mgn, State: at})
		})
		err := w.servers.SetReplicationType(w.ctx, mgn, id, state.SnapshotShipping)
		if at != state.Stopped && at != state.Disconnected {
			w.requireKind(fault.Conflict, err)
			continue
		}
		require.NoError(t, err, at)
		require.NoError(t, w.servers.SetReplicationType(w.ctx, mgn, id, state.AgentBased))
	}
	discovered := w.server(2, state.Discovered, "")
	_, err = w.servers.Change(w.ctx, mgn, discovered, func(_ state.Tx, v *state.Server) error {
		v.ReplicationType, v.Migration.VcenterClientID = state.SnapshotShipping, "vcc-1"
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, w.servers.SetReplicationType(w.ctx, mgn, discovered, state.AgentBased), "no agent has registered")
}
