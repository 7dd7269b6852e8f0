// Package encryption holds the keys of data at rest: a data key per journal, wrapped by a key provider that never gives
// its own key away, and a cipher per file made from the data key. docs/formats/encryption.md says what is written.
//
// The journal imports it for its files, app/serve and the key commands to choose a provider.
package encryption

import "context"

// Provider wraps data keys. A key management service, Vault's transit engine and the local key file fit it: the
// wrapping key stays with the provider, and only small blobs pass.
//
// The context names what the key is for (a journal's id). It is authenticated, not stored: a wrapped key that was
// moved to another journal does not unwrap.
type Provider interface {
	// Wrap encrypts key with the current wrapping key.
	Wrap(ctx context.Context, key, context []byte) (Wrapped, error)
	// Unwrap is the inverse, with whichever wrapping key it was. A wrapping key that the provider does not have is a
	// fault.NotFound, a blob or context that was tampered with a fault.Corruption.
	Unwrap(ctx context.Context, w Wrapped, context []byte) ([]byte, error)
	// Current names the wrapping key that Wrap uses now.
	Current(ctx context.Context) (keyID string, err error)
}

// Wrapped is a data key as it may be stored.
type Wrapped struct {
	Provider string `json:"provider"`
	KeyID    string `json:"keyId"`
	Blob     []byte `json:"blob"`
}

// Rewrap wraps the same data key with the current wrapping key. It reports whether w was changed: a key that is
// wrapped by the current one stays as it is, so a rotation can be repeated until nothing changes.
func Rewrap(ctx context.Context, p Provider, w Wrapped, context []byte) (Wrapped, bool, error) {
	current, err := p.Current(ctx)
	if err != nil {
		return w, false, err
	}
	if w.KeyID == current {
		return w, false, nil
	}
	key, err := p.Unwrap(ctx, w, context)
	if err != nil {
		return w, false, err
	}
	defer clear(key)
	next, err := p.Wrap(ctx, key, context)
	if err != nil {
		return w, false, err
	}
	return next, true, nil
}
