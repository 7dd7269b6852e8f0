package access

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// maxKeys is how many keys a user has: two, so that one can be replaced while the other works.
const maxKeys = 2

// CreateKey makes a further key for a user. Its secret is shown this once.
func (k *Keys) CreateKey(ctx context.Context, account, user string) (key control.AccessKey, err error) {
	err = k.store.Update(ctx, func(tx state.Tx) error {
		key, err = k.createKey(ctx, tx, account, user)
		return err
	})
	return key, fault.Wrap("access: create key", err)
}

func (k *Keys) createKey(ctx context.Context, tx state.Tx, account, name string) (control.AccessKey, error) {
	user, err := findUser(ctx, tx, account, name)
	if err != nil {
		return control.AccessKey{}, err
	}
	have, err := userKeys(ctx, tx, account, name)
	if err != nil {
		return control.AccessKey{}, err
	}
	if len(have) >= maxKeys {
		return control.AccessKey{}, fault.New(fault.Conflict, "access", "user %s has %d access keys: %w", name, len(have), control.ErrQuota).
			WithHint("delete the one that is no longer used: 'understudy access keys list' shows when each was")
	}
	principal, err := userPrincipal(ctx, tx, user)
	if err != nil {
		return control.AccessKey{}, err
	}
	key := control.AccessKey{ID: keyPrefix + random(idAlphabet, idLength), Secret: random(secretAlphabet, secretLength),
		Account: account, User: name, Admin: administers(user.Policies), Principal: principal}
	return key, tx.PutAccessKey(ctx, state.AccessKey{ID: key.ID, Account: account, User: name, CreatedAt: k.now().UTC(),
		Sealed: k.sealSecret(key.ID, key.Secret)})
}

// Create makes a key, and its user where there is none: an administrator or an operator.
func (k *Keys) Create(ctx context.Context, account, user string, admin bool) (key control.AccessKey, err error) {
	policies := []string{Operator}
	if admin {
		policies = []string{Administrator}
	}
	err = k.store.Update(ctx, func(tx state.Tx) error {
		if err := k.ensureAccount(ctx, tx, account); err != nil {
			return err
		}
		if _, err := tx.User(ctx, account, user); fault.Is(err, fault.NotFound) {
			if _, err := k.createUser(ctx, tx, account, user, policies); err != nil {
				return err
			}
		}
		key, err = k.createKey(ctx, tx, account, user)
		return err
	})
	return key, fault.Wrap("access: create", err)
}

// List shows an account's keys, or one user's. Records have no plain secrets.
func (k *Keys) List(ctx context.Context, account, user string) (out []state.AccessKey, err error) {
	err = k.store.View(ctx, func(r state.Reader) error {
		out, err = userKeys(ctx, r, account, user)
		return err
	})
	return out, fault.Wrap("access: list keys", err)
}

// userKeys are one user's keys, or an account's where user is "".
func userKeys(ctx context.Context, r state.Reader, account, user string) ([]state.AccessKey, error) {
	all, err := r.AccessKeys(ctx, account)
	if user == "" {
		return all, err
	}
	return slices.DeleteFunc(all, func(v state.AccessKey) bool { return v.User != user }), err
}

// SetKeyActive makes a key usable or unusable. A key that is being replaced is made inactive first: if
// something still uses it, that shows, and is undone at once.
func (k *Keys) SetKeyActive(ctx context.Context, account, id string, active bool) error {
	return fault.Wrap("access: set key active", k.store.Update(ctx, func(tx state.Tx) error {
		r, err := findKey(ctx, tx, account, id)
		if err != nil {
			return err
		}
		r.Inactive = !active
		return tx.PutAccessKey(ctx, r)
	}))
}

// Delete removes a key of an account; what does not exist is gone already.
func (k *Keys) Delete(ctx context.Context, account, id string) error {
	return fault.Wrap("access: delete key", k.store.Update(ctx, func(tx state.Tx) error {
		_, err := findKey(ctx, tx, account, id)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.DeleteAccessKey(ctx, id)
	}))
}

func findKey(ctx context.Context, r state.Reader, account, id string) (state.AccessKey, error) {
	record, err := r.AccessKey(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && record.Account != account {
		return record, fault.New(fault.NotFound, "access", "account %s has no access key %s", account, id)
	}
	return record, err
}

// Find is the record of a key of an account.
func (k *Keys) Find(ctx context.Context, account, id string) (out state.AccessKey, err error) {
	err = k.store.View(ctx, func(r state.Reader) error {
		out, err = findKey(ctx, r, account, id)
		return err
	})
	if err != nil {
		return state.AccessKey{}, fault.Wrap("access: find key", err)
	}
	return out, nil
}
