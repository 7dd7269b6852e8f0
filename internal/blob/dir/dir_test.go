package dir_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

func open(t testing.TB, f vfs.FS, root string) *dir.Store {
	s, err := dir.New(f, root)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestSuite(t *testing.T) {
	t.Run("os", func(t *testing.T) {
		blobtest.Suite(t, func(t *testing.T) blob.Store { return open(t, vfs.OS, filepath.Join(t.TempDir(), "blobs")) }, 9<<20)
	})
	t.Run("memory", func(t *testing.T) {
		blobtest.Suite(t, func(t *testing.T) blob.Store { return open(t, vfstest.New(), "/blobs") }, 1<<20)
	})
}
