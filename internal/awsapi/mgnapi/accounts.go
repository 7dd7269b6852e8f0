package mgnapi

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// scope is whose records a request is about: the caller's account in this service.
func scope(ctx context.Context) state.Scope {
	caller, _ := sigv4.CallerFrom(ctx)
	return state.Scope{Account: caller.AccountID, Service: state.MGN}
}

// scopeOf is scope for the operations that may name another account. Only the account that manages the installation's
// others may, where there is one, and only accounts that the service was initialised for.
func (a *API) scopeOf(ctx context.Context, accountID *string) (state.Scope, error) {
	s := scope(ctx)
	if accountID == nil || *accountID == s.Account {
		return s, nil
	}
	if !a.manages(s) {
		return s, fault.New(fault.Denied, "mgn: choose account", "account %s is not managed by account %s", *accountID, s.Account)
	}
	s.Account = *accountID
	return s, a.d.Accounts.Check(ctx, s)
}

func (a *API) manages(s state.Scope) bool {
	return a.d.ManagementAccount != "" && s.Account == a.d.ManagementAccount
}

// ListManagedAccounts lists the accounts that the caller's may name.
func (a *API) ListManagedAccounts(ctx context.Context, in *mgn.ListManagedAccountsInput) (out *mgn.ListManagedAccountsOutput, err error) {
	sc := scope(ctx)
	out = &mgn.ListManagedAccountsOutput{Items: []mgn.ManagedAccount{}}
	out.Items, out.NextToken, err = paged([]any{"ListManagedAccounts", sc}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]string, string, error) {
			if !a.manages(sc) {
				return nil, "", nil
			}
			items, next, err := a.d.Inventory.Accounts(ctx, p)
			return slices.DeleteFunc(items, func(id string) bool { return id == sc.Account }), next, err
		}, func(id *string) mgn.ManagedAccount { return mgn.ManagedAccount{AccountId: new(*id)} })
	return out, err
}
