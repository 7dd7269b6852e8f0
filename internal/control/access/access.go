// Package access keeps access keys. Their secrets are needed in plain text to verify SigV4 signatures,
// so they are stored sealed with a key in a file of this machine: the database alone, as in a backup,
// gives nobody access. internal/app opens it; internal/awsapi looks keys up through control.Access.
package access

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Alphabets and lengths that AWS's own keys have; clients and secret scanners know them.
const (
	idPrefix       = "AKIA"
	idAlphabet     = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	idLength       = 16
	secretAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	secretLength   = 40
)

// Keys is the key ring.
type Keys struct {
	store state.Store
	seal  cipher.AEAD
}

var _ control.Access = (*Keys)(nil)

// Open opens the key ring over store, with its sealing key under dir; the key is made the first time.
func Open(store state.Store, dir string) (*Keys, error) {
	const op = "access: open"
	key, err := sealingKey(filepath.Join(dir, "access.key"))
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	return &Keys{store: store, seal: aead}, nil
}

const sealingKeyBytes = 32 // AES-256

func sealingKey(path string) ([]byte, error) {
	const op = "access: sealing key"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	fresh := make([]byte, sealingKeyBytes)
	_, _ = rand.Read(fresh) // never fails, says its documentation
	if err := createOnce(path, fresh); err != nil {
		return nil, fault.Wrap(op, err)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	if len(key) != sealingKeyBytes {
		return nil, fault.New(fault.Corruption, op, "%s has %d bytes, not %d", path, len(key), sealingKeyBytes)
	}
	return key, nil
}

// createOnce writes path (mode 0600) unless it exists: written aside, synced, then linked, which never
// replaces anything.
func createOnce(path string, data []byte) error {
	const op = "access: write"
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	return nil
}

// Create makes a new key for a user of an account.
func (k *Keys) Create(ctx context.Context, account, user string, admin bool) (control.AccessKey, error) {
	key := control.AccessKey{
		ID:     idPrefix + random(idAlphabet, idLength),
		Secret: random(secretAlphabet, secretLength), Account: account, User: user, Admin: admin,
	}
	err := k.store.Update(ctx, func(tx state.Tx) error { return tx.PutAccessKey(ctx, k.sealed(key)) })
	if err != nil {
		return control.AccessKey{}, fault.Wrap("access: create", err)
	}
	return key, nil
}

// sealed is the record of a key. The id is authenticated with the secret, so that records cannot be
// given each other's secrets.
func (k *Keys) sealed(key control.AccessKey) state.AccessKey {
	return state.AccessKey{
		ID: key.ID, Account: key.Account, User: key.User, Admin: key.Admin, CreatedAt: time.Now().UTC(),
		Sealed: k.seal.Seal(nil, nil, []byte(key.Secret), []byte(key.ID)),
	}
}

func (k *Keys) open(r state.AccessKey) (control.AccessKey, error) {
	secret, err := k.seal.Open(nil, nil, r.Sealed, []byte(r.ID))
	if err != nil {
		return control.AccessKey{}, fault.New(fault.Corruption, "access: open secret", "access key %s: %w", r.ID, err).
			WithHint("the sealing key in the keys directory does not belong to this database")
	}
	return control.AccessKey{ID: r.ID, Secret: string(secret), Account: r.Account, User: r.User, Admin: r.Admin}, nil
}

// Lookup finds a key by its id; fault.Denied when there is none.
func (k *Keys) Lookup(ctx context.Context, id string) (control.AccessKey, error) {
	const op = "access: lookup"
	var r state.AccessKey
	err := k.store.View(ctx, func(tx state.Reader) (err error) {
		r, err = tx.AccessKey(ctx, id)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return control.AccessKey{}, fault.New(fault.Denied, op, "no access key %q", id)
	}
	if err != nil {
		return control.AccessKey{}, fault.Wrap(op, err)
	}
	return k.open(r)
}

// List shows an account's keys without their secrets.
func (k *Keys) List(ctx context.Context, account string) ([]control.AccessKey, error) {
	var out []control.AccessKey
	err := k.store.View(ctx, func(tx state.Reader) error {
		records, err := tx.AccessKeys(ctx, account)
		for _, r := range records {
			out = append(out, control.AccessKey{ID: r.ID, Account: r.Account, User: r.User, Admin: r.Admin})
		}
		return err
	})
	return out, fault.Wrap("access: list", err)
}

// Delete removes a key of an account; what does not exist is gone already.
func (k *Keys) Delete(ctx context.Context, account, id string) error {
	err := k.store.Update(ctx, func(tx state.Tx) error {
		r, err := tx.AccessKey(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && r.Account != account {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.DeleteAccessKey(ctx, id)
	})
	return fault.Wrap("access: delete", err)
}

func random(alphabet string, n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says its documentation
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)] // both alphabets divide 256: no bias
	}
	return string(b)
}
