package journal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// newHooked is a history in the local directory through a store that can be watched.
func newHooked(t *testing.T, o Options) (*history, *hooked) {
	store, err := dir.New(vfstest.New(), "/blobs")
	require.NoError(t, err)
	s := &hooked{Store: store}
	o.Blobs = s
	return newHistory(t, o), s
}

// The name of a new catalogue is there, but not durable. The journal is opened again without a crash, works, and then the
// machine crashes and forgets the name.
func TestNothingIsDeletedOnTheWordOfTheCache(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		rng := newRand(seed)
		h := newHistory(t, Options{SegmentBytes: 1400})
		h.write(30, 0)
		require.NoError(t, h.j.Seal())
		h.flushOnly()
		renamed := false
		h.fs.OnOp(func(op vfstest.Op) error {
			renamed = renamed || op.Kind == "rename" && filepath.Base(op.Name) == catName
			if op.Kind == "syncdir" && renamed {
				return errIO
			}
			return nil
		})
		var err error
		for err == nil {
			_, err = h.j.Maintain(t.Context(), Limits{})
		}
		require.ErrorIs(t, err, errIO)
		require.NoError(t, h.j.Close())
		h.fs.OnOp(nil)
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		h.fs.CrashAt(1 + rng.IntN(30))
		for did := true; did && err == nil; {
			did, err = h.j.Maintain(t.Context(), Limits{})
		}
		_ = h.j.Close()
		h.fs = h.fs.Crash(rng)
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		h.same(h.pos)
		require.NoError(t, h.j.Close())
	}
}

// One copy of the catalogue is a generation behind when the machine dies, and later the other is damaged.
func TestDamageToOneCopyOfTheCatalogueAfterACrash(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	h.fs.OnOp(func(op vfstest.Op) error {
		if strings.Contains(op.Name, catCopyName) {
			return vfstest.ErrCrashed
		}
		return nil
	})
	var err error
	for err == nil {
		_, err = h.j.Maintain(t.Context(), Limits{})
	}
	_ = h.j.Close()
	h.fs = h.fs.Crash(newRand(1))
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	for range 3 {
		_, err = h.j.Maintain(t.Context(), Limits{})
		require.NoError(t, err)
	}
	require.NoError(t, h.j.Close())
	h.flip(simDir+"/"+catName, 100)
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// A directory that says it is a journal but has no catalogue is damaged. To say that there is none would be to have another
// made in its place.
func TestNoCatalogueIsDamage(t *testing.T) {
	h := newHistory(t, Options{})
	require.NoError(t, h.j.Close())
	require.NoError(t, errors.Join(h.fs.Remove(simDir+"/"+catName), h.fs.Remove(simDir+"/"+catCopyName)))
	_, err := Open(t.Context(), h.fs, simDir, h.o)
	require.Equal(t, fault.Corruption, fault.KindOf(err), err)
}

// Everything is merged to nothing while it is surveyed for what can be reclaimed.
func TestSurveyOfNothing(t *testing.T) {
	h := newHistory(t, Options{})
	h.append(zeroFrame(1, 101, 0))
	h.pos = 101
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	h.j.survey.running = true
	h.j.upkeep.Lock()
	c := h.j.catalogue().clone()
	c.Runs = nil
	require.NoError(t, h.j.commit(t.Context(), c))
	h.j.upkeep.Unlock()
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
}

// A point is let go of, and what it showed is merged away, while a branch is made to stand on it.
func TestBranchOnAPointThatGoes(t *testing.T) {
	h, store := newHooked(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	quiesce(t, h.j)
	at := h.at(115)
	h.reopen() // forget what was looked up
	o := h.o
	o.Parents = func(string) (*Journal, error) { return h.j, nil }
	o.Blobs = nil
	met := false
	store.before = func(op, name string) error {
		if met || op != "read" || !strings.HasPrefix(name, "timeline-") {
			return nil
		}
		met = true
		require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 128)}))
		if h.j.upkeep.TryLock() { // else nothing is merged now
			h.j.upkeep.Unlock()
			quiesce(t, h.j)
		}
		return nil
	}
	b, err := h.j.CreateBranch(t.Context(), at, h.fs, "/branch", o)
	require.True(t, met)
	store.before = nil
	if err != nil {
		require.Equal(t, fault.NotFound, fault.KindOf(err), err)
		return
	}
	quiesce(t, h.j)
	begin, _ := b.BranchPoint()
	got, err := h.read(b, begin, 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[115], got)
	require.NoError(t, errors.Join(b.Close(), h.j.Close()))
}

// A branch goes on when its parent was closed and opened again.
func TestParentIsOpenedAgain(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(10, 0)
	o := h.o
	o.Parents = func(string) (*Journal, error) { return h.j, nil }
	b, err := h.j.CreateBranch(t.Context(), h.at(105), h.fs, "/branch", o)
	require.NoError(t, err)
	h.reopen()
	begin, _ := b.BranchPoint()
	got, err := h.read(b, begin, 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[105], got)
	require.NoError(t, errors.Join(b.Close(), h.j.Close()))
}

// opening calls back before a file is opened.
type opening struct {
	vfs.FS
	before func(name string)
}

func (o *opening) Open(name string) (vfs.File, error) {
	if o.before != nil {
		o.before(name)
	}
	return o.FS.Open(name)
}

// A segment becomes a layer, and is removed, while a position is looked up in it.
func TestLookupWhileASegmentIsFlushed(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(10, 0)
	require.NoError(t, h.j.Close())
	fs := &opening{FS: h.fs}
	var err error
	h.j, err = Open(t.Context(), fs, simDir, h.o)
	require.NoError(t, err)
	require.NoError(t, h.j.Seal())
	for _, look := range []func() (Point, error){
		func() (Point, error) { return h.j.Check(105) },
		func() (Point, error) { return h.j.At(time.Unix(0, 115)) },
		func() (Point, error) { return h.j.Before(time.Unix(0, 125)) },
	} {
		fs.before = func(name string) {
			if filepath.Ext(name) == idxSuffix {
				fs.before = nil
				quiesce(t, h.j)
			}
		}
		p, err := look()
		require.NoError(t, err)
		require.Equal(t, h.pos-5, p.Position)
		require.Nil(t, fs.before, "it was looked up in the segment")
		h.write(10, 0)
		require.NoError(t, h.j.Seal())
	}
	require.NoError(t, h.j.Close())
}

// Files that cannot be deleted do not keep segments from becoming layers.
func TestDeletesFail(t *testing.T) {
	h, store := newHooked(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	require.NoError(t, h.j.Seal())
	store.before = failing("delete", "")
	for range 2 {
		for did := true; did; {
			var err error
			if did, err = h.j.Maintain(t.Context(), Limits{}); !did {
				require.ErrorIs(t, err, errIO, "it is told, when there is nothing else to do")
			}
		}
		require.Zero(t, h.j.Usage().Segments, "all flushed")
		require.LessOrEqual(t, len(h.j.catalogue().Runs), mergeRuns, "and merged")
		h.write(10, 0)
		require.NoError(t, h.j.Seal())
	}
	store.before = nil
	quiesce(t, h.j)
	require.Equal(t, h.named(), h.stored())
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// The disk is full at every size: what a step made for nothing gives its room back, and with a little room more all goes on.
func TestFullDiskGivesItsRoomBack(t *testing.T) {
	for room := int64(0); room < 9000; room += 450 {
		h := newHistory(t, Options{SegmentBytes: 1400, LayerBytes: 2500})
		h.write(20, 0)
		require.NoError(t, h.j.Seal())
		h.fs.SetCapacity(h.fs.Used() + room)
		failed := 0
		for failed < 6 {
			did, err := h.j.Maintain(t.Context(), Limits{Urgent: true})
			if err != nil {
				require.Equal(t, fault.OutOfSpace, fault.KindOf(err), err)
				failed++
			} else if !did {
				break
			}
		}
		if failed > 0 {
			_, _ = h.j.Maintain(t.Context(), Limits{Urgent: true})
			require.LessOrEqual(t, len(h.stored()), len(h.named())+6, "room %d: no more than one step makes", room)
		}
		h.fs.SetCapacity(1 << 30)
		quiesce(t, h.j)
		require.Equal(t, h.named(), h.stored())
		h.same(h.pos)
		require.NoError(t, h.j.Close())
	}
}

// Layers that overlap nothing move from run to run as they are.
func TestLayersMove(t *testing.T) {
	h := newHistory(t, Options{LayerBytes: 3 << 10})
	rng := newRand(1)
	moved := 0
	for range 40 {
		for range 2 + rng.IntN(8) {
			h.scribble(rng, 4*rng.Uint64N(11))
		}
		require.NoError(t, h.j.Seal())
		h.flushOnly()
		for did := true; did; {
			before := map[string]uint64{}
			for i := range h.j.catalogue().Runs {
				for _, ref := range h.j.catalogue().Runs[i].Layers {
					before[ref.Name] = h.j.catalogue().Runs[i].ID
				}
			}
			var err error
			did, err = h.j.Maintain(t.Context(), Limits{Urgent: true})
			require.NoError(t, err)
			for i := range h.j.catalogue().Runs {
				for _, ref := range h.j.catalogue().Runs[i].Layers {
					if id, ok := before[ref.Name]; ok && id != h.j.catalogue().Runs[i].ID {
						moved++
					}
				}
			}
		}
	}
	require.Greater(t, moved, 3)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// scribble writes what does not compress.
func (h *history) scribble(rng *rand.Rand, sector uint64) {
	h.pos++
	content := make([]byte, 2048)
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	var b wire.Builder
	b.Reset(wire.TypeData, h.epoch)
	b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: h.pos, Sector: sector, Bytes: 2048, Time: int64(h.pos)}, content)
	h.append(b.Finish(nil))
	copy(h.disk[sector*512:], content)
	h.states[h.pos] = bytes.Clone(h.disk)
}
