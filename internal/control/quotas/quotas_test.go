package quotas

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	drs = state.Scope{Account: "111122223333", Service: state.DRS}
	mgn = state.Scope{Account: "111122223333", Service: state.MGN}
)

func store(t *testing.T) state.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.PutInitialised(ctx, drs, time.Now()))
		return tx.PutInitialised(ctx, mgn, time.Now())
	})
	return s
}

func update(t *testing.T, s state.Store, fn func(context.Context, state.Tx) error) {
	t.Helper()
	require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error { return fn(t.Context(), tx) }))
}

func TestSettings(t *testing.T) {
	l, err := New(map[Code]int64{DRSReplicating: 5})
	require.NoError(t, err)
	require.Equal(t, int64(5), l.Value(DRSReplicating))
	require.Equal(t, int64(4000), l.Value(DRSServers))
	require.Equal(t, int64(7), l.Of(state.Account{Quotas: map[string]int64{string(DRSReplicating): 7}}, DRSReplicating))
	for c, v := range map[Code]int64{"L-NONE": 1, DRSTemplates: 2, DRSServers: -1} {
		_, err = New(map[Code]int64{c: v})
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", c, err)
	}
}

// add puts a server as a registration does, and asks in the same transaction.
func add(t *testing.T, s state.Store, l *Limits, scope state.Scope, n int, st state.ReplicationState, archived bool) error {
	return s.Update(t.Context(), func(tx state.Tx) error {
		v := state.Server{ID: fmt.Sprintf("s-%s%d", scope.Service, n), Scope: scope, Identity: fmt.Sprint(n), Archived: archived}
		require.NoError(t, tx.PutServer(t.Context(), v))
		require.NoError(t, tx.PutReplication(t.Context(), state.Replication{ServerID: v.ID, State: st}))
		return l.Added(t.Context(), tx, v)
	})
}

func TestFull(t *testing.T) {
	s := store(t)
	l, err := New(map[Code]int64{DRSReplicating: 2, DRSServers: 3, MGNActive: 1, MGNServers: 2})
	require.NoError(t, err)
	require.NoError(t, add(t, s, l, drs, 1, state.Continuous, false))
	room := func() error {
		return s.View(t.Context(), func(r state.Reader) error { return l.Room(t.Context(), r, drs) })
	}
	require.NoError(t, room())
	require.NoError(t, add(t, s, l, drs, 2, state.Initiating, false))
	require.ErrorIs(t, room(), control.ErrQuota)
	err = add(t, s, l, drs, 3, state.Initiating, false)
	require.ErrorIs(t, err, control.ErrQuota)
	var q *control.QuotaError
	require.ErrorAs(t, err, &q)
	require.Equal(t, control.QuotaError{Value: 2, What: "replicating source servers"}, *q)
	require.Equal(t, string(DRSReplicating), WireCode(state.DRS, q.What))
	require.NoError(t, add(t, s, l, drs, 4, state.Stopped, false), "what does not replicate does not count")
	err = add(t, s, l, drs, 5, state.Stopped, false)
	require.ErrorAs(t, err, &q)
	require.Equal(t, "source servers", q.What)

	require.NoError(t, add(t, s, l, mgn, 1, state.Continuous, false), "each service by itself")
	require.ErrorIs(t, add(t, s, l, mgn, 2, state.Continuous, false), control.ErrQuota)
	require.NoError(t, add(t, s, l, mgn, 3, state.Disconnected, true))
	require.ErrorIs(t, add(t, s, l, mgn, 4, state.Disconnected, true), control.ErrQuota)
	require.Empty(t, WireCode(state.MGN, "source servers"))

	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return tx.PutAccount(ctx, state.Account{ID: drs.Account, Quotas: map[string]int64{string(DRSServers): 4}})
	})
	require.NoError(t, add(t, s, l, drs, 5, state.Stopped, false), "an account's own quota goes before the installation's")
}

func TestFits(t *testing.T) {
	s := store(t)
	l, err := New(map[Code]int64{MGNWaves: 2})
	require.NoError(t, err)
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, l.Fits(ctx, tx, mgn, MGNWaves, "Wave", "", 2))
		err := l.Fits(ctx, tx, mgn, MGNWaves, "Wave", "wave-1", 3)
		require.ErrorIs(t, err, control.ErrQuota)
		require.ErrorContains(t, err, "at most 2 active waves")
		require.NoError(t, tx.PutAccount(ctx, state.Account{ID: mgn.Account, Quotas: map[string]int64{string(MGNWaves): 3}}))
		require.NoError(t, l.Fits(ctx, tx, mgn, MGNWaves, "Wave", "", 3))
		require.NoError(t, (*Limits)(nil).Fits(ctx, tx, mgn, MGNWaves, "Wave", "", 200))
		require.ErrorIs(t, (*Limits)(nil).Fits(ctx, tx, mgn, MGNWaves, "Wave", "", 201), control.ErrQuota)
		require.True(t, fault.Is(l.Fits(ctx, tx, mgn, "none", "", "", 1), fault.Bug))
		return nil
	})
}

func TestEveryQuotaIsDescribedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, q := range Table {
		require.False(t, seen[string(q.Code)] || seen[q.Means], "%+v", q)
		seen[string(q.Code)], seen[q.Means] = true, true
		require.Positive(t, q.Default)
	}
}
