package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/blob/s3"
	"github.com/understudy-dr/understudy/internal/blob/s3test"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

const (
	page     = 256 << 10
	smallest = 32 * page
)

// remote is the expensive store: it counts what is asked of it, and can be made to wait or fail.
type remote struct {
	blob.Store
	reads, bytes atomic.Int64
	before       func(ctx context.Context, name string, off int64, n int) error
}

func (r *remote) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	r.reads.Add(1)
	r.bytes.Add(int64(len(p)))
	if r.before != nil {
		if err := r.before(ctx, name, off, len(p)); err != nil {
			return err
		}
	}
	return r.Store.ReadAt(ctx, name, p, off)
}

func newRemote(t testing.TB) *remote {
	t.Helper()
	d, err := dir.New(vfstest.New(), "/remote")
	require.NoError(t, err)
	return &remote{Store: d}
}

func open(t testing.TB, store blob.Store, cfg cache.Config) *cache.Store {
	t.Helper()
	s, err := cache.New(store, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func small(f vfs.FS) cache.Config { return cache.Config{FS: f, Dir: "/cache", Bytes: smallest} }

func TestSuite(t *testing.T) {
	t.Run("over a directory", func(t *testing.T) {
		blobtest.Suite(t, func(t *testing.T) blob.Store { return open(t, newRemote(t), small(vfstest.New())) }, 9<<20)
	})
	t.Run("over S3", func(t *testing.T) {
		server := s3test.Start(t)
		blobtest.Suite(t, func(t *testing.T) blob.Store {
			bucket, err := s3.New(t.Context(), s3.Config{
				Endpoint: server.Endpoint, Bucket: s3test.Bucket, Prefix: t.Name(), PathStyle: true,
				AccessKeyID: s3test.AccessKey, SecretAccessKey: s3test.SecretKey,
			})
			require.NoError(t, err)
			return open(t, bucket, cache.Config{FS: vfs.OS, Dir: filepath.Join(t.TempDir(), "cache"), Bytes: smallest})
		}, 9<<20)
	})
}

func read(t testing.TB, s blob.Store, name string, data []byte, off, n int) {
	t.Helper()
	p := make([]byte, n)
	require.NoError(t, s.ReadAt(t.Context(), name, p, int64(off)))
	require.True(t, bytes.Equal(data[off:off+n], p), "%s at %d: wrong bytes", name, off)
}

func TestReadsOnce(t *testing.T) {
	r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), 10*page+77)
	require.NoError(t, blob.Put(t.Context(), r, "o", data))
	s := open(t, r, small(vfstest.New()))
	read(t, s, "o", data, 5*page-100, 200)
	require.EqualValues(t, 1, r.reads.Load(), "two pages in one request")
	require.EqualValues(t, 2*page, r.bytes.Load())
	read(t, s, "o", data, 4*page, 2*page)
	read(t, s, "o", data, 10*page, 77)
	require.EqualValues(t, 2, r.reads.Load())
	read(t, s, "o", data, 10*page+1, 76)
	read(t, s, "o", data, 5*page+100_000, 70_000)
	require.EqualValues(t, 2, r.reads.Load())
	read(t, s, "o", data, 0, len(data))
	require.EqualValues(t, 4, r.reads.Load(), "what lies before and after the two pages")
}

func TestKeepsWhatIsWritten(t *testing.T) {
	r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), 3*page+1)
	s := open(t, r, small(vfstest.New()))
	require.NoError(t, blob.Put(t.Context(), s, "o", data))
	read(t, s, "o", data, 0, len(data))
	require.Zero(t, r.reads.Load())
	w, err := s.Create(t.Context(), "aborted")
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.EqualValues(t, 7*page, s.Stats().Bytes)
	w.Abort()
	require.EqualValues(t, 4*page, s.Stats().Bytes)
	require.NoError(t, s.Delete(t.Context(), "o"))
	require.Zero(t, s.Stats().Bytes)
	require.NoError(t, blob.Put(t.Context(), s, "o", data[1:]), "another object of the name")
	read(t, s, "o", data[1:], 0, len(data)-1)
}

func TestBoundedAndLeastRecentlyUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := newRemote(t), vfstest.New()
		data := blobtest.Bytes(blobtest.NewRand(t), 100*page)
		require.NoError(t, blob.Put(t.Context(), r, "big", data))
		require.NoError(t, blob.Put(t.Context(), r, "hot", data[:page]))
		s := open(t, r, small(m))
		for i := 99; i >= 0; i-- { // backwards: nothing is fetched ahead
			read(t, s, "big", data, i*page, 10)
			read(t, s, "hot", data[:page], 0, 10)
			synctest.Wait()
		}
		require.EqualValues(t, 101, r.reads.Load(), "what is used stays")
		require.LessOrEqual(t, m.Used(), int64(smallest))
		require.EqualValues(t, smallest, s.Stats().Bytes)
		for i := 30; i >= 0; i-- {
			read(t, s, "big", data, i*page, 10)
		}
		require.EqualValues(t, 101, r.reads.Load(), "the last ones are there")
		read(t, s, "big", data, 50*page, 10)
		require.EqualValues(t, 102, r.reads.Load())
	})
}

func TestReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), 40*page)
		require.NoError(t, blob.Put(t.Context(), r, "o", data))
		s := open(t, r, small(vfstest.New()))
		for off := 0; off < len(data); off += 32 << 10 {
			read(t, s, "o", data, off, 32<<10)
			synctest.Wait()
		}
		st := s.Stats()
		require.EqualValues(t, 2, st.Misses, "the first two pages: %+v", st)
		require.EqualValues(t, 38, st.Ahead)
		require.Less(t, r.reads.Load(), int64(14), "several pages in one request")
		require.EqualValues(t, len(data), r.bytes.Load(), "nothing is fetched twice")
	})
}

// Readers of a page that is on its way wait for it; one that leaves takes nothing away from the others.
func TestOneRequestForManyReaders(t *testing.T) {
	r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), page)
	require.NoError(t, blob.Put(t.Context(), r, "o", data))
	s := open(t, r, small(vfstest.New()))
	_, err := s.Stat(t.Context(), "o")
	require.NoError(t, err)
	arrived, release := make(chan struct{}), make(chan struct{})
	r.before = func(ctx context.Context, _ string, _ int64, _ int) error {
		close(arrived)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- s.ReadAt(ctx, "o", make([]byte, 10), 0) }()
	<-arrived
	leave()
	require.ErrorIs(t, <-left, context.Canceled)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			p := make([]byte, 1000)
			if err := s.ReadAt(t.Context(), "o", p, int64(i)); err != nil || !bytes.Equal(p, data[i:i+1000]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	for s.Stats().Hits < 8 { // they wait on the same request
		runtime.Gosched()
	}
	close(release)
	group.Wait()
	require.EqualValues(t, 1, r.reads.Load())
}

// An object is deleted while its pages are on their way into the file: none stays, and its name is free.
func TestDeletedWhileFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := newRemote(t), vfstest.New()
		data := blobtest.Bytes(blobtest.NewRand(t), 4*page)
		require.NoError(t, blob.Put(t.Context(), r, "o", data))
		s := open(t, r, small(m))
		writes := 0
		m.OnOp(func(op vfstest.Op) error {
			if op.Kind == "write" {
				writes++
				if writes == 2 {
					return s.Delete(context.Background(), "o")
				}
			}
			return nil
		})
		read(t, s, "o", data, 0, len(data))
		synctest.Wait()
		require.Equal(t, 2, writes, "what nobody can read is not written")
		require.Zero(t, s.Stats().Bytes)
		require.NoError(t, blob.Put(t.Context(), r, "o", data[1:]))
		read(t, s, "o", data[1:], 0, len(data)-1)
	})
}

// What the store refuses is refused, and forgotten.
func TestErrorsAreNotKept(t *testing.T) {
	r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), page)
	require.NoError(t, blob.Put(t.Context(), r, "o", data))
	s := open(t, r, small(vfstest.New()))
	r.before = func(context.Context, string, int64, int) error { return fault.New(fault.Transient, "remote", "down") }
	err := s.ReadAt(t.Context(), "o", make([]byte, 1), 0)
	require.Equal(t, fault.Transient, fault.KindOf(err))
	r.before = nil
	read(t, s, "o", data, 0, page)
}

func TestDamagedPagesAreFetchedAgain(t *testing.T) {
	tmp := t.TempDir()
	r, data := newRemote(t), blobtest.Bytes(blobtest.NewRand(t), 4*page)
	require.NoError(t, blob.Put(t.Context(), r, "o", data))
	s := open(t, r, cache.Config{FS: vfs.OS, Dir: tmp, Bytes: smallest})
	read(t, s, "o", data, 0, len(data))
	waitBytes(t, s, 4*page)
	f, err := os.OpenFile(filepath.Join(tmp, "pages"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	flip(t, f, 2*page+100_000)
	read(t, s, "o", data, 0, len(data))
	require.EqualValues(t, 1, s.Stats().Damaged)
	require.EqualValues(t, 2, r.reads.Load())
	waitBytes(t, s, 4*page)
	require.NoError(t, f.Truncate(page))
	read(t, s, "o", data, 0, len(data))
	require.EqualValues(t, 4, s.Stats().Damaged)
}

func flip(t *testing.T, f *os.File, off int64) {
	var b [1]byte
	_, err := f.ReadAt(b[:], off)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], off)
	require.NoError(t, err)
}

// waitBytes waits until what was fetched is in the file.
func waitBytes(t testing.TB, s *cache.Store, want int64) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Stats().Bytes == want }, 10*time.Second, time.Millisecond)
}

// A full directory costs nothing but speed, and is used again when there is room.
func TestFullDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := newRemote(t), vfstest.New()
		data := blobtest.Bytes(blobtest.NewRand(t), 20*page)
		require.NoError(t, blob.Put(t.Context(), r, "o", data))
		m.SetCapacity(3*page + 1000)
		s := open(t, r, small(m))
		for i := 19; i >= 0; i-- {
			read(t, s, "o", data, i*page, page)
			synctest.Wait()
		}
		require.EqualValues(t, 20, r.reads.Load())
		require.Positive(t, s.Stats().Unwritten)
		require.EqualValues(t, 3*page, s.Stats().Bytes, "what fits is used")
		for i := range 3 {
			read(t, s, "o", data, i*page, page)
			synctest.Wait()
		}
		require.EqualValues(t, 20, r.reads.Load(), "for what was read last")
		m.SetCapacity(1 << 40)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the bubble's clock
		for i := 19; i >= 0; i-- {
			read(t, s, "o", data, i*page, page)
			synctest.Wait()
		}
		require.EqualValues(t, 20*page, s.Stats().Bytes)
	})
}

func TestKeepsRoomFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := newRemote(t), vfstest.New()
		data := blobtest.Bytes(blobtest.NewRand(t), 20*page)
		require.NoError(t, blob.Put(t.Context(), r, "o", data))
		m.SetCapacity(10 * page)
		cfg := small(m)
		cfg.KeepFree = 4 * page
		s := open(t, r, cfg)
		for i := 19; i >= 0; i-- {
			read(t, s, "o", data, i*page, page)
			synctest.Wait()
		}
		require.EqualValues(t, 6*page, m.Used())
		require.EqualValues(t, 6*page, s.Stats().Bytes)
	})
}

func TestOpensEmptyAndAlone(t *testing.T) {
	m := vfstest.Restore(map[string][]byte{"/cache/pages": []byte("left by a crash"), "/cache/other": []byte("not ours")}, "/cache")
	s, err := cache.New(newRemote(t), small(m))
	require.NoError(t, err)
	_, err = cache.New(newRemote(t), small(m))
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NoError(t, s.Close())
	_, err = m.Stat("/cache/pages")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = m.Stat("/cache/other")
	require.NoError(t, err)
	_, err = cache.New(newRemote(t), cache.Config{FS: m, Dir: "/cache", Bytes: 1000})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	open(t, newRemote(t), small(m))
}

// flaky is a file system whose files fail now and then, and return damage.
type flaky struct {
	vfs.FS
	dice func(n int) bool // one of n
}

type flakyFile struct {
	vfs.File
	dice func(n int) bool
}

func (f flaky) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return flakyFile{file, f.dice}, err
}

func (f flakyFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	switch {
	case f.dice(30):
		return 0, errors.New("input/output error")
	case n > 0 && f.dice(30):
		p[n/2] ^= 1
	}
	return n, err
}

func (f flakyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.dice(30) {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.New("input/output error")
	}
	return f.File.WriteAt(p, off)
}

// Readers, writers and deleters at random, in a cache too small for them, on a disk that fails and lies.
func TestRandomOnBadDisk(t *testing.T) {
	rng := blobtest.NewRand(t)
	back, err := dir.New(vfs.OS, filepath.Join(t.TempDir(), "remote"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, back.Close()) })
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(rng.Uint64(), 0))
	disk := flaky{vfs.OS, func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n) == 0
	}}
	s := open(t, back, cache.Config{FS: disk, Dir: t.TempDir(), Bytes: smallest})
	var group sync.WaitGroup
	for w := range 4 {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		group.Go(func() {
			if err := exercise(t.Context(), s, own, fmt.Sprint(w)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	st := s.Stats()
	t.Logf("%+v", st)
	require.Positive(t, st.Damaged)
	require.Positive(t, st.Hits)
	require.Zero(t, st.Bytes, "everything was deleted")
}

// exercise writes, reads and deletes objects of one name, which nobody else has.
func exercise(ctx context.Context, s blob.Store, rng *rand.Rand, name string) error {
	for range 5 {
		data := blobtest.Bytes(rng, 1+rng.IntN(20*page))
		if err := blob.Put(ctx, s, name, data); err != nil {
			return err
		}
		at := 0
		for range 60 {
			n := 1 + rng.IntN(min(len(data), 2*page))
			if at+n > len(data) || rng.IntN(4) == 0 {
				at = rng.IntN(len(data) - n + 1)
			}
			p := make([]byte, n)
			if err := s.ReadAt(ctx, name, p, int64(at)); err != nil {
				return err
			}
			if !bytes.Equal(data[at:at+n], p) {
				return fmt.Errorf("%s at %d: wrong bytes", name, at)
			}
			at += n
		}
		if err := s.Delete(ctx, name); err != nil {
			return err
		}
		if _, err := s.Stat(ctx, name); !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("%s after its removal: %w", name, err)
		}
	}
	return nil
}
