package encryption

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

// KeySize is the size of a data key, and of the keys made from it: AES-256.
const KeySize = 32

// SaltSize is the size of the random salt at the head of every encrypted file.
const SaltSize = 32

// purposePrefix separates the keys of files from whatever else may be derived from a data key, and this scheme from
// its successors.
const purposePrefix = "understudy/file/v1/"

// DataKey is the key from which all files of one journal have theirs. It lives in memory only.
type DataKey struct {
	mu  sync.RWMutex
	key []byte // nil once destroyed
}

// NewDataKey makes a key.
func NewDataKey() *DataKey {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // it does not return without having filled key
	return &DataKey{key: key}
}

// ParseDataKey is the inverse of Bytes. It copies b.
func ParseDataKey(b []byte) (*DataKey, error) {
	if len(b) != KeySize {
		return nil, fault.New(fault.Corruption, "encryption: data key", "%d bytes, not %d", len(b), KeySize)
	}
	return &DataKey{key: bytes.Clone(b)}, nil
}

// Bytes returns a copy, to be wrapped; nil once destroyed.
func (k *DataKey) Bytes() []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return bytes.Clone(k.key)
}

// Destroy overwrites the key in memory. Ciphers that were made from it go on working.
func (k *DataKey) Destroy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.key)
	k.key = nil
}

// File returns the cipher of the file whose random salt and purpose these are. Files that differ in either have keys
// that say nothing of each other.
func (k *DataKey) File(salt [SaltSize]byte, purpose string) (*FileCipher, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.key == nil {
		return nil, fault.New(fault.Conflict, "encryption: file key", "the data key is destroyed")
	}
	key, err := hkdf.Key(sha256.New, k.key, salt[:], purposePrefix+purpose, KeySize)
	if err != nil {
		return nil, fault.New(fault.Bug, "encryption: file key", "%w", err)
	}
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &FileCipher{aead: aead}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.New(fault.Bug, "encryption: cipher", "%w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.New(fault.Bug, "encryption: cipher", "%w", err)
	}
	return aead, nil
}

// FileCipher encrypts and authenticates the records of one file: AES-256-GCM with a random nonce before and a tag
// after the ciphertext. It is safe for concurrent use. A file must not have more than 2^32 records.
type FileCipher struct{ aead cipher.AEAD }

// Overhead is by how much a sealed record is longer than its plaintext.
func (c *FileCipher) Overhead() int { return c.aead.Overhead() }

// Seal appends the sealed plaintext to dst. The aad, which Open must be given again, is what the record is and where
// it belongs. dst's free room may be the plaintext itself or must not overlap it.
func (c *FileCipher) Seal(dst, plaintext, aad []byte) []byte {
	return c.aead.Seal(dst, nil, plaintext, aad)
}

// Open appends the plaintext to dst. What was not sealed by this cipher with this aad is a fault.Corruption. dst may
// be sealed[:0].
func (c *FileCipher) Open(dst, sealed, aad []byte) ([]byte, error) {
	plain, err := c.aead.Open(dst, nil, sealed, aad)
	if err != nil {
		return nil, fault.New(fault.Corruption, "encryption: open", "%d bytes do not authenticate", len(sealed))
	}
	return plain, nil
}
