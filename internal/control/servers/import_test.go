package servers

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/state"
)

func TestImportedServerWaitsForItsAgent(t *testing.T) {
	servers, store := setup(t)
	ctx := t.Context()
	require.NoError(t, accounts.New(store).Initialize(ctx, mgn))
	joined := 0
	servers.OnAdd(func(context.Context, state.Tx, state.Server) error { joined++; return nil })
	var planned [2]state.Server
	require.NoError(t, store.Update(ctx, func(tx state.Tx) (err error) {
		for i, id := range []string{"web-1", "web-2"} {
			planned[i], err = servers.Import(ctx, tx, mgn, Planned{UserProvidedID: id, FQDN: id + ".test", Platform: "linux", Tags: map[string]string{"k": "v"}})
			require.NoError(t, err)
			planned[i].Migration.ApplicationID = "app-1"
			require.NoError(t, tx.PutServer(ctx, planned[i]))
		}
		return nil
	}))
	require.Equal(t, state.PendingInstallation, planned[0].LifeCycle.State)
	require.Equal(t, 2, joined)

	registration := Registration{Identity: "machine", Devices: []Device{{Name: "/dev/vda", Bytes: 1 << 30, Boot: true}}, Tags: map[string]string{"other": "tag"}}
	stranger, err := servers.Register(ctx, mgn, registration)
	require.NoError(t, err)
	require.NotContains(t, []string{planned[0].ID, planned[1].ID}, stranger.ID, "it does not say that it is one of them")

	registration.UserProvidedID = "web-1"
	got, err := servers.Register(ctx, mgn, registration)
	require.NoError(t, err)
	require.Equal(t, planned[0].ID, got.ID)
	require.Equal(t, state.NotReady, got.LifeCycle.State)
	require.Equal(t, map[string]string{"k": "v"}, got.Tags, "it keeps what people have said")
	require.Equal(t, "app-1", got.Migration.ApplicationID)
	require.Len(t, got.Config.Disks, 1)
	again, err := servers.Register(ctx, mgn, registration)
	require.NoError(t, err)
	require.Equal(t, planned[0].ID, again.ID)
	clone := registration
	clone.Identity = "its clone"
	another, err := servers.Register(ctx, mgn, clone)
	require.NoError(t, err)
	require.NotEqual(t, planned[0].ID, another.ID, "only one machine can be it")

	registration.Identity, registration.UserProvidedID, registration.NoReplication = "second", "web-2", true
	stopped, err := servers.Register(ctx, mgn, registration)
	require.NoError(t, err)
	require.Equal(t, planned[1].ID, stopped.ID)
	require.Equal(t, state.LifeCycleStopped, stopped.LifeCycle.State)
	require.NoError(t, store.View(ctx, func(r state.Reader) error {
		rec, err := r.Replication(ctx, planned[0].ID)
		require.NoError(t, err)
		require.Equal(t, state.IntentRun, rec.Intent)
		rec, err = r.Replication(ctx, stopped.ID)
		require.NoError(t, err)
		require.Equal(t, state.IntentStop, rec.Intent)
		return nil
	}))
	require.Equal(t, 4, joined, "two imported, a stranger and a clone")
}
