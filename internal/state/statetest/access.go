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

func testAccess(t *testing.T, s state.Store) {
	account := state.Account{ID: drs.Account, Name: "home", Quotas: map[string]int64{"L-1": 5}, CreatedAt: epoch}
	user := state.User{Account: drs.Account, Name: "ann", ID: "AIDA1", Policies: []string{"operator", "own"}, CreatedAt: epoch}
	role := state.Role{Account: drs.Account, Name: "drill", ID: "AROA1", Policies: []string{"own"}, Trust: []string{drs.Account},
		MaxSession: time.Hour, CreatedAt: epoch}
	policy := state.Policy{Account: drs.Account, Name: "own", Document: `{"Statement":[]}`, CreatedAt: epoch, UpdatedAt: epoch}
	elsewhere := user
	elsewhere.Account, elsewhere.ID = other.Account, "AIDA2"
	for range 2 { // writing again replaces
		update(t, s, func(ctx context.Context, tx state.Tx) error {
			return errors.Join(tx.PutAccount(ctx, account), tx.PutUser(ctx, user), tx.PutUser(ctx, elsewhere), tx.PutRole(ctx, role), tx.PutPolicy(ctx, policy))
		})
	}
	view(t, s, func(ctx context.Context, r state.Reader) {
		a, err := r.Account(ctx, account.ID)
		require.NoError(t, err)
		require.Equal(t, account, a)
		u, err := r.User(ctx, user.Account, user.Name)
		require.NoError(t, err)
		require.Equal(t, user, u)
		v, err := r.Role(ctx, role.Account, role.Name)
		require.NoError(t, err)
		require.Equal(t, role, v)
		p, err := r.Policy(ctx, policy.Account, policy.Name)
		require.NoError(t, err)
		require.Equal(t, policy, p)
		_, err = r.User(ctx, user.Account, "Ann")
		requireKind(t, fault.NotFound, err)
		_, err = r.Role(ctx, other.Account, role.Name)
		requireKind(t, fault.NotFound, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeleteUser(ctx, user.Account, user.Name), tx.DeleteRole(ctx, role.Account, role.Name),
			tx.DeletePolicy(ctx, policy.Account, policy.Name), tx.DeletePolicy(ctx, policy.Account, "never was"))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.User(ctx, user.Account, user.Name)
		requireKind(t, fault.NotFound, err)
		_, err = r.Role(ctx, role.Account, role.Name)
		requireKind(t, fault.NotFound, err)
		_, err = r.Policy(ctx, policy.Account, policy.Name)
		requireKind(t, fault.NotFound, err)
		u, err := r.User(ctx, other.Account, user.Name)
		require.NoError(t, err, "another account's user of the same name stays")
		require.Equal(t, elsewhere, u)
	})
}

func testAccessPages(t *testing.T, s state.Store) {
	const n = 5
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		var err error
		for i := range n {
			id := fmt.Sprint(i)
			err = errors.Join(err, tx.PutAccount(ctx, state.Account{ID: id}), tx.PutUser(ctx, state.User{Account: "1", Name: id}),
				tx.PutRole(ctx, state.Role{Account: "1", Name: id}), tx.PutPolicy(ctx, state.Policy{Account: "1", Name: id}),
				tx.PutSession(ctx, state.Session{Account: "1", KeyID: id, ExpiresAt: epoch}))
		}
		return errors.Join(err, tx.PutUser(ctx, state.User{Account: "2", Name: "9"}))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		for name, list := range map[string]func(state.Page) ([]string, string, error){
			"accounts": func(p state.Page) ([]string, string, error) {
				return names(func() ([]state.Account, string, error) { return r.Accounts(ctx, p) }, func(v state.Account) string { return v.ID })
			},
			"users": func(p state.Page) ([]string, string, error) {
				return names(func() ([]state.User, string, error) { return r.Users(ctx, "1", p) }, func(v state.User) string { return v.Name })
			},
			"roles": func(p state.Page) ([]string, string, error) {
				return names(func() ([]state.Role, string, error) { return r.Roles(ctx, "1", p) }, func(v state.Role) string { return v.Name })
			},
			"policies": func(p state.Page) ([]string, string, error) {
				return names(func() ([]state.Policy, string, error) { return r.Policies(ctx, "1", p) }, func(v state.Policy) string { return v.Name })
			},
			"sessions": func(p state.Page) ([]string, string, error) {
				return names(func() ([]state.Session, string, error) { return r.Sessions(ctx, "1", p) }, func(v state.Session) string { return v.KeyID })
			},
		} {
			var got []string
			page := state.Page{Limit: 2}
			for {
				items, next, err := list(page)
				require.NoError(t, err, name)
				require.LessOrEqual(t, len(items), 2, name)
				got = append(got, items...)
				if next == "" {
					break
				}
				page.After = next
			}
			require.Equal(t, []string{"0", "1", "2", "3", "4"}, got, name)
		}
	})
}

func names[T any](read func() ([]T, string, error), name func(T) string) ([]string, string, error) {
	items, next, err := read()
	var out []string
	for _, v := range items {
		out = append(out, name(v))
	}
	return out, next, err
}

func testSessions(t *testing.T, s state.Store) {
	a := state.Session{KeyID: "ASIA1", Account: drs.Account, Role: "drill", RoleID: "AROA1", Name: "nightly", IssuedTo: "arn:aws:iam::1:user/ann",
		Sealed: []byte{0, 255, 1}, Policy: "{}", CreatedAt: epoch, ExpiresAt: epoch.Add(time.Hour)}
	b := state.Session{KeyID: "ASIA2", Account: drs.Account, User: "ann", Sealed: []byte{7}, CreatedAt: epoch, ExpiresAt: epoch.Add(2 * time.Hour)}
	c := b
	c.KeyID = "ASIA3"
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutSession(ctx, a), tx.PutSession(ctx, b), tx.PutSession(ctx, c))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Session(ctx, a.KeyID)
		require.NoError(t, err)
		require.Equal(t, a, got)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeleteSessionsBefore(ctx, b.ExpiresAt), tx.DeleteSession(ctx, c.KeyID))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		all, _, err := r.Sessions(ctx, drs.Account, state.Page{})
		require.NoError(t, err)
		require.Equal(t, []state.Session{b}, all, "the session that ends at that instant stays")
	})
}

func testCountServers(t *testing.T, s state.Store) {
	initialise(t, s)
	states := []state.ReplicationState{state.Continuous, state.Stalled, state.Paused, state.Stopped, state.Disconnected}
	for i, st := range states {
		v := server(drs, i)
		v.Archived = st == state.Disconnected
		put(t, s, v)
		update(t, s, func(ctx context.Context, tx state.Tx) error {
			return tx.PutReplication(ctx, state.Replication{ServerID: v.ID, State: st})
		})
	}
	gone := server(drs, 10)
	gone.Deleting = true
	put(t, s, gone, server(other, 11))
	view(t, s, func(ctx context.Context, r state.Reader) {
		c, err := r.CountServers(ctx, drs)
		require.NoError(t, err)
		require.Equal(t, state.ServerCounts{Total: 5, Archived: 1, Replicating: 3}, c)
		c, err = r.CountServers(ctx, mgn)
		require.NoError(t, err)
		require.Zero(t, c)
	})
	for _, change := range []struct {
		what string
		do   func(context.Context, state.Tx, state.Server) error
		want state.ServerCounts
	}{
		{"written again", func(ctx context.Context, tx state.Tx, v state.Server) error { return tx.PutServer(ctx, v) }, state.ServerCounts{Total: 5, Archived: 1, Replicating: 3}},
		{"archived", func(ctx context.Context, tx state.Tx, v state.Server) error {
			v.Archived = true
			return tx.PutServer(ctx, v)
		}, state.ServerCounts{Total: 5, Archived: 2, Replicating: 3}},
		{"stopped", func(ctx context.Context, tx state.Tx, v state.Server) error {
			return tx.PutReplication(ctx, state.Replication{ServerID: v.ID, State: state.Stopped})
		}, state.ServerCounts{Total: 5, Archived: 2, Replicating: 2}},
		{"started", func(ctx context.Context, tx state.Tx, v state.Server) error {
			return tx.PutReplication(ctx, state.Replication{ServerID: v.ID, State: state.Initiating})
		}, state.ServerCounts{Total: 5, Archived: 2, Replicating: 3}},
		{"being deleted", func(ctx context.Context, tx state.Tx, v state.Server) error {
			v.Deleting = true
			return tx.PutServer(ctx, v)
		}, state.ServerCounts{Total: 4, Archived: 1, Replicating: 2}},
		{"deleted", func(ctx context.Context, tx state.Tx, v state.Server) error { return tx.DeleteServer(ctx, v.ID) }, state.ServerCounts{Total: 4, Archived: 1, Replicating: 2}},
		{"another deleted at once", func(ctx context.Context, tx state.Tx, _ state.Server) error {
			return tx.DeleteServer(ctx, server(drs, 1).ID)
		},
			state.ServerCounts{Total: 3, Archived: 1, Replicating: 1}},
	} {
		update(t, s, func(ctx context.Context, tx state.Tx) error { return change.do(ctx, tx, server(drs, 0)) })
		view(t, s, func(ctx context.Context, r state.Reader) {
			c, err := r.CountServers(ctx, drs)
			require.NoError(t, err)
			require.Equal(t, change.want, c, change.what)
		})
	}
}
