package encryption

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func requireKind(t *testing.T, want fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, fault.KindOf(err), "%v", err)
}

func open(t *testing.T, path string) *KeyFile {
	t.Helper()
	k, err := OpenKeyFile(path)
	require.NoError(t, err)
	return k
}

func wrap(t *testing.T, k Provider, key, context string) Wrapped {
	t.Helper()
	w, err := k.Wrap(t.Context(), []byte(key), []byte(context))
	require.NoError(t, err)
	return w
}

func TestWrapUnwrapRotateRetire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys.json")
	k := open(t, path)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	old := wrap(t, k, "the data key", "journal 1")
	require.NotContains(t, string(old.Blob), "the data key")
	require.NotEqual(t, old.Blob, wrap(t, k, "the data key", "journal 1").Blob)

	other := open(t, path) // as another process has it
	id, err := other.Rotate(t.Context())
	require.NoError(t, err)
	current, err := k.Current(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, current, "a key made elsewhere is seen")
	got, err := k.Unwrap(t.Context(), old, []byte("journal 1"))
	require.NoError(t, err)
	require.Equal(t, "the data key", string(got))

	fresh, changed, err := Rewrap(t.Context(), k, old, []byte("journal 1"))
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, id, fresh.KeyID)
	_, changed, err = Rewrap(t.Context(), k, fresh, []byte("journal 1"))
	require.NoError(t, err)
	require.False(t, changed)

	requireKind(t, fault.Conflict, k.Retire(t.Context(), id))
	require.NoError(t, k.Retire(t.Context(), old.KeyID))
	requireKind(t, fault.NotFound, k.Retire(t.Context(), old.KeyID))
	_, err = other.Unwrap(t.Context(), old, []byte("journal 1"))
	requireKind(t, fault.NotFound, err)
	require.Contains(t, fault.HintOf(err), "backup")
	got, err = other.Unwrap(t.Context(), fresh, []byte("journal 1"))
	require.NoError(t, err)
	require.Equal(t, "the data key", string(got))
	keys, err := k.Keys()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, id, keys[0].ID)
	require.True(t, keys[0].Current)
	require.WithinDuration(t, time.Now(), keys[0].Created, time.Minute)
	b, err := json.Marshal(fresh)
	require.NoError(t, err)
	var back Wrapped
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, fresh, back)
}

// Whatever is changed in a wrapped key, it does not unwrap.
func TestTamperedWrappedKey(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "keys.json"))
	w := wrap(t, k, "the data key", "journal 1")
	for i := range w.Blob {
		bad := w
		bad.Blob = bytes.Clone(w.Blob)
		bad.Blob[i] ^= 1
		_, err := k.Unwrap(t.Context(), bad, []byte("journal 1"))
		requireKind(t, fault.Corruption, err)
		bad.Blob = w.Blob[:i]
		_, err = k.Unwrap(t.Context(), bad, []byte("journal 1"))
		requireKind(t, fault.Corruption, err)
	}
	for _, context := range []string{"", "journal", "journal 2", "journal 1\x00"} {
		_, err := k.Unwrap(t.Context(), w, []byte(context))
		requireKind(t, fault.Corruption, err)
	}
	_, err := k.Rotate(t.Context())
	require.NoError(t, err)
	moved := w
	moved.KeyID, err = k.Current(t.Context())
	require.NoError(t, err)
	_, err = k.Unwrap(t.Context(), moved, []byte("journal 1"))
	requireKind(t, fault.Corruption, err)
	foreign := w
	foreign.Provider = "vault"
	_, err = k.Unwrap(t.Context(), foreign, []byte("journal 1"))
	requireKind(t, fault.Unsupported, err)
}

func TestRefusesFileThatOthersMayUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := open(t, path)
	w := wrap(t, k, "the data key", "j")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o610} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := OpenKeyFile(path)
		requireKind(t, fault.Denied, err)
		require.Contains(t, fault.HintOf(err), "chmod 600")
		_, err = k.Unwrap(t.Context(), w, []byte("j"))
		requireKind(t, fault.Denied, err)
	}
	require.NoError(t, os.Chmod(path, 0o400))
	open(t, path)
	_, err := OpenKeyFile(filepath.Dir(path))
	requireKind(t, fault.Invalid, err)
}

// A key file that was removed is not made anew behind the back of who uses it.
func TestRemovedFileIsMissed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := open(t, path)
	require.NoError(t, os.Remove(path))
	_, err := k.Wrap(t.Context(), []byte("k"), nil)
	requireKind(t, fault.NotFound, err)
	_, err = k.Rotate(t.Context())
	requireKind(t, fault.NotFound, err)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	open(t, path)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	var ring keyring
	require.NoError(t, json.Unmarshal(good, &ring))
	text := base64.StdEncoding.EncodeToString(ring.Keys[0].Key)
	flipped := bytes.Clone(ring.Keys[0].Key)
	flipped[7] ^= 1
	for name, test := range map[string]struct {
		content string
		kind    fault.Kind
	}{
		"empty":         {"", fault.Corruption},
		"cut":           {string(good[:len(good)/2]), fault.Corruption},
		"newer":         {strings.Replace(string(good), `"format": 1`, `"format": 2`, 1), fault.Unsupported},
		"unknown field": {strings.Replace(string(good), `"format": 1`, `"format": 1, "new": 1`, 1), fault.Corruption},
		"damaged key":   {strings.Replace(string(good), text, base64.StdEncoding.EncodeToString(flipped), 1), fault.Corruption},
		"short key":     {strings.Replace(string(good), text, text[:40], 1), fault.Corruption},
		"no current":    {strings.Replace(string(good), ring.Current, "0000000000000000", 1), fault.Corruption},
		"no keys":       {`{"format": 1, "current": "", "keys": []}`, fault.Corruption},
		"too long":      {strings.Repeat(" ", maxKeyring+1), fault.Corruption},
	} {
		require.NotEqual(t, string(good), test.content, name)
		require.NoError(t, os.WriteFile(path, []byte(test.content), 0o600))
		_, err := OpenKeyFile(path)
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		require.NotContains(t, err.Error(), text)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, test.content, string(left), "%s: it is left as it was", name)
	}
}

// Several processes start at once where there is no key file: all use the same key in the end.
func TestMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var group sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		group.Go(func() {
			for {
				k, err := OpenKeyFile(path)
				if fault.Is(err, fault.Conflict) { // another makes it
					continue
				}
				if err == nil {
					ids[i], err = k.Current(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
	group.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 2, "the file and its lock")
}

type beforeLock struct {
	vfs.FS
	do func()
}

func (f beforeLock) Lock(name string) (io.Closer, error) {
	f.do()
	return f.FS.Lock(name)
}

// Another process makes the file after we saw none and before we hold the lock: theirs stays.
func TestOtherProcessIsFaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var theirs string
	k, err := openKeyFile(beforeLock{vfs.OS, func() {
		var err error
		theirs, err = open(t, path).Current(t.Context())
		require.NoError(t, err)
	}}, path, ownerOnly)
	require.NoError(t, err)
	ours, err := k.Current(t.Context())
	require.NoError(t, err)
	require.Equal(t, theirs, ours)
}

// The power fails at every operation: a key that was given out is there after, and the file is never half-written.
func TestCrashAtEveryOperation(t *testing.T) {
	rng := newRand(t)
	anyone := func(m *vfstest.MemFS) func(string) error {
		return func(path string) error { _, err := m.Stat(path); return vfs.Fault("test", err) }
	}
	for n := 1; ; n++ {
		m := vfstest.New()
		m.CrashAt(n)
		var wrapped []Wrapped
		if k, err := openKeyFile(m, "/etc/keys", anyone(m)); err == nil {
			for i := range 3 {
				w, err := k.Wrap(t.Context(), fmt.Append(nil, "key ", i), []byte("j"))
				if err != nil {
					break
				}
				wrapped = append(wrapped, w)
				if _, err := k.Rotate(t.Context()); err != nil {
					break
				}
			}
		}
		for range 10 {
			next := m.Crash(rng)
			k, err := openKeyFile(next, "/etc/keys", anyone(next))
			require.NoError(t, err, "crash at %d", n)
			for i, w := range wrapped {
				got, err := k.Unwrap(t.Context(), w, []byte("j"))
				require.NoError(t, err, "crash at %d: key %d of %d", n, i, len(wrapped))
				require.Equal(t, fmt.Sprint("key ", i), string(got))
			}
		}
		if len(wrapped) == 3 && m.Ops() < n {
			return
		}
	}
}

// A key file of format 1 opens for ever.
func TestFormat1(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "v1", "keys.json"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	var w Wrapped
	b, err := os.ReadFile(filepath.Join("testdata", "v1", "wrapped.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &w))
	got, err := open(t, path).Unwrap(t.Context(), w, []byte("journal"))
	require.NoError(t, err)
	key, err := ParseDataKey(got)
	require.NoError(t, err)
	c, err := key.File([SaltSize]byte{1, 2, 3}, "layer")
	require.NoError(t, err)
	sealed, err := os.ReadFile(filepath.Join("testdata", "v1", "sealed"))
	require.NoError(t, err)
	plain, err := c.Open(nil, sealed, []byte("block 7"))
	require.NoError(t, err)
	require.Equal(t, "sealed by the first version", string(plain))
}
