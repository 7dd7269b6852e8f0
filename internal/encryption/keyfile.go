package encryption

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// KeyFileProvider is Wrapped.Provider of what a KeyFile wrapped.
const KeyFileProvider = "keyfile"

// KeyFile is the provider for one's own machine: wrapping keys in a file that only its owner may read. Whoever has the
// file and the data has everything, so back it up, apart from the data.
//
// Nothing of the file is kept in memory: a key that another process adds is seen at once. Processes that change the
// file take turns by a lock file beside it.
type KeyFile struct {
	fs     vfs.FS
	path   string
	access func(path string) error // refuses a file that others may read

	mu sync.Mutex // held while the file changes
}

// KeyInfo describes a wrapping key.
type KeyInfo struct {
	ID      string
	Created time.Time
	Current bool
}

// OpenKeyFile opens the key file at path, or makes one, with one key, when there is none.
func OpenKeyFile(path string) (*KeyFile, error) {
	return openKeyFile(vfs.OS, path, ownerOnly)
}

func openKeyFile(fsys vfs.FS, path string, access func(string) error) (*KeyFile, error) {
	k := &KeyFile{fs: fsys, path: path, access: access}
	ring, err := k.load()
	if fault.Is(err, fault.NotFound) {
		err = k.make()
	} else if err == nil {
		ring.clear()
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// ownerOnly refuses a file that somebody beside its owner may read or change.
func ownerOnly(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return vfs.Fault("encryption: key file", err)
	}
	if !st.Mode().IsRegular() {
		return fault.New(fault.Invalid, "encryption: key file", "%s is not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fault.New(fault.Denied, "encryption: key file", "%s has mode %04o: others may use it", path, perm).
			WithHint("chmod 600 " + path + "; if somebody may have read it, rotate the key")
	}
	return nil
}

func (k *KeyFile) load() (*keyring, error) {
	if err := k.access(k.path); err != nil {
		return nil, err
	}
	b, err := vfs.ReadFile(k.fs, k.path, maxKeyring)
	if err != nil {
		return nil, vfs.Fault("encryption: read key file", err)
	}
	defer clear(b)
	return decodeKeyring(b)
}

// make writes a file with a new key unless somebody else was faster.
func (k *KeyFile) make() error {
	if err := k.fs.MkdirAll(filepath.Dir(k.path)); err != nil {
		return vfs.Fault("encryption: make key file", err)
	}
	return k.locked(func() error {
		ring, err := k.load()
		if err == nil {
			ring.clear()
			return nil
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		ring = &keyring{Format: keyringFormat}
		defer ring.clear()
		ring.add(time.Now())
		return k.store(ring)
	})
}

// locked runs change while no other process changes the file.
func (k *KeyFile) locked(change func() error) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	lock, err := k.fs.Lock(k.path + ".lock")
	if err != nil {
		return vfs.Fault("encryption: lock key file", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return change()
}

func (k *KeyFile) store(ring *keyring) error {
	b, err := ring.encode()
	if err != nil {
		return err
	}
	defer clear(b)
	return vfs.Fault("encryption: write key file", vfs.WriteAtomic(k.fs, k.path, b))
}

// change lets edit change the keys, durably or not at all.
func (k *KeyFile) change(edit func(*keyring) error) error {
	return k.locked(func() error {
		ring, err := k.load()
		if err != nil {
			return err
		}
		defer ring.clear()
		if err := edit(ring); err != nil {
			return err
		}
		return k.store(ring)
	})
}

// Rotate adds a key and makes it the current one. What is wrapped with older keys stays readable; see Rewrap.
func (k *KeyFile) Rotate(ctx context.Context) (keyID string, err error) {
	if err := ctxFault("rotate", ctx); err != nil {
		return "", err
	}
	err = k.change(func(ring *keyring) error {
		keyID = ring.add(time.Now())
		return nil
	})
	if err != nil {
		return "", err
	}
	return keyID, nil
}

// Retire removes a key for ever. What is wrapped with it is lost: wrap it anew first. The current key stays.
func (k *KeyFile) Retire(ctx context.Context, keyID string) error {
	if err := ctxFault("retire", ctx); err != nil {
		return err
	}
	return k.change(func(ring *keyring) error {
		if ring.find(keyID) == nil {
			return fault.New(fault.NotFound, "encryption: retire", "no key %q in %s", keyID, k.path)
		}
		if keyID == ring.Current {
			return fault.New(fault.Conflict, "encryption: retire", "key %q is the current one", keyID).
				WithHint("rotate first")
		}
		ring.Keys = slices.DeleteFunc(ring.Keys, func(w wrappingKey) bool { return w.ID == keyID })
		return nil
	})
}

// Keys lists the wrapping keys, oldest first.
func (k *KeyFile) Keys() ([]KeyInfo, error) {
	ring, err := k.load()
	if err != nil {
		return nil, err
	}
	defer ring.clear()
	infos := make([]KeyInfo, len(ring.Keys))
	for i, key := range ring.Keys {
		infos[i] = KeyInfo{ID: key.ID, Created: key.Created, Current: key.ID == ring.Current}
	}
	return infos, nil
}

// Current implements Provider.
func (k *KeyFile) Current(ctx context.Context) (string, error) {
	if err := ctxFault("current key", ctx); err != nil {
		return "", err
	}
	ring, err := k.load()
	if err != nil {
		return "", err
	}
	defer ring.clear()
	return ring.Current, nil
}

// Wrap implements Provider.
func (k *KeyFile) Wrap(ctx context.Context, key, context []byte) (Wrapped, error) {
	if err := ctxFault("wrap", ctx); err != nil {
		return Wrapped{}, err
	}
	ring, err := k.load()
	if err != nil {
		return Wrapped{}, err
	}
	defer ring.clear()
	aead, err := newAEAD(ring.find(ring.Current).Key)
	if err != nil {
		return Wrapped{}, err
	}
	blob := aead.Seal(nil, nil, key, wrapAAD(ring.Current, context))
	return Wrapped{Provider: KeyFileProvider, KeyID: ring.Current, Blob: blob}, nil
}

// Unwrap implements Provider.
func (k *KeyFile) Unwrap(ctx context.Context, w Wrapped, context []byte) ([]byte, error) {
	const op = "encryption: unwrap"
	if err := ctxFault("unwrap", ctx); err != nil {
		return nil, err
	}
	if w.Provider != KeyFileProvider {
		return nil, fault.New(fault.Unsupported, op, "wrapped by provider %q", w.Provider).
			WithHint("configure the key provider that the data was written with")
	}
	ring, err := k.load()
	if err != nil {
		return nil, err
	}
	defer ring.clear()
	with := ring.find(w.KeyID)
	if with == nil {
		return nil, fault.New(fault.NotFound, op, "no key %q in %s", w.KeyID, k.path).WithHint(hintRestore)
	}
	aead, err := newAEAD(with.Key)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, w.Blob, wrapAAD(w.KeyID, context))
	if err != nil {
		return nil, fault.New(fault.Corruption, op, "the wrapped key was damaged, or belongs to something else")
	}
	return key, nil
}

// wrapAAD binds a wrapped key to what wrapped it and what it is for. Lengths keep the parts apart.
func wrapAAD(keyID string, context []byte) []byte {
	aad := []byte("understudy/wrap/v1/")
	for _, part := range [][]byte{[]byte(keyID), context} {
		aad = binary.LittleEndian.AppendUint32(aad, uint32(len(part)))
		aad = append(aad, part...)
	}
	return aad
}

func ctxFault(op string, ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Transient, "encryption: "+op, "%w", err)
	}
	return nil
}
