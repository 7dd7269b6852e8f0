package access

import (
	"context"
	"fmt"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Profile is the profile name in the credentials file.
const Profile = "understudy"

// EnsureAdministrator sees that somebody can administer the account, and writes that key to path as an AWS
// credentials file. It may be repeated: a key that exists is kept, a file that exists is never touched,
// and a file that a crash kept from being written is written.
func (k *Keys) EnsureAdministrator(ctx context.Context, account, path string) error {
	const op = "access: administrator"
	key, err := k.administrator(ctx, account)
	if err != nil {
		return fault.Wrap(op, err)
	}
	file := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", Profile, key.ID, key.Secret)
	return fault.Wrap(op, createOnce(path, []byte(file)))
}

func (k *Keys) administrator(ctx context.Context, account string) (key control.AccessKey, err error) {
	err = k.store.Update(ctx, func(tx state.Tx) error {
		if err := k.ensureAccount(ctx, tx, account); err != nil {
			return err
		}
		keys, err := tx.AccessKeys(ctx, account)
		if err != nil {
			return err
		}
		for _, r := range keys {
			if ok, err := k.isAdministrators(ctx, tx, r); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
			key.ID = r.ID
			key.Secret, err = k.openSecret(r.ID, r.Sealed)
			return err
		}
		key, err = k.newAdministrator(ctx, tx, account)
		return err
	})
	return key, err
}

// isAdministrators reports whether a key is an administrator's. The user of a key that was made before
// there were users is made.
func (k *Keys) isAdministrators(ctx context.Context, tx state.Tx, r state.AccessKey) (bool, error) {
	u, err := tx.User(ctx, r.Account, r.User)
	if fault.Is(err, fault.NotFound) && r.Admin {
		u, err = k.createUser(ctx, tx, r.Account, r.User, []string{Administrator})
	}
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return !r.Inactive && administers(u.Policies), err
}

// newAdministrator makes a user named administrator, and a key. It is also the way back for those who have
// locked themselves out.
func (k *Keys) newAdministrator(ctx context.Context, tx state.Tx, account string) (control.AccessKey, error) {
	u, err := tx.User(ctx, account, Administrator)
	switch {
	case fault.Is(err, fault.NotFound):
		if _, err = k.createUser(ctx, tx, account, Administrator, []string{Administrator}); err != nil {
			return control.AccessKey{}, err
		}
	case err != nil:
		return control.AccessKey{}, err
	case !administers(u.Policies):
		u.Policies = []string{Administrator}
		if err := tx.PutUser(ctx, u); err != nil {
			return control.AccessKey{}, err
		}
	}
	if err := k.makeRoom(ctx, tx, account); err != nil {
		return control.AccessKey{}, err
	}
	return k.createKey(ctx, tx, account, Administrator)
}

// makeRoom deletes inactive keys of the administrator, who has no other.
func (k *Keys) makeRoom(ctx context.Context, tx state.Tx, account string) error {
	keys, err := userKeys(ctx, tx, account, Administrator)
	if err != nil {
		return err
	}
	for _, v := range keys {
		if v.Inactive && len(keys) >= maxKeys {
			if err := tx.DeleteAccessKey(ctx, v.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
