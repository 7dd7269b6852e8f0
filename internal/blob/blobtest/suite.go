// Package blobtest is what every blob.Store must pass.
//
// Only tests import it.
package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// NewRand returns a source whose seed is printed, and taken from UNDERSTUDY_SEED if set.
func NewRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Bytes returns n random bytes.
func Bytes(rng *rand.Rand, n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rng.Uint32())
	}
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// Suite tests an implementation. Each store that open returns is empty; large is the size of an object that the
// implementation treats as one, such as in several parts.
func Suite(t *testing.T, open func(t *testing.T) blob.Store, large int) {
	for name, test := range map[string]func(*testing.T, blob.Store){
		"objects":    objects,
		"ranges":     ranges,
		"writers":    writers,
		"no replace": noReplace,
		"one winner": oneWinner,
		"names":      names,
		"list":       list,
		"sub":        sub,
		"cancelled":  cancelled,
		"large":      func(t *testing.T, s blob.Store) { largeObject(t, s, large) },
		"model":      model,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func requireKind(t *testing.T, want fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, fault.KindOf(err), "%v", err)
}

// RequireObject fails unless the object is exactly data, by every way of reading it.
func RequireObject(t testing.TB, s blob.Store, name string, data []byte) {
	t.Helper()
	size, err := s.Stat(t.Context(), name)
	require.NoError(t, err)
	require.EqualValues(t, len(data), size)
	got, err := blob.Get(t.Context(), s, name, size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got), "the object is not what was written")
}

// RequireMissing fails if there is anything of the name.
func RequireMissing(t testing.TB, s blob.Store, name string) {
	t.Helper()
	_, err := s.Stat(t.Context(), name)
	require.Equal(t, fault.NotFound, fault.KindOf(err), "%v", err)
	require.Equal(t, fault.NotFound, fault.KindOf(s.ReadAt(t.Context(), name, make([]byte, 1), 0)))
	infos, err := s.List(t.Context(), name)
	require.NoError(t, err)
	for _, info := range infos {
		require.NotEqual(t, name, info.Name)
	}
}

func objects(t *testing.T, s blob.Store) {
	ctx := t.Context()
	RequireMissing(t, s, "a")
	require.NoError(t, s.Delete(ctx, "a"), "it is not there anyway")
	require.NoError(t, s.Delete(ctx, "deep/down/a"))
	for i, data := range [][]byte{{}, {1}, bytes.Repeat([]byte("0123456789"), 1000)} {
		name := fmt.Sprintf("x/y.%d/z", i)
		require.NoError(t, blob.Put(ctx, s, name, data))
		RequireObject(t, s, name, data)
		require.NoError(t, s.Delete(ctx, name))
		RequireMissing(t, s, name)
		require.NoError(t, blob.Put(ctx, s, name, append(data, 'x')), "the name is free again")
		RequireObject(t, s, name, append(data, 'x'))
	}
	_, err := blob.Get(ctx, s, "x/y.2/z", 10_000)
	requireKind(t, fault.Corruption, err)
	_, err = blob.Get(ctx, s, "none", 1)
	requireKind(t, fault.NotFound, err)
}

func ranges(t *testing.T, s blob.Store) {
	ctx, data := t.Context(), Bytes(NewRand(t), 1000)
	require.NoError(t, blob.Put(ctx, s, "r", data))
	for _, r := range [][2]int{{0, 1000}, {0, 1}, {999, 1}, {10, 500}, {1000, 0}, {0, 0}} {
		p := make([]byte, r[1])
		require.NoError(t, s.ReadAt(ctx, "r", p, int64(r[0])))
		require.Equal(t, data[r[0]:r[0]+r[1]], p)
	}
	for _, r := range [][2]int{{0, 1001}, {1000, 1}, {999, 2}, {5000, 10}, {1001, 0}} {
		err := s.ReadAt(ctx, "r", make([]byte, r[1]), int64(r[0]))
		if r[1] > 0 {
			requireKind(t, fault.Corruption, err)
		}
	}
	requireKind(t, fault.Invalid, s.ReadAt(ctx, "r", make([]byte, 1), -1))
	requireKind(t, fault.Invalid, s.ReadAt(ctx, "r", make([]byte, 2), 1<<63-2))
	require.NoError(t, blob.Put(ctx, s, "empty", nil))
	requireKind(t, fault.Corruption, s.ReadAt(ctx, "empty", make([]byte, 1), 0))
}

func writers(t *testing.T, s blob.Store) {
	ctx := t.Context()
	w, err := s.Create(ctx, "w")
	require.NoError(t, err)
	for range 100 {
		n, err := w.Write([]byte("ten bytes."))
		require.NoError(t, err)
		require.Equal(t, 10, n)
	}
	RequireMissing(t, s, "w")
	require.NoError(t, w.Commit(ctx))
	w.Abort() // does nothing now
	RequireObject(t, s, "w", bytes.Repeat([]byte("ten bytes."), 100))
	_, err = w.Write([]byte("more"))
	requireKind(t, fault.Conflict, err)
	requireKind(t, fault.Conflict, w.Commit(ctx))
	RequireObject(t, s, "w", bytes.Repeat([]byte("ten bytes."), 100))

	w, err = s.Create(ctx, "aborted")
	require.NoError(t, err)
	_, err = w.Write([]byte("never seen"))
	require.NoError(t, err)
	w.Abort()
	w.Abort()
	requireKind(t, fault.Conflict, w.Commit(ctx))
	RequireMissing(t, s, "aborted")
	infos, err := s.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, infos, 1)
}

func noReplace(t *testing.T, s blob.Store) {
	ctx := t.Context()
	w, err := s.Create(ctx, "n")
	require.NoError(t, err)
	defer w.Abort()
	_, err = w.Write([]byte("late"))
	require.NoError(t, err)
	require.NoError(t, blob.Put(ctx, s, "n", []byte("first")))
	requireKind(t, fault.Conflict, w.Commit(ctx))
	requireKind(t, fault.Conflict, blob.Put(ctx, s, "n", []byte("first")))
	RequireObject(t, s, "n", []byte("first"))
}

func oneWinner(t *testing.T, s blob.Store) {
	const n = 8
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = blob.Put(t.Context(), s, "race/name", bytes.Repeat([]byte{byte(i)}, 1000)) })
	}
	group.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.Equal(t, -1, winner, "two commits of one name succeeded")
			winner = i
			continue
		}
		requireKind(t, fault.Conflict, err)
	}
	require.NotEqual(t, -1, winner)
	RequireObject(t, s, "race/name", bytes.Repeat([]byte{byte(winner)}, 1000))
}

func names(t *testing.T, s blob.Store) {
	ctx := t.Context()
	for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".hidden", "A", "a b", "a\x00", "a\\b", "ä", "a.tmp",
		"a.tmp/b", string(bytes.Repeat([]byte("x"), 201)), string(bytes.Repeat([]byte("x/"), 400)) + "x"} {
		_, err := s.Create(ctx, name)
		requireKind(t, fault.Invalid, err)
		_, err = s.Stat(ctx, name)
		requireKind(t, fault.Invalid, err)
		requireKind(t, fault.Invalid, s.ReadAt(ctx, name, nil, 0))
		requireKind(t, fault.Invalid, s.Delete(ctx, name))
	}
	for _, prefix := range []string{"/", "//", "a//", "..", "A"} {
		_, err := s.List(ctx, prefix)
		requireKind(t, fault.Invalid, err)
	}
	for _, name := range []string{"a", "0-9_.x", "b/c/d/e/f", string(bytes.Repeat([]byte("x"), 200))} {
		require.NoError(t, blob.Put(ctx, s, name, []byte(name)))
		RequireObject(t, s, name, []byte(name))
	}
}

func listed(t *testing.T, s blob.Store, prefix string) []string {
	t.Helper()
	infos, err := s.List(t.Context(), prefix)
	require.NoError(t, err)
	found := []string{}
	for _, info := range infos {
		require.EqualValues(t, len(info.Name), info.Size)
		found = append(found, info.Name)
	}
	return found
}

func list(t *testing.T, s blob.Store) {
	require.Empty(t, listed(t, s, ""))
	all := []string{"a-b", "a.b", "a/b-c/d", "a/b/c", "ab", "b/a", "c/c/c/c"}
	for _, name := range all {
		require.NoError(t, blob.Put(t.Context(), s, name, []byte(name)))
	}
	for _, dir := range []string{"a", "a/b", "ab/x"} {
		RequireMissing(t, s, dir)
		require.NoError(t, s.Delete(t.Context(), dir))
	}
	require.Equal(t, all, listed(t, s, ""))
	require.Equal(t, []string{"a-b", "a.b", "a/b-c/d", "a/b/c", "ab"}, listed(t, s, "a"))
	require.Equal(t, []string{"a/b-c/d", "a/b/c"}, listed(t, s, "a/"))
	require.Equal(t, []string{"a/b-c/d", "a/b/c"}, listed(t, s, "a/b"))
	require.Equal(t, []string{"a/b/c"}, listed(t, s, "a/b/"))
	require.Equal(t, []string{"c/c/c/c"}, listed(t, s, "c/c/c/c"))
	require.Empty(t, listed(t, s, "nothing/there"))
	for _, name := range all {
		require.NoError(t, s.Delete(t.Context(), name))
	}
	require.Empty(t, listed(t, s, ""))
}

func sub(t *testing.T, s blob.Store) {
	ctx := t.Context()
	one, two := blob.Sub(s, "one"), blob.Sub(blob.Sub(s, "t"), "two/")
	for _, part := range []blob.Store{one, two} {
		require.NoError(t, blob.Put(ctx, part, "x/y", []byte("xyz")))
		require.NoError(t, blob.Put(ctx, part, "z", []byte("z")))
	}
	require.NoError(t, blob.Put(ctx, s, "oneself", []byte("oneself")))
	require.NoError(t, one.Delete(ctx, "z"))
	require.Equal(t, []string{"x/y"}, listed(t, one, ""))
	require.Equal(t, []string{"x/y", "z"}, listed(t, two, ""))
	require.Equal(t, []string{"x/y"}, listed(t, two, "x"))
	RequireObject(t, s, "t/two/x/y", []byte("xyz"))
	_, err := one.Stat(ctx, "../t/two/z")
	requireKind(t, fault.Invalid, err)
}

func cancelled(t *testing.T, s blob.Store) {
	require.NoError(t, blob.Put(t.Context(), s, "c", []byte("c")))
	w, err := s.Create(t.Context(), "d")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	requireKind(t, fault.Transient, w.Commit(ctx))
	_, err = s.Create(ctx, "e")
	requireKind(t, fault.Transient, err)
	_, err = s.Stat(ctx, "c")
	requireKind(t, fault.Transient, err)
	_, err = s.List(ctx, "")
	requireKind(t, fault.Transient, err)
	requireKind(t, fault.Transient, s.Delete(ctx, "c"))
	require.ErrorIs(t, s.ReadAt(ctx, "c", make([]byte, 1), 0), context.Canceled)
	RequireMissing(t, s, "d")
	RequireObject(t, s, "c", []byte("c"))
}

func largeObject(t *testing.T, s blob.Store, size int) {
	rng := NewRand(t)
	data := Bytes(rng, size)
	w, err := s.Create(t.Context(), "large")
	require.NoError(t, err)
	defer w.Abort()
	for at := 0; at < size; {
		n := min(size-at, 1+rng.IntN(3<<20))
		_, err := w.Write(data[at : at+n])
		require.NoError(t, err)
		at += n
	}
	RequireMissing(t, s, "large")
	require.NoError(t, w.Commit(t.Context()))
	RequireObject(t, s, "large", data)
	for range 20 {
		off := rng.IntN(size)
		p := make([]byte, min(size-off, 1+rng.IntN(100_000)))
		require.NoError(t, s.ReadAt(t.Context(), "large", p, int64(off)))
		require.True(t, bytes.Equal(data[off:off+len(p)], p))
	}
}
