package encryption

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// keyringFormat is the version of the key file. Newest first, never renumbered:
//
//	1  keys with ids that are made from them, one of them current
const keyringFormat = 1

// maxKeyring bounds what is read: several thousand keys.
const maxKeyring = 1 << 20

// keyring is the content of a key file: JSON, so that an operator can look at it, copy a key out of it and put one
// back.
//
//	{"format": 1, "current": ID, "keys": [{"id": ID, "created": TIME, "key": BASE64}, ...]}
//
// An id is made from its key, so that a key that was damaged or mixed up is noticed before it is used.
type keyring struct {
	Format  int           `json:"format"`
	Current string        `json:"current"`
	Keys    []wrappingKey `json:"keys"`
}

type wrappingKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Key     []byte    `json:"key"`
}

// keyID is the first 8 bytes of a hash of the key that nothing else uses.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("understudy/wrapping-key-id/v1/"), key...))
	return hex.EncodeToString(sum[:8])
}

// add makes a key and lets it be the current one.
func (r *keyring) add(now time.Time) string {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // it does not return without having filled key
	id := keyID(key)
	r.Keys = append(r.Keys, wrappingKey{ID: id, Created: now.UTC().Truncate(time.Second), Key: key})
	r.Current = id
	return id
}

func (r *keyring) find(id string) *wrappingKey {
	if i := slices.IndexFunc(r.Keys, func(k wrappingKey) bool { return k.ID == id }); i >= 0 {
		return &r.Keys[i]
	}
	return nil
}

func (r *keyring) clear() {
	for _, k := range r.Keys {
		clear(k.Key)
	}
}

func (r *keyring) encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fault.New(fault.Bug, "encryption: encode key file", "%w", err)
	}
	return append(b, '\n'), nil
}

const hintRestore = "restore the key file from its backup; without it the data cannot be read"

func decodeKeyring(b []byte) (*keyring, error) {
	const op = "encryption: decode key file"
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err).WithHint(hintRestore)
	}
	if version.Format != keyringFormat {
		return nil, fault.New(fault.Unsupported, op, "format %d; this version knows %d", version.Format, keyringFormat).
			WithHint("use the version of understudy that wrote it, or a newer one")
	}
	r := &keyring{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err).WithHint(hintRestore)
	}
	if err := r.check(); err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err).WithHint(hintRestore)
	}
	return r, nil
}

func (r *keyring) check() error {
	seen := map[string]bool{}
	for _, k := range r.Keys {
		switch {
		case len(k.Key) != KeySize:
			return fault.New(fault.Corruption, "", "key %q has %d bytes, not %d", k.ID, len(k.Key), KeySize)
		case k.ID != keyID(k.Key):
			return fault.New(fault.Corruption, "", "key %q is not the one that had this id", k.ID)
		case seen[k.ID]:
			return fault.New(fault.Corruption, "", "key %q is there twice", k.ID)
		}
		seen[k.ID] = true
	}
	if !seen[r.Current] {
		return fault.New(fault.Corruption, "", "the current key %q is not there", r.Current)
	}
	return nil
}
