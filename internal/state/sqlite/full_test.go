package sqlite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// A disk that fills in the middle of an Update, its commit included, keeps nothing of it, and is no trouble any more once there
// is room.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(dir, 0o700))
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=8m", "none", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { require.NoError(t, exec.CommandContext(context.Background(), "umount", dir).Run()) })
	s, err := Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	scope := state.Scope{Account: "111122223333", Service: state.DRS}
	put := func(n, bytes int) error {
		return s.Update(t.Context(), func(tx state.Tx) error {
			if err := tx.PutInitialised(t.Context(), scope, time.Unix(int64(n), 0)); err != nil {
				return err
			}
			return tx.PutTemplate(t.Context(), state.Template{ID: "rct-1", Scope: scope, Tags: map[string]string{"n": strings.Repeat("x", bytes)}})
		})
	}
	at := func() (at time.Time) {
		require.NoError(t, s.View(t.Context(), func(r state.Reader) error {
			at, err = r.Initialised(t.Context(), scope)
			return err
		}))
		return at
	}
	require.NoError(t, put(1, 1000))
	ballast := filepath.Join(dir, "ballast")
	for _, leave := range []int{0, 8 << 10, 64 << 10, 256 << 10} {
		fill(t, ballast, leave)
		last := 1
		for n := 2; n < 100; n++ {
			if err = put(n, 100_000); err != nil {
				break
			}
			last = n
		}
		require.True(t, fault.Is(err, fault.OutOfSpace), "%v", err)
		require.Equal(t, time.Unix(int64(last), 0).UTC(), at(), "nothing of it stays")
		require.NoError(t, os.Remove(ballast))
		require.NoError(t, put(1, 1000), "with room it goes on")
	}
}

// fill takes all of the file system but some bytes.
func fill(t *testing.T, path string, leave int) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	block := make([]byte, 4096)
	size := 0
	for {
		n, err := f.Write(block)
		size += n
		if err != nil {
			break
		}
	}
	require.NoError(t, f.Truncate(int64(max(0, size-leave))))
}
