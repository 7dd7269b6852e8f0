package vfstest_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

func TestSuite(t *testing.T) {
	t.Run("os", func(t *testing.T) { vfstest.Suite(t, vfs.OS, t.TempDir()) })
	t.Run("memory", func(t *testing.T) {
		m := vfstest.New()
		require.NoError(t, m.MkdirAll("/d"))
		vfstest.Suite(t, m, "/d")
	})
}

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

func block(fill byte) []byte {
	b := make([]byte, 1024)
	for i := range b {
		b[i] = fill
	}
	return b
}

// After a crash what was synced is there; of what was not, every mixture of sectors turns up sooner or later.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	rng := newRand(t)
	m := vfstest.New()
	f, err := m.Create("/f")
	require.NoError(t, err)
	_, err = f.WriteAt(block(1), 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	seen := map[string]bool{}
	for range 200 { // the name is not durable yet
		_, err := m.Crash(rng).Stat("/f")
		seen[strconv.FormatBool(err == nil)] = true
	}
	require.Len(t, seen, 2)
	require.NoError(t, m.SyncDir("/"))
	_, err = f.WriteAt(block(2), 0)
	require.NoError(t, err)
	seen = map[string]bool{}
	for range 200 {
		b, err := vfs.ReadFile(m.Crash(rng), "/f", 1024)
		require.NoError(t, err)
		require.Len(t, b, 1024)
		seen[string(b[511])+string(b[512])] = true
		require.Equal(t, b[0], b[511], "torn inside a sector")
	}
	require.Len(t, seen, 4)
	require.NoError(t, f.Sync())
	b, err := vfs.ReadFile(m.Crash(rng), "/f", 1024)
	require.NoError(t, err)
	require.Equal(t, block(2), b)
}

// As on Linux: after a failed sync the data is readable, the next sync succeeds, and the data is not on the disk.
func TestFailedSyncLosesSilently(t *testing.T) {
	rng := newRand(t)
	m := vfstest.New()
	f, err := m.Create("/f")
	require.NoError(t, err)
	require.NoError(t, m.SyncDir("/"))
	_, err = f.WriteAt(block(1), 0)
	require.NoError(t, err)
	fail := errors.New("no")
	m.OnOp(func(op vfstest.Op) error {
		if op.Kind == "sync" {
			return fail
		}
		return nil
	})
	require.ErrorIs(t, f.Sync(), fail)
	m.OnOp(nil)
	require.NoError(t, f.Sync())
	b, err := vfs.ReadFile(m, "/f", 1024)
	require.NoError(t, err)
	require.Equal(t, block(1), b)
	b, err = vfs.ReadFile(m.Crash(rng), "/f", 1024)
	require.NoError(t, err)
	require.Equal(t, block(0), b)
}

func TestCapacity(t *testing.T) {
	m := vfstest.New()
	m.SetCapacity(1000)
	f, err := m.Create("/f")
	require.NoError(t, err)
	n, err := f.WriteAt(block(1), 0)
	require.Equal(t, 1000, n)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, fault.OutOfSpace, fault.KindOf(vfs.Fault("test", err)))
	_, err = f.WriteAt(block(2)[:500], 100)
	require.NoError(t, err, "overwriting needs no room")
}
