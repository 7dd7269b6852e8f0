package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/vfs"
)

// testdata/v1 was written once, by the version that introduced the format, and must open for ever. A new format gets
// a directory of its own; none is ever written again.
func TestGoldenV1(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/v1")))
	r, err := Verify(t.Context(), vfs.OS, dir, VerifyOptions{Keys: testKeys})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Equal(t, Report{ID: r.ID, Segments: 3, Frames: 17, Extents: 15, Bytes: r.Bytes}, r)
	j, err := Open(t.Context(), vfs.OS, dir, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	require.Equal(t, []Interval{{
		Epoch: 1, From: 100, To: 115, FromTime: time.Unix(0, 100).UTC(), ToTime: time.Unix(0, 115).UTC(),
	}}, j.Intervals())
	require.Equal(t, simDisks, j.State().Disks)
	for pos, fill := range map[uint64]byte{102: 2, 111: 2, 112: 12, 115: 12} {
		p, err := j.Check(pos)
		require.NoError(t, err)
		v, err := j.View(t.Context(), p)
		require.NoError(t, err)
		got := make([]byte, 1024)
		require.NoError(t, v.ReadAt(t.Context(), 0, got, 4*512))
		require.Equal(t, bytes.Repeat([]byte{fill}, 1024), got, "at %d", pos)
		require.NoError(t, v.Close())
	}
}
