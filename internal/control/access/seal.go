package access

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/fault"
)

const sealingKeyBytes = 32 // AES-256

// newSeal makes the cipher of the sealing key in path, which is made the first time.
func newSeal(path string) (cipher.AEAD, error) {
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
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	return aead, nil
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

// sealSecret seals a secret for the record of one key. The id is authenticated with it, so that records
// cannot be given each other's secrets.
func (k *Keys) sealSecret(id, secret string) []byte {
	return k.seal.Seal(nil, nil, []byte(secret), []byte(id))
}

func (k *Keys) openSecret(id string, sealed []byte) (string, error) {
	secret, err := k.seal.Open(nil, nil, sealed, []byte(id))
	if err != nil {
		return "", fault.New(fault.Corruption, "access: open secret", "access key %s: %w", id, err).
			WithHint("the sealing key in the keys directory does not belong to this database")
	}
	return string(secret), nil
}

// Seal seals another secret of the installation with the same key. What it is for is authenticated with it.
func (k *Keys) Seal(what string, secret []byte) []byte {
	return k.seal.Seal(nil, nil, secret, []byte(what))
}

// Unseal opens what Seal sealed for the same purpose.
func (k *Keys) Unseal(what string, sealed []byte) ([]byte, error) {
	secret, err := k.seal.Open(nil, nil, sealed, []byte(what))
	if err != nil {
		return nil, fault.New(fault.Corruption, "access: unseal", "%s: %w", what, err).
			WithHint("it was sealed by another installation, or is damaged")
	}
	return secret, nil
}

func random(alphabet string, n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says its documentation
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)] // both alphabets divide 256: no bias
	}
	return string(b)
}
