package vfstest

import (
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Suite is what every vfs.FS must pass. dir exists and is empty.
func Suite(t *testing.T, f vfs.FS, dir string) {
	name := filepath.Join(dir, "a", "b", "file")
	_, err := f.Create(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, f.MkdirAll(filepath.Dir(name)))
	require.NoError(t, f.MkdirAll(filepath.Dir(name)))
	suiteFile(t, f, name)
	suiteNames(t, f, name)
	suiteLock(t, f, filepath.Join(dir, "lock"))
	space, err := f.Free(dir)
	require.NoError(t, err)
	require.Positive(t, space.Free)
	require.GreaterOrEqual(t, space.Total, space.Free)
}

func suiteFile(t *testing.T, f vfs.FS, name string) {
	file, err := f.Create(name)
	require.NoError(t, err)
	_, err = f.Create(name)
	require.ErrorIs(t, err, fs.ErrExist)
	n, err := file.WriteAt([]byte("hello"), 3)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	size, err := file.Size()
	require.NoError(t, err)
	require.EqualValues(t, 8, size)
	got := make([]byte, 8)
	require.NoError(t, vfs.ReadFull(file, got, 0))
	require.Equal(t, "\x00\x00\x00hello", string(got))
	require.ErrorIs(t, vfs.ReadFull(file, got, 1), io.ErrUnexpectedEOF)
	require.NoError(t, file.Truncate(5))
	require.NoError(t, file.Truncate(6))
	require.NoError(t, file.Sync())
	require.NoError(t, file.Close())
	require.Error(t, file.Close())
	b, err := vfs.ReadFile(f, name, 6)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00he\x00", string(b))
	_, err = vfs.ReadFile(f, name, 5)
	require.Equal(t, fault.Corruption, fault.KindOf(err))
	ro, err := f.Open(name)
	require.NoError(t, err)
	vfs.AtRandom(ro)
	vfs.WillNeed(ro, 0, 1<<30)
	require.NoError(t, vfs.ReadFull(ro, got[:4], 1))
	require.Equal(t, "\x00\x00he", string(got[:4]), "advice changes nothing")
	_, err = ro.WriteAt([]byte("x"), 0)
	require.Error(t, err)
	require.NoError(t, ro.Close())
}

func suiteNames(t *testing.T, f vfs.FS, name string) {
	dir := filepath.Dir(name)
	for range 2 {
		require.NoError(t, vfs.WriteAtomic(f, filepath.Join(dir, "meta"), []byte("new")))
	}
	require.NoError(t, f.Rename(name, filepath.Join(dir, "meta")))
	names, err := f.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"meta"}, names)
	info, err := f.Stat(filepath.Join(dir, "meta"))
	require.NoError(t, err)
	require.Equal(t, vfs.Info{Size: 6}, info)
	info, err = f.Stat(dir)
	require.NoError(t, err)
	require.True(t, info.Dir)
	require.Error(t, f.Remove(dir), "it is not empty")
	require.NoError(t, f.Remove(filepath.Join(dir, "meta")))
	require.NoError(t, f.SyncDir(dir))
	require.NoError(t, f.Remove(dir))
	for _, err := range []error{f.Remove(dir), f.Rename(name, name+"2"), second(f.Open(name)), second(f.Stat(dir)), second(f.List(dir))} {
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Equal(t, fault.NotFound, fault.KindOf(vfs.Fault("test", err)))
	}
}

func second[T any](_ T, err error) error { return err }

func suiteLock(t *testing.T, f vfs.FS, name string) {
	held, err := f.Lock(name)
	require.NoError(t, err)
	_, err = f.Lock(name)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NoError(t, held.Close())
	held, err = f.Lock(name)
	require.NoError(t, err)
	require.NoError(t, held.Close())
}
