package dir_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

// history is what a script did: of each name the contents that may be there now. nil is "none".
type history map[string][][]byte

// put and remove run one operation and note what it may have left.
func (h history) put(t *testing.T, s blob.Store, name string, data []byte) {
	err := blob.Put(t.Context(), s, name, data)
	if err == nil {
		h[name] = [][]byte{data}
		return
	}
	require.False(t, fault.Is(err, fault.Conflict), "%v", err)
	h[name] = append(h.of(name), data)
}

func (h history) remove(t *testing.T, s blob.Store, name string) {
	if err := s.Delete(t.Context(), name); err == nil {
		h[name] = [][]byte{nil}
		return
	}
	h[name] = append(h.of(name), nil)
}

func (h history) of(name string) [][]byte {
	if h[name] == nil {
		return [][]byte{nil}
	}
	return h[name]
}

func script(t *testing.T, s blob.Store, h history) {
	h.put(t, s, "a", bytes.Repeat([]byte("a"), 5000))
	h.put(t, s, "b/c", bytes.Repeat([]byte("b"), 100))
	h.remove(t, s, "a")
	if w, err := s.Create(t.Context(), "b/aborted"); err == nil {
		_, _ = w.Write([]byte("never"))
		w.Abort()
	}
	h.put(t, s, "b/d/e", []byte("e"))
	h.remove(t, s, "b/c")
	h.remove(t, s, "b/d/e")
	for _, name := range []string{"b/c", "a"} {
		if len(h.of(name)) == 1 { // it is gone for certain
			h.put(t, s, name, bytes.Repeat([]byte("again"), 500))
		}
	}
}

// check opens the store as the next boot does and fails unless each object is one that may be there, whole.
func (h history) check(t *testing.T, m *vfstest.MemFS) {
	t.Helper()
	s, err := dir.New(m, "/blobs")
	require.NoError(t, err)
	for name := range m.Snapshot() {
		require.NotContains(t, name, blob.Temporary, "New leaves nothing half-written")
	}
	infos, err := s.List(t.Context(), "")
	require.NoError(t, err)
	found := map[string][]byte{}
	for _, info := range infos {
		found[info.Name], err = blob.Get(t.Context(), s, info.Name, 1<<20)
		require.NoError(t, err)
	}
	for name := range h {
		data, exists := found[name]
		require.True(t, h.allows(name, data, exists), "%s: exists %v with %d bytes", name, exists, len(data))
		delete(found, name)
	}
	require.Empty(t, found)
	for name := range h {
		require.NoError(t, s.Delete(t.Context(), name))
		require.NoError(t, blob.Put(t.Context(), s, name, []byte("after")))
	}
	require.NoError(t, s.Close())
}

func (h history) allows(name string, data []byte, exists bool) bool {
	for _, want := range h.of(name) {
		if (want != nil) == exists && bytes.Equal(want, data) {
			return true
		}
	}
	return false
}

func TestCrashAtEveryOperation(t *testing.T) {
	rng := blobtest.NewRand(t)
	for n := 1; ; n++ {
		m := vfstest.New()
		s, err := dir.New(m, "/blobs")
		require.NoError(t, err)
		m.CrashAt(n)
		before, h := m.Ops(), history{}
		script(t, s, h)
		crashed := m.Ops() >= before+n
		for range 20 {
			h.check(t, m.Crash(rng))
		}
		require.NoError(t, s.Close())
		if !crashed {
			require.Greater(t, n, 40)
			return
		}
	}
}

var errIO = errors.New("input/output error")

// One operation fails and the machine goes on: the store says so, and keeps its word now and after a crash.
func TestErrorAtEveryOperation(t *testing.T) {
	rng := blobtest.NewRand(t)
	for n := 1; ; n++ {
		m := vfstest.New()
		s, err := dir.New(m, "/blobs")
		require.NoError(t, err)
		failed, at := false, m.Ops()+n
		m.OnOp(func(op vfstest.Op) error {
			if op.N == at {
				failed = true
				return fmt.Errorf("%s: %w", op.Kind, errIO)
			}
			return nil
		})
		h := history{}
		script(t, s, h)
		m.OnOp(nil)
		for range 5 {
			h.check(t, m.Crash(rng))
		}
		h.check(t, vfstest.Restore(m.Snapshot(), "/blobs", "/blobs/b", "/blobs/b/d"))
		require.NoError(t, s.Close())
		if !failed {
			return
		}
	}
}

func TestFullDirectory(t *testing.T) {
	m := vfstest.New()
	s := open(t, m, "/blobs")
	require.NoError(t, blob.Put(t.Context(), s, "a", make([]byte, 1000)))
	m.SetCapacity(1500)
	err := blob.Put(t.Context(), s, "b", make([]byte, 1000))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.EqualValues(t, 1000, m.Used(), "what did not fit is gone")
	require.NoError(t, s.Delete(t.Context(), "a"))
	require.NoError(t, blob.Put(t.Context(), s, "b", make([]byte, 1000)))
}

// More objects than may be open at once, read and deleted at random.
func TestManyObjectsFewHandles(t *testing.T) {
	rng := blobtest.NewRand(t)
	m := vfstest.New()
	opens := 0
	s := open(t, m, "/blobs")
	const objects = 600
	for i := range objects {
		require.NoError(t, blob.Put(t.Context(), s, fmt.Sprint(i), fmt.Append(nil, "object ", i)))
	}
	m.OnOp(func(op vfstest.Op) error {
		if op.Kind == "open" {
			opens++
		}
		return nil
	})
	read := func(i int) {
		want := fmt.Append(nil, "object ", i)
		got := make([]byte, len(want))
		require.NoError(t, s.ReadAt(t.Context(), fmt.Sprint(i), got, 0))
		require.Equal(t, want, got)
	}
	for range 100 {
		read(7)
	}
	require.Equal(t, 1, opens)
	for range 3000 {
		read(rng.IntN(objects))
	}
	require.Greater(t, opens, objects)
	require.NoError(t, s.Delete(t.Context(), "7"))
	blobtest.RequireMissing(t, s, "7")
	require.NoError(t, blob.Put(t.Context(), s, "7", []byte("another")))
	blobtest.RequireObject(t, s, "7", []byte("another"))
}

// Files that are no objects are neither shown nor touched.
func TestForeignFiles(t *testing.T) {
	m := vfstest.Restore(map[string][]byte{
		"/blobs/Readme.TXT": []byte("x"), "/blobs/lost+found/x": []byte("x"), "/blobs/a.1.tmp": []byte("x"), "/blobs/a": []byte("x"),
	}, "/blobs", "/blobs/lost+found")
	s := open(t, m, "/blobs")
	infos, err := s.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []blob.Info{{Name: "a", Size: 1}}, infos)
	left := m.Snapshot()
	require.Len(t, left, 3)
	for name := range left {
		require.False(t, strings.HasSuffix(name, blob.Temporary))
	}
}

// A name that may not be durable does not stay visible: a later sync of the directory could succeed and not cover it.
func TestFailedSyncOfNameTakesItBack(t *testing.T) {
	m := vfstest.New()
	s := open(t, m, "/blobs")
	renamed, failed := false, false
	m.OnOp(func(op vfstest.Op) error {
		renamed = renamed || op.Kind == "rename"
		if op.Kind != "syncdir" || !renamed || failed {
			return nil
		}
		failed = true
		return errIO
	})
	require.ErrorIs(t, blob.Put(t.Context(), s, "a", []byte("a")), errIO)
	blobtest.RequireMissing(t, s, "a")
	require.NoError(t, blob.Put(t.Context(), s, "a", []byte("a")))
}
