package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Profile is the profile name in the credentials file.
const Profile = "understudy"

const administrator = "administrator"

// EnsureAdministrator makes the account's first administrator key, and writes it to path as an AWS
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

func (k *Keys) administrator(ctx context.Context, account string) (control.AccessKey, error) {
	var found []state.AccessKey
	err := k.store.View(ctx, func(tx state.Reader) (err error) {
		found, err = tx.AccessKeys(ctx, account)
		return err
	})
	if err != nil {
		return control.AccessKey{}, err
	}
	if i := slices.IndexFunc(found, func(r state.AccessKey) bool { return r.Admin }); i >= 0 {
		return k.open(found[i])
	}
	return k.Create(ctx, account, administrator, true)
}
