// Package extended lets an account recover source servers whose data is staged in another account of the same
// installation. The staging account allows it by a role, as with the real service: DRSStagingAccountRole_ and the
// other account's id, trusting that account. internal/app puts the wrappers here around the domain packages that
// DRS's operations use; what they pass on is the staging server's.
package extended

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// RolePrefix begins the name of the role by which a staging account lets another account extend its servers.
const RolePrefix = "DRSStagingAccountRole_"

// Joiner gives a new server what else belongs to it.
type Joiner interface {
	Join(ctx context.Context, tx state.Tx, v state.Server) error
}

// Extensions are the extended source servers in a store.
type Extensions struct {
	store  state.Store
	joiner Joiner
}

// New returns the extended servers in store.
func New(store state.Store, j Joiner) *Extensions { return &Extensions{store, j} }

func staging(account string) state.Scope { return state.Scope{Account: account, Service: state.DRS} }

// trusted refuses with fault.Denied an account that the staging account does not trust.
func trusted(ctx context.Context, r state.Reader, stagingAccount, account string) error {
	const op = "extended servers"
	role, err := r.Role(ctx, stagingAccount, RolePrefix+account)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil && slices.ContainsFunc(role.Trust, func(t string) bool {
		return t == account || strings.HasPrefix(t, "arn:aws:iam::"+account+":") || strings.HasPrefix(t, "arn:aws:sts::"+account+":")
	}) {
		return nil
	}
	return fault.New(fault.Denied, op, "account %s does not let account %s extend its source servers", stagingAccount, account).
		WithHint("give it the role " + RolePrefix + account + ", which trusts account " + account)
}

// Extend adds a source server that is another account's.
func (e *Extensions) Extend(ctx context.Context, s state.Scope, stagingAccount, stagingServer string, tags map[string]string) (v state.Server, err error) {
	const op = "extended servers: extend"
	if stagingAccount == s.Account {
		return v, control.Misfit(op, "sourceServerArn", "%s is a source server of this account already", stagingServer)
	}
	err = e.store.Update(ctx, func(tx state.Tx) error {
		if err := trusted(ctx, tx, stagingAccount, s.Account); err != nil {
			return err
		}
		from, err := tx.Server(ctx, staging(stagingAccount), stagingServer)
		if fault.Is(err, fault.NotFound) {
			return control.Missing(op, control.SourceServer, stagingServer)
		}
		if err != nil {
			return err
		}
		if err := extensible(ctx, tx, s, stagingAccount, from.ID); err != nil {
			return err
		}
		v = from
		v.ID, v.Scope, v.CreatedAt, v.LifeCycle = control.NewID("s-"), s, time.Now().UTC(), state.LifeCycle{}
		v.Identity, v.UserProvidedID = fmt.Sprintf("extends %s of %s", stagingServer, stagingAccount), ""
		v.Config.Name = "Data Replication Configuration for Source Server " + v.ID
		if v.Tags, err = control.AddTags(nil, tags); err != nil {
			return err
		}
		if err := tx.PutServer(ctx, v); err != nil {
			return err
		}
		if err := tx.PutExtension(ctx, state.Extension{ServerID: v.ID, Scope: s, StagingAccount: stagingAccount, StagingServer: stagingServer}); err != nil {
			return err
		}
		return e.joiner.Join(ctx, tx, v)
	})
	return v, fault.Wrap(op, err)
}

// extensible refuses a server that the scope extends already, and one that is an extension itself.
func extensible(ctx context.Context, r state.Reader, s state.Scope, stagingAccount, id string) error {
	const op = "extended servers"
	have, err := r.ExtensionsOf(ctx, s, stagingAccount, []string{id})
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return control.Misfit(op, "sourceServerArn", "%s is extended already, as %s", id, have[0].ServerID)
	}
	_, err = r.Extension(ctx, id)
	if err == nil {
		return control.Misfit(op, "sourceServerArn", "%s is itself an extension", id)
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Extensible lists the servers of a staging account that the scope could extend.
func (e *Extensions) Extensible(ctx context.Context, s state.Scope, stagingAccount string, p state.Page) (items []state.Server, next string, err error) {
	err = e.store.View(ctx, func(r state.Reader) error {
		if err := trusted(ctx, r, stagingAccount, s.Account); err != nil {
			return err
		}
		items, next, err = r.Servers(ctx, staging(stagingAccount), state.ServerFilter{ExtensibleBy: &s}, p)
		return err
	})
	return items, next, fault.Wrap("extended servers: extensible", err)
}

func identifiers(list []state.Server) []string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

// StagingAccounts lists the accounts that the scope's extended servers are staged in.
func (e *Extensions) StagingAccounts(ctx context.Context, s state.Scope, p state.Page) (items []string, next string, err error) {
	err = e.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.StagingAccounts(ctx, s, p)
		return err
	})
	return items, next, fault.Wrap("extended servers: staging accounts", err)
}

// Link is an extended server's tie to the server that it extends.
type Link struct {
	state.Extension
	// Broken says why the staging server cannot be reached any more; empty while it can.
	Broken string
	server state.Server // the staging server, while it can be reached
}

// Links are those of the given servers, by id. Servers that extend nothing have none.
func (e *Extensions) Links(ctx context.Context, servers []state.Server) (out map[string]Link, err error) {
	err = e.store.View(ctx, func(r state.Reader) error {
		out, err = links(ctx, r, identifiers(servers))
		return err
	})
	return out, fault.Wrap("extended servers: links", err)
}

func links(ctx context.Context, r state.Reader, ids []string) (map[string]Link, error) {
	found, err := r.Extensions(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Link, len(found))
	for _, x := range found {
		l, err := follow(ctx, r, x)
		if err != nil {
			return nil, err
		}
		out[x.ServerID] = l
	}
	return out, nil
}

func follow(ctx context.Context, r state.Reader, x state.Extension) (Link, error) {
	l := Link{Extension: x}
	err := trusted(ctx, r, x.StagingAccount, x.Scope.Account)
	if fault.Is(err, fault.Denied) {
		l.Broken = fmt.Sprintf("account %s does not let account %s extend its source servers any more", x.StagingAccount, x.Scope.Account)
		return l, nil
	}
	if err != nil {
		return l, err
	}
	l.server, err = r.Server(ctx, staging(x.StagingAccount), x.StagingServer)
	if fault.Is(err, fault.NotFound) {
		l.Broken = fmt.Sprintf("source server %s was deleted in account %s", x.StagingServer, x.StagingAccount)
		return l, nil
	}
	return l, err
}

// Source is where a server's data is: its own scope and id, or those of the server that it extends. A tie that is
// broken is fault.Conflict.
func (e *Extensions) Source(ctx context.Context, r state.Reader, v state.Server) (state.Scope, string, error) {
	x, err := r.Extension(ctx, v.ID)
	if fault.Is(err, fault.NotFound) {
		return v.Scope, v.ID, nil
	}
	if err != nil {
		return state.Scope{}, "", err
	}
	l, err := follow(ctx, r, x)
	if err == nil && l.Broken != "" {
		err = fault.New(fault.Conflict, "extended servers", "cannot reach its staging server: %s", l.Broken)
	}
	return staging(x.StagingAccount), x.StagingServer, err
}
