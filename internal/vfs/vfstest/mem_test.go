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

// A read is tried a few times; what fails each time is Corruption that can be told from wrong bytes, and the rest of the file reads.
func TestBadSectors(t *testing.T) {
	m := vfstest.New()
	require.ErrorIs(t, m.BadSectors("/f", 0, 1, 1), os.ErrNotExist)
	f, err := m.Create("/f")
	require.NoError(t, err)
	_, err = f.WriteAt(block(1), 0)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Sync(), m.SyncDir("/")))
	require.NoError(t, m.BadSectors("/f", 512, 512, 2))
	got := make([]byte, 1024)
	require.NoError(t, vfs.ReadFull(f, got, 0), "the third time")

	require.NoError(t, m.BadSectors("/f", 512, 512, -1))
	n, err := f.ReadAt(got, 100)
	require.Equal(t, 412, n)
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, m.Rename("/f", "/g"))
	m = m.Crash(newRand(t))
	f, err = m.OpenWrite("/f")
	if err != nil {
		f, err = m.OpenWrite("/g")
	}
	require.NoError(t, err)
	err = vfs.Fault("test", vfs.ReadFull(f, got, 0))
	require.Equal(t, fault.Corruption, fault.KindOf(err))
	require.True(t, vfs.Unreadable(err))
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, vfs.ReadFull(f, got[:512], 0))

	_, err = f.WriteAt(block(2)[:256], 600)
	require.NoError(t, err)
	require.NoError(t, vfs.ReadFull(f, got[:256], 600), "written over")
	require.True(t, vfs.Unreadable(vfs.ReadFull(f, got[:257], 600)))
	require.NoError(t, f.Truncate(512))
	require.NoError(t, f.Truncate(1024))
	require.NoError(t, vfs.ReadFull(f, got, 0))
	require.False(t, vfs.Unreadable(vfs.ReadFull(f, got, 1)), "the end is no fault of the disk")
}
