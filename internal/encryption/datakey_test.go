package encryption

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func fileCipher(t *testing.T, k *DataKey, salt byte, purpose string) *FileCipher {
	t.Helper()
	c, err := k.File([SaltSize]byte{salt}, purpose)
	require.NoError(t, err)
	return c
}

func TestSealOpen(t *testing.T) {
	rng, k := newRand(t), NewDataKey()
	c := fileCipher(t, k, 1, "layer")
	for _, n := range []int{0, 1, 15, 16, 17, 4096, 100_000} {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(rng.Uint32())
		}
		sealed := c.Seal([]byte("head"), plain, []byte("aad"))
		require.Equal(t, "head", string(sealed[:4]))
		sealed = sealed[4:]
		require.Len(t, sealed, n+c.Overhead())
		got, err := c.Open(nil, sealed, []byte("aad"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got))
		for range 20 {
			bad := bytes.Clone(sealed)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			_, err := c.Open(nil, bad, []byte("aad"))
			requireKind(t, fault.Corruption, err)
		}
		_, err = c.Open(nil, sealed[:len(sealed)-1], []byte("aad"))
		requireKind(t, fault.Corruption, err)
		_, err = c.Open(nil, sealed, []byte("aae"))
		requireKind(t, fault.Corruption, err)
		got, err = c.Open(sealed[:0], sealed, []byte("aad"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got), "in place")
	}
	_, err := c.Open(nil, nil, nil)
	requireKind(t, fault.Corruption, err)
}

// Files, purposes and data keys have nothing to do with each other; the same ones are the same again.
func TestKeysAreSeparate(t *testing.T) {
	k := NewDataKey()
	again, err := ParseDataKey(k.Bytes())
	require.NoError(t, err)
	sealed := fileCipher(t, k, 1, "layer").Seal(nil, []byte("x"), nil)
	_, err = fileCipher(t, again, 1, "layer").Open(nil, sealed, nil)
	require.NoError(t, err)
	for _, other := range []*FileCipher{fileCipher(t, k, 2, "layer"), fileCipher(t, k, 1, "segment"), fileCipher(t, NewDataKey(), 1, "layer")} {
		_, err = other.Open(nil, sealed, nil)
		requireKind(t, fault.Corruption, err)
	}
}

// The scheme as docs/formats/encryption.md has it, made from the standard library alone.
func TestSchemeIsTheDocumentedOne(t *testing.T) {
	secret, salt := bytes.Repeat([]byte{7}, KeySize), [SaltSize]byte{9}
	k, err := ParseDataKey(secret)
	require.NoError(t, err)
	c, err := k.File(salt, "layer")
	require.NoError(t, err)
	sealed := c.Seal(nil, []byte("content"), []byte("place"))
	key, err := hkdf.Key(sha256.New, secret, salt[:], "understudy/file/v1/layer", 32)
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	plain, err := gcm.Open(nil, sealed[:12], sealed[12:], []byte("place"))
	require.NoError(t, err)
	require.Equal(t, "content", string(plain))
}

func TestDestroy(t *testing.T) {
	k := NewDataKey()
	secret := k.key
	c := fileCipher(t, k, 1, "layer")
	k.Destroy()
	k.Destroy()
	require.Equal(t, make([]byte, KeySize), secret, "overwritten")
	require.Nil(t, k.Bytes())
	_, err := k.File([SaltSize]byte{}, "layer")
	requireKind(t, fault.Conflict, err)
	_, err = c.Open(nil, c.Seal(nil, []byte("x"), nil), nil)
	require.NoError(t, err, "open files go on")
	for _, n := range []int{0, 16, 31, 33} {
		_, err := ParseDataKey(make([]byte, n))
		requireKind(t, fault.Corruption, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	k := NewDataKey()
	c := fileCipher(t, k, 1, "layer")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 200 {
				got, err := c.Open(nil, c.Seal(nil, []byte{byte(i)}, []byte("a")), []byte("a"))
				if err != nil || got[0] != byte(i) {
					t.Errorf("goroutine %d: %v %v", i, got, err)
				}
				if _, err := k.File([SaltSize]byte{byte(i)}, "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func FuzzOpen(f *testing.F) {
	k, err := ParseDataKey(make([]byte, KeySize))
	require.NoError(f, err)
	c, err := k.File([SaltSize]byte{}, "fuzz")
	require.NoError(f, err)
	f.Add(c.Seal(nil, []byte("seed"), nil), []byte{})
	f.Add([]byte{}, []byte("aad"))
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		if plain, err := c.Open(nil, sealed, aad); err == nil {
			require.Len(t, sealed, len(plain)+c.Overhead())
		}
	})
}

func FuzzDecodeKeyring(f *testing.F) {
	ring := &keyring{Format: keyringFormat}
	ring.add(time.Unix(1_800_000_000, 0))
	b, err := ring.encode()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeKeyring(b)
		if err != nil {
			return
		}
		out, err := r.encode()
		require.NoError(t, err)
		again, err := decodeKeyring(out)
		require.NoError(t, err)
		require.Equal(t, r.Current, again.Current)
	})
}
