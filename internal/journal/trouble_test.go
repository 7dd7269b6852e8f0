package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

// Power fails at every operation of bringing a journal of format 1 to format 2, and of what follows: the next opening goes on.
func TestUpgradeCrashes(t *testing.T) {
	files := map[string][]byte{}
	list, err := os.ReadDir("testdata/v1")
	require.NoError(t, err)
	for _, f := range list {
		files[simDir+"/"+f.Name()], err = os.ReadFile(filepath.Join("testdata/v1", f.Name()))
		require.NoError(t, err)
	}
	rng := newRand(1)
	o := Options{Keys: testKeys, Log: quiet}
	for n, crashed := 1, true; crashed; n++ {
		fs := vfstest.Restore(files, simDir)
		fs.CrashAt(n)
		j, err := Open(t.Context(), fs, simDir, o)
		for did := true; did && err == nil; {
			did, err = j.Maintain(t.Context(), Limits{})
		}
		if crashed = err != nil; crashed {
			require.ErrorIs(t, err, vfstest.ErrCrashed)
		}
		if j != nil {
			_ = j.Close()
		}
		j, err = Open(t.Context(), fs.Crash(rng), simDir, o)
		require.NoError(t, err, n)
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
		require.NoError(t, j.Close())
	}
}

// Every operation of the local disk fails once while the journal is maintained.
func TestEveryOperationOfTheDiskFailsOnce(t *testing.T) {
	for n, failed := 1, true; failed; n += 2 {
		failed = false
		h := newHistory(t, Options{SegmentBytes: 1000, LayerBytes: 2500})
		h.write(12, 0)
		at := h.fs.Ops() + n
		h.fs.OnOp(func(op vfstest.Op) error {
			if op.N == at {
				failed = true
				return errIO
			}
			return nil
		})
		h.settled()
		h.fs.OnOp(nil)
		h.write(8, 0)
		h.settled()
		h.truth("failed", n)
		rng := newRand(uint64(n))
		_ = h.j.Close()
		h.fs = h.fs.Crash(rng)
		var err error
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		h.settled()
		h.truth("crashed", n)
		require.NoError(t, h.j.Close())
	}
}

// settled seals, retains and maintains until nothing fails any more.
func (h *history) settled() {
	for h.j.Seal() != nil {
		_ = h.j.Sync()
	}
	for h.j.Retain(Retention{Since: time.Unix(0, 108), Points: []Point{{Epoch: 1, Position: 105}}}) != nil {
	}
	h.calm()
}

// Maintenance is stopped at every operation: by who called it, and by closing the journal.
func TestMaintainIsStopped(t *testing.T) {
	for _, closing := range []bool{false, true} {
		for n, stopped := 1, true; stopped; n += 3 {
			stopped = false
			h, store := newRemote(t, Options{SegmentBytes: 1000, LayerBytes: 2500})
			h.write(20, 0)
			require.NoError(t, h.j.Seal())
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			count := 0
			store.before = func(string, string) error {
				if count++; count != n {
					return nil
				}
				stopped = true
				if !closing {
					cancel()
					return nil
				}
				wg.Go(func() { _ = h.j.Close() })
				<-h.j.stop.Done()
				return nil
			}
			var err error
			for did := true; did && err == nil; {
				did, err = h.j.Maintain(ctx, Limits{Urgent: true, Pace: func(ctx context.Context, _ int64) error { return ctx.Err() }})
			}
			cancel()
			wg.Wait()
			store.before = nil
			if err != nil {
				require.Contains(t, []fault.Kind{fault.Transient, fault.Conflict}, fault.KindOf(err), err)
			}
			if closing && stopped {
				h.j, err = Open(t.Context(), h.fs, simDir, h.o)
				require.NoError(t, err)
			}
			quiesce(t, h.j)
			require.Equal(t, h.named(), h.stored())
			h.same(h.pos)
			require.NoError(t, h.j.Close())
		}
	}
}

// A segment that was flushed becomes the next one, also in spite of a crash; where room is short it is given back.
func TestSpares(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400})
	spares := func() int {
		list, err := h.j.spares()
		require.NoError(t, err)
		return len(list)
	}
	h.write(30, 0)
	quiesceAtEase(t, h.j)
	require.Equal(t, maxSpares, spares())
	h.write(2, 0)
	require.NoError(t, h.j.Seal())
	h.write(2, 4)
	require.Less(t, spares(), maxSpares, "one is in use")
	for seed := range uint64(20) {
		_ = h.j.Close()
		h.fs = h.fs.Crash(newRand(seed))
		var err error
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		h.write(1, 0)
		h.same(h.pos)
		quiesceAtEase(t, h.j)
	}
	quiesce(t, h.j)
	require.Zero(t, spares())
	h.write(5, 0)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// quiesceAtEase is quiesce with room to spare.
func quiesceAtEase(t *testing.T, j *Journal) {
	require.NoError(t, j.Seal())
	for did := true; did; {
		var err error
		did, err = j.Maintain(t.Context(), Limits{})
		require.NoError(t, err)
	}
}

// A source writes, the journal is maintained, retained, scrubbed and read, all at once.
func TestAllAtOnce(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400, LayerBytes: 3000})
	var mu sync.Mutex // of h.states
	done := make(chan struct{})
	var wg sync.WaitGroup
	var errs [4]error
	until := func(i int, step func() error) {
		wg.Go(func() {
			for errs[i] == nil {
				select {
				case <-done:
					return
				default:
					errs[i] = step()
				}
			}
		})
	}
	until(0, func() error {
		_, err := h.j.Maintain(t.Context(), Limits{Urgent: true})
		return err
	})
	until(1, func() error {
		_, err := h.j.Scrub(t.Context(), Limits{})
		return err
	})
	until(2, func() error {
		p, err := h.j.Latest()
		if err != nil {
			return err
		}
		return h.j.Retain(Retention{Since: p.Time.Add(-20)})
	})
	until(3, func() error {
		p, err := h.j.Latest()
		if err != nil {
			return err
		}
		if p, err = h.j.At(p.Time); err != nil {
			if fault.Is(err, fault.NotFound) {
				return nil // let go of meanwhile
			}
			return err
		}
		got, err := h.read(h.j, p, 0, len(h.disk))
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if want, ok := h.states[p.Position]; err == nil && ok && !bytes.Equal(want, got) {
			return errors.New("wrong data")
		}
		return err
	})
	for n := range 300 {
		h.pos++
		sector := uint64(n*2) % 40
		fill := byte(h.pos)
		mu.Lock()
		copy(h.disk[sector*512:], bytes.Repeat([]byte{fill}, 1024))
		h.states[h.pos] = bytes.Clone(h.disk)
		mu.Unlock()
		h.append(dataFrame(1, h.pos, sector, fill))
	}
	close(done)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	quiesce(t, h.j)
	got, err := h.read(h.j, h.at(h.pos), 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.disk, got)
	require.NoError(t, h.j.Close())
}
