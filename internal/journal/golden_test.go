package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
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

// testdata/v2 holds layers, timelines, a sealed segment that is not flushed and an unsealed one; everything before
// position 120 was let go of.
func TestGoldenV2(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/v2")))
	name := filepath.Join(dir, "wrapping-keys.json")
	require.NoError(t, os.Chmod(name, 0o600)) // git does not keep it
	keys, err := encryption.OpenKeyFile(name)
	require.NoError(t, err)
	dir = filepath.Join(dir, "journal")
	r, err := Verify(t.Context(), vfs.OS, dir, VerifyOptions{Keys: keys})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Equal(t, Report{ID: r.ID, Segments: 2, Frames: 12, Extents: 12, Layers: 1, Timelines: 5, Bytes: r.Bytes}, r)
	j, err := Open(t.Context(), vfs.OS, dir, Options{Keys: keys, Log: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	require.Equal(t, []Interval{{
		Epoch: 1, From: 120, To: 163, FromTime: time.Unix(0, 120).UTC(), ToTime: time.Unix(0, 163).UTC(),
	}}, j.Intervals())
	disk := make([]byte, simDisks[0].Bytes)
	for pos := uint64(101); pos <= 163; pos++ {
		if pos == 151 {
			clear(disk[4*512:][:1024])
		} else {
			copy(disk[pos*2%20*512:], bytes.Repeat([]byte{byte(pos)}, 1024))
		}
		if pos < 120 {
			continue
		}
		p, err := j.Check(pos)
		require.NoError(t, err)
		v, err := j.View(t.Context(), p)
		require.NoError(t, err)
		got := make([]byte, len(disk))
		require.NoError(t, v.ReadAt(t.Context(), 0, got, 0))
		require.Equal(t, disk, got, "at %d", pos)
		require.NoError(t, v.Close())
	}
}
