package backup

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/location"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

var scope = state.Scope{Account: "123456789012", Service: state.MGN}

// installation is what serve makes in a data directory.
type installation struct {
	store     state.Store
	keys      *access.Keys
	authority *pki.Authority
}

func open(t *testing.T, c Config) installation {
	t.Helper()
	require.NoError(t, os.MkdirAll(c.DataDir, 0o700))
	var i installation
	var err error
	i.authority, err = pki.Open(filepath.Join(c.DataDir, "pki"))
	require.NoError(t, err)
	where, err := location.Find(c.DataDir, c.StateURL)
	require.NoError(t, err)
	i.store, err = where.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.store.Close()) })
	i.keys, err = access.Open(i.store, filepath.Join(c.DataDir, "keys"))
	require.NoError(t, err)
	return i
}

// busy writes two records to the same value in every transaction until it is stopped.
func busy(t *testing.T, s state.Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done, begun := make(chan error, 1), make(chan struct{})
	other := state.Scope{Account: scope.Account, Service: state.DRS}
	go func() {
		for n := int64(1); ; n++ {
			err := s.Update(ctx, func(tx state.Tx) error {
				at := time.Unix(n, 0)
				if err := tx.PutInitialised(ctx, scope, at); err != nil {
					return err
				}
				return tx.PutInitialised(ctx, other, at)
			})
			if ctx.Err() != nil {
				err = nil
			}
			if err != nil || ctx.Err() != nil {
				done <- err
				return
			}
			if n == 3 {
				close(begun)
			}
		}
	}()
	<-begun
	return func() { cancel(); require.NoError(t, <-done) }
}

func requireConsistent(t *testing.T, s state.Store) {
	require.NoError(t, s.View(t.Context(), func(r state.Reader) error {
		a, err := r.Initialised(t.Context(), scope)
		require.NoError(t, err)
		b, err := r.Initialised(t.Context(), state.Scope{Account: scope.Account, Service: state.DRS})
		require.NoError(t, err)
		require.Equal(t, a, b)
		return nil
	}))
}

// TestBackupOfARunningInstallation moves one that is being written to from every kind of database to every other.
func TestBackupOfARunningInstallation(t *testing.T) {
	server := statetest.StartPostgres(t)
	urls := map[string]func(name string) string{
		"sqlite":   func(string) string { return "" },
		"postgres": server.Database,
	}
	for from, fromURL := range urls {
		for to, toURL := range urls {
			t.Run(from+" to "+to, func(t *testing.T) {
				source := Config{filepath.Join(t.TempDir(), "data"), fromURL(t.Name() + "from")}
				was := open(t, source)
				key, err := was.keys.Create(t.Context(), scope.Account, "admin", true)
				require.NoError(t, err)
				require.NoError(t, os.Mkdir(filepath.Join(source.DataDir, "journals"), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(source.DataDir, "journals", "frames"), []byte("big"), 0o600))
				stop := busy(t, was.store)
				file := filepath.Join(t.TempDir(), "backup")
				r, err := Save(t.Context(), Config{DataDir: source.DataDir}, file, nil) // it remembers its database
				stop()
				require.NoError(t, err)
				require.Equal(t, []string{"journals"}, r.LeftOut)
				require.Positive(t, r.Records)
				requireRestored(t, file, toURL(t.Name()+"to"), key, was)
			})
		}
	}
}

func requireRestored(t *testing.T, file, url string, key control.AccessKey, was installation) {
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "there are keys in it")
	target := Config{filepath.Join(t.TempDir(), "new", "data"), url}
	_, err = Restore(t.Context(), target, file, nil)
	require.NoError(t, err)
	is := open(t, Config{DataDir: target.DataDir}) // it remembers its database
	requireConsistent(t, is.store)
	got, err := is.keys.Lookup(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, key, got)
	require.True(t, was.authority.Pool().Equal(is.authority.Pool()))
	for _, name := range []string{"pki", "keys"} {
		info, err := os.Stat(filepath.Join(target.DataDir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	_, err = Restore(t.Context(), target, file, nil)
	require.True(t, fault.Is(err, fault.Conflict), "a data directory in use: %v", err)
	if url == "" {
		return
	}
	elsewhere := Config{filepath.Join(t.TempDir(), "other"), url}
	_, err = Restore(t.Context(), elsewhere, file, nil)
	require.True(t, fault.Is(err, fault.Conflict), "a database in use: %v", err)
	require.NoDirExists(t, elsewhere.DataDir)
}

// saved is a small backup in memory.
func saved(t *testing.T) []byte {
	c := Config{DataDir: filepath.Join(t.TempDir(), "data")}
	i := open(t, c)
	_, err := i.keys.Create(t.Context(), scope.Account, "admin", true)
	require.NoError(t, err)
	var out bytes.Buffer
	_, err = Save(t.Context(), c, "-", &out)
	require.NoError(t, err)
	return out.Bytes()
}

// unpacked is the archive in a backup; nil when it cannot be had.
func unpacked(b []byte) []byte {
	z, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	defer z.Close()
	out, err := io.ReadAll(z)
	if err != nil {
		return nil
	}
	return out
}

func TestDamageIsFound(t *testing.T) {
	whole := saved(t)
	seed, err := strconv.ParseUint(os.Getenv("UNDERSTUDY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	damage := map[string]func(n int) []byte{
		"cut short": func(n int) []byte { return whole[:n] },
		"flipped":   func(n int) []byte { b := bytes.Clone(whole); b[n] ^= 1 << rng.IntN(8); return b },
	}
	for name, cause := range damage {
		for range 40 {
			at := rng.IntN(len(whole))
			parent, bad := t.TempDir(), cause(at)
			if bytes.Equal(unpacked(bad), unpacked(whole)) {
				continue // compressed data has a few bits that mean nothing
			}
			_, err := Restore(t.Context(), Config{DataDir: filepath.Join(parent, "data")}, "-", bytes.NewReader(bad))
			require.Error(t, err, "%s at %d of %d", name, at, len(whole))
			require.NotEqual(t, fault.Unknown, fault.KindOf(err), "%v", err)
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			require.Empty(t, left, "%s at %d", name, at)
		}
	}
	_, err = Restore(t.Context(), Config{DataDir: filepath.Join(t.TempDir(), "data")}, "-", bytes.NewReader(whole))
	require.NoError(t, err)
}

func TestABackupNeverReplacesAFile(t *testing.T) {
	c := Config{DataDir: filepath.Join(t.TempDir(), "data")}
	open(t, c)
	file := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	_, err := Save(t.Context(), c, file, io.Discard)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	_, err = Save(t.Context(), Config{DataDir: t.TempDir()}, filepath.Join(t.TempDir(), "backup"), nil)
	require.True(t, fault.Is(err, fault.NotFound), "no installation is there: %v", err)
}

func TestOnlySmallRegularFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "keys", "link")))
	_, err := settled(dir)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
}

// TestAChangeIsSeen: a file replaced by another of the same size and time is another one.
func TestAChangeIsSeen(t *testing.T) {
	dir := t.TempDir()
	key, at := filepath.Join(dir, "credentials"), time.Unix(1, 0)
	write := func(path, data string) {
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	write(key, "old")
	before, err := stamps(dir)
	require.NoError(t, err)
	write(key+".new", "new")
	require.NoError(t, os.Rename(key+".new", key))
	after, err := stamps(dir)
	require.NoError(t, err)
	require.Len(t, after, 1)
	require.NotEqual(t, before, after)
}
