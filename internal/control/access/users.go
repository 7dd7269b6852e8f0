package access

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// ensureAccount makes the record of an account that has none yet.
func (k *Keys) ensureAccount(ctx context.Context, tx state.Tx, id string) error {
	_, err := tx.Account(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return tx.PutAccount(ctx, state.Account{ID: id, CreatedAt: k.now().UTC()})
	}
	return err
}

// CreateUser adds a user without keys.
func (k *Keys) CreateUser(ctx context.Context, account, name string, policies []string) (u state.User, err error) {
	err = k.store.Update(ctx, func(tx state.Tx) error {
		u, err = k.createUser(ctx, tx, account, name, policies)
		return err
	})
	return u, fault.Wrap("access: create user", err)
}

func (k *Keys) createUser(ctx context.Context, tx state.Tx, account, name string, policies []string) (state.User, error) {
	if err := checkName("user", name); err != nil {
		return state.User{}, err
	}
	if _, err := tx.Account(ctx, account); err != nil {
		return state.User{}, missing(err, "there is no account %s", account)
	}
	if _, err := tx.User(ctx, account, name); !fault.Is(err, fault.NotFound) {
		if err == nil {
			err = fault.New(fault.Conflict, "access", "account %s has a user %s already", account, name)
		}
		return state.User{}, err
	}
	if err := checkPolicies(ctx, tx, account, policies); err != nil {
		return state.User{}, err
	}
	u := state.User{Account: account, Name: name, ID: userPrefix + random(idAlphabet, idLength), Policies: policies, CreatedAt: k.now().UTC()}
	return u, tx.PutUser(ctx, u)
}

// missing explains a record that is not there, and hands on any other error.
func missing(err error, format string, args ...any) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "access", format, args...)
	}
	return err
}

func findUser(ctx context.Context, r state.Reader, account, name string) (state.User, error) {
	u, err := r.User(ctx, account, name)
	return u, missing(err, "account %s has no user %s", account, name)
}

// Users lists an account's users by name.
func (k *Keys) Users(ctx context.Context, account string, p state.Page) (items []state.User, next string, err error) {
	err = k.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Users(ctx, account, p)
		return err
	})
	return items, next, fault.Wrap("access: users", err)
}

// SetUserPolicies replaces what a user may do, from the next request on.
func (k *Keys) SetUserPolicies(ctx context.Context, account, name string, policies []string) (u state.User, err error) {
	err = k.store.Update(ctx, func(tx state.Tx) error {
		if u, err = findUser(ctx, tx, account, name); err != nil {
			return err
		}
		if err := checkPolicies(ctx, tx, account, policies); err != nil {
			return err
		}
		u.Policies = policies
		return tx.PutUser(ctx, u)
	})
	return u, fault.Wrap("access: set user's policies", err)
}

// DeleteUser removes a user with all keys. Sessions of the user end with it.
func (k *Keys) DeleteUser(ctx context.Context, account, name string) error {
	return fault.Wrap("access: delete user", k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := findUser(ctx, tx, account, name); err != nil {
			return err
		}
		keys, err := userKeys(ctx, tx, account, name)
		if err != nil {
			return err
		}
		for _, v := range keys {
			if err := tx.DeleteAccessKey(ctx, v.ID); err != nil {
				return err
			}
		}
		if err := eachSession(ctx, tx, account, func(s state.Session) error {
			if s.User != name {
				return nil
			}
			return tx.DeleteSession(ctx, s.KeyID)
		}); err != nil {
			return err
		}
		return tx.DeleteUser(ctx, account, name)
	}))
}
