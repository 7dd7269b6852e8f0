package journal

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

var errIO = errors.New("i/o error")

// hooked is a store of which an operation can fail or be watched before it happens.
type hooked struct {
	blob.Store
	before func(op, name string) error
}

func (s *hooked) do(op, name string) error {
	if s.before == nil {
		return nil
	}
	return s.before(op, name)
}

func (s *hooked) Create(ctx context.Context, name string) (blob.Writer, error) {
	if err := s.do("create", name); err != nil {
		return nil, err
	}
	w, err := s.Store.Create(ctx, name)
	return hookedWriter{w, s, name}, err
}

type hookedWriter struct {
	blob.Writer
	s    *hooked
	name string
}

// Commit that fails may have happened all the same: an answer is lost as easily as a request.
func (w hookedWriter) Commit(ctx context.Context) error {
	if err := w.s.do("commit", w.name); err != nil {
		return err
	}
	return errors.Join(w.Writer.Commit(ctx), w.s.do("committed", w.name))
}

func (s *hooked) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := s.do("read", name); err != nil {
		return err
	}
	return s.Store.ReadAt(ctx, name, p, off)
}

func (s *hooked) List(ctx context.Context, prefix string) ([]blob.Info, error) {
	if err := s.do("list", prefix); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, prefix)
}

func (s *hooked) Delete(ctx context.Context, name string) error {
	if err := s.do("delete", name); err != nil {
		return err
	}
	return s.Store.Delete(ctx, name)
}

// newRemote is a history whose layers are in object storage.
func newRemote(t *testing.T, o Options) (*history, *hooked) {
	store, err := dir.New(vfstest.New(), "/bucket")
	require.NoError(t, err)
	s := &hooked{Store: store}
	o.Blobs, o.Remote = s, true
	return newHistory(t, o), s
}

// failing makes one kind of operation on some names fail, or all kinds.
func failing(op, prefix string) func(string, string) error {
	return func(o, name string) error {
		if (op == "" || o == op) && strings.HasPrefix(name, prefix) {
			return fault.New(fault.Transient, "test", "%w", errIO)
		}
		return nil
	}
}

func (h *history) restore() error {
	h.fs = vfstest.New()
	if err := Restore(h.t.Context(), h.fs, simDir, h.o); err != nil {
		return err
	}
	var err error
	h.j, err = Open(h.t.Context(), h.fs, simDir, h.o)
	return err
}

// same compares all states up to a position.
func (h *history) same(upTo uint64) {
	h.t.Helper()
	for pos := uint64(100); pos <= upTo; pos++ {
		got, err := h.read(h.j, h.at(pos), 0, len(h.disk))
		require.NoError(h.t, err, "at %d", pos)
		require.Equal(h.t, h.states[pos], got, "at %d", pos)
	}
}

// The machine dies when a merge is in the local catalogue and not in the remote one, which names what was merged. It is
// started again, and then its disk dies.
func TestRemoteCatalogueIsNeverWithoutItsFiles(t *testing.T) {
	h, store := newRemote(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	require.GreaterOrEqual(t, len(h.j.catalogue().Runs), mergeRuns)
	store.before = failing("create", remotePrefix)
	var err error
	for err == nil {
		_, err = h.j.Maintain(t.Context(), Limits{})
	}
	require.ErrorIs(t, err, errIO)
	require.Less(t, len(h.j.catalogue().Runs), mergeRuns, "merged, but object storage does not know")
	h.reopen()
	store.before = nil
	require.NoError(t, h.j.Close())
	require.NoError(t, h.restore())
	h.same(h.pos)
	quiesce(t, h.j)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// A directory that comes back from a backup is older than what is in object storage: it is refused, and deletes nothing.
func TestOldCopyDeletesNothing(t *testing.T) {
	h, store := newRemote(t, Options{SegmentBytes: 1400})
	h.write(10, 0)
	quiesce(t, h.j)
	copied := h.fs.Snapshot()
	h.write(20, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	before, err := store.List(t.Context(), "")
	require.NoError(t, err)
	h.fs = vfstest.Restore(copied, simDir)
	_, err = Open(t.Context(), h.fs, simDir, h.o)
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	store.before = failing("list", "")
	old, err := Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err, "what it is cannot be told, and data must be taken in")
	store.before = nil
	for range 3 {
		_, err = old.Maintain(t.Context(), Limits{})
		require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	}
	require.NoError(t, old.Close())
	after, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, h.restore())
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// The bucket is another one, which is empty: nothing is written off, and nothing is done there.
func TestAnotherBucket(t *testing.T) {
	h, store := newRemote(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	right := store.Store
	other, err := dir.New(vfstest.New(), "/bucket")
	require.NoError(t, err)
	store.Store = other
	_, err = Open(t.Context(), h.fs, simDir, h.o)
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	store.before = failing("list", "")
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	store.before = nil
	h.write(10, 0)
	require.NoError(t, h.j.Seal())
	_, err = h.j.Maintain(t.Context(), Limits{})
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	require.NoError(t, h.j.Close())
	left, err := other.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, left)
	store.Store = right
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	quiesce(t, h.j)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// What holds the layers is not mounted: reads fail, but nothing is written off for good.
func TestStoreIsNotThere(t *testing.T) {
	h, store := newHooked(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	quiesce(t, h.j)
	right := store.Store
	other, err := dir.New(vfstest.New(), "/blobs")
	require.NoError(t, err)
	h.reopen()
	store.Store = other
	_, err = h.j.Check(h.pos)
	require.Equal(t, fault.Corruption, fault.KindOf(err), "a missing timeline does not mean that the point was let go of: %v", err)
	for err = nil; err == nil; {
		h.write(10, 0)
		require.NoError(t, h.j.Seal())
		for did := true; did && err == nil; {
			did, err = h.j.Maintain(t.Context(), Limits{Urgent: true})
		}
	}
	require.Equal(t, fault.Transient, fault.KindOf(err), err)
	for _, o := range must(other.List(t.Context(), "")) { // what was flushed meanwhile
		b, err := blob.Get(t.Context(), other, o.Name, 1<<20)
		require.NoError(t, err)
		require.NoError(t, blob.Put(t.Context(), right, o.Name, b))
	}
	store.Store = right
	h.reopen()
	quiesce(t, h.j)
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A journal that was made for the local directory and has no layers yet moves to object storage, with all it takes to
// restore it.
func TestMoveToObjectStorage(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(10, 0)
	require.NoError(t, h.j.Close())
	_, store := newRemote(t, Options{})
	require.NoError(t, Purge(t.Context(), store))
	h.o.Blobs, h.o.Remote = store, true
	var err error
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	require.NoError(t, h.restore())
	h.same(h.pos)
	require.NoError(t, h.j.Close())
	h.o.Blobs, h.o.Remote = nil, false
	_, err = Open(t.Context(), h.fs, simDir, h.o)
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
}

// A new journal does not take the place of one whose directory was lost; what is left of a removed one is no journal.
func TestCreateWhereAJournalIs(t *testing.T) {
	h, store := newRemote(t, Options{SegmentBytes: 1400})
	h.write(20, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	_, err := Create(t.Context(), vfstest.New(), simDir, simDisks, h.o)
	require.Equal(t, fault.Conflict, fault.KindOf(err), err)
	require.NoError(t, h.restore())
	h.same(h.pos)
	require.NoError(t, h.j.Close())

	store.before = failing("delete", remotePrefix)
	require.ErrorIs(t, Purge(t.Context(), store), errIO)
	store.before = nil
	h.fs = vfstest.New()
	h.j, err = Create(t.Context(), h.fs, simDir, simDisks, h.o)
	require.NoError(t, err)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
}

// What was lost with the disk is remembered elsewhere: by the block cache of this process, and by who keeps recovery points. Nothing
// that is made afterwards may be taken for it.
func TestRestoredIsNotTakenForWhatWasLost(t *testing.T) {
	h, store := newRemote(t, Options{Cache: layer.NewCache(1 << 20)})
	h.write(5, 0)
	quiesce(t, h.j)
	durable := h.pos
	store.before = failing("create", remotePrefix)
	h.write(4, 20)
	require.NoError(t, h.j.Seal())
	_, err := h.j.Maintain(t.Context(), Limits{})
	require.ErrorIs(t, err, errIO)
	lost := h.at(h.pos)
	got, err := h.read(h.j, lost, 0, len(h.disk)) // and it is cached
	require.NoError(t, err)
	require.Equal(t, h.disk, got)
	highest := h.j.State().Highest
	require.NoError(t, h.j.Close())
	store.before = nil

	require.NoError(t, h.restore())
	require.Equal(t, durable, h.j.State().Durable)
	require.Greater(t, h.j.State().Highest, highest+1<<30, "a source that starts anew begins above all positions that were lost")
	require.Equal(t, fault.NotFound, fault.KindOf(h.j.Retain(Retention{Points: []Point{lost}})))
	copy(h.disk, h.states[durable])
	h.pos = durable
	for sector := uint64(20); sector < 28; sector += 2 { // of the same shape, with other content
		h.pos++
		h.append(dataFrame(1, h.pos, sector, 0xc0+byte(sector)))
		copy(h.disk[sector*512:], bytes.Repeat([]byte{0xc0 + byte(sector)}, 1024))
		h.states[h.pos] = bytes.Clone(h.disk)
	}
	quiesce(t, h.j)
	h.same(h.pos)
	require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 1<<40)}))
	require.Equal(t, fault.NotFound, fault.KindOf(h.j.Retain(Retention{Points: []Point{{Epoch: 1, Position: 101}}})))
	require.NoError(t, h.j.Close())
}

// The past is let go of up to a point that is not in layers yet, and the disk is lost: the newest state that is in layers is
// there, nothing that was not is made up, and what the source sends next can be recovered.
func TestRetentionBeyondWhatIsRestored(t *testing.T) {
	h, _ := newRemote(t, Options{})
	h.write(10, 0)
	quiesce(t, h.j)
	flushed := h.pos
	h.write(6, 10)
	o := h.o
	o.Blobs, o.Remote = nil, false
	o.Parents = func(string) (*Journal, error) { return h.j, nil }
	b, err := h.j.CreateBranch(t.Context(), h.at(113), h.fs, "/branch", o)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	kept := h.at(112)
	require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 115), Points: []Point{kept}}))
	for did := true; did; {
		did, err = h.j.Maintain(t.Context(), Limits{Urgent: true})
		require.NoError(t, err)
	}
	_, err = h.j.Check(flushed)
	require.Equal(t, fault.NotFound, fault.KindOf(err), "it was let go of")
	require.NoError(t, h.j.Close())
	require.NoError(t, h.restore())
	p, err := h.j.Latest()
	require.NoError(t, err)
	require.Equal(t, flushed, p.Position)
	got, err := h.read(h.j, p, 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[flushed], got)
	for _, gone := range []Point{kept, {Epoch: 1, Position: 113}, {Epoch: 1, Position: 115}} {
		_, err = h.j.View(t.Context(), gone)
		require.Equal(t, fault.NotFound, fault.KindOf(err), "%d: %v", gone.Position, err)
	}
	require.Empty(t, h.j.Branches())
	h.epoch, h.pos = 2, h.j.State().Highest+1
	h.append(epochFrame(t, 2, h.pos), doneFrame(2, h.pos))
	_, err = h.j.Check(h.pos)
	require.NoError(t, err)
	require.NoError(t, h.j.Close())

	h, _ = newRemote(t, Options{}) // the same with nothing in layers
	h.epoch = 2
	h.append(epochFrame(t, 2, 200), doneFrame(2, 200))
	h.pos = 200
	h.write(5, 0)
	require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 203)}))
	for did := true; did; {
		did, err = h.j.Maintain(t.Context(), Limits{Urgent: true})
		require.NoError(t, err)
	}
	require.NoError(t, h.j.Close())
	require.NoError(t, h.restore())
	require.Zero(t, h.j.State().Epoch)
	h.pos = h.j.State().Highest + 1
	h.append(epochFrame(t, 1, h.pos), doneFrame(1, h.pos))
	_, err = h.j.Check(h.pos)
	require.NoError(t, err)
	require.NoError(t, h.j.Close())
}

// Power fails at every operation of Restore; the next one makes the journal all the same. Segments that are there already belong to
// something else.
func TestRestoreCrashes(t *testing.T) {
	h, _ := newRemote(t, Options{SegmentBytes: 1400})
	h.write(12, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	rng := newRand(1)
	for n, done := 1, false; !done; n++ {
		fs := vfstest.New()
		fs.CrashAt(n)
		done = Restore(t.Context(), fs, simDir, h.o) == nil
		h.fs = fs.Crash(rng)
		if err := Restore(t.Context(), h.fs, simDir, h.o); err != nil {
			require.Equal(t, fault.Conflict, fault.KindOf(err), "only if it was done already: %v", err)
		}
		var err error
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		h.same(h.pos)
		require.NoError(t, h.j.Close())
	}
	require.NoError(t, h.restore())
	h.append(epochFrame(t, 2, 1<<50))
	require.NoError(t, h.j.Close())
	require.NoError(t, h.fs.Remove(simDir+"/"+metaName))
	require.Equal(t, fault.Conflict, fault.KindOf(Restore(t.Context(), h.fs, simDir, h.o)))
}

// The newest catalogue in object storage is damaged: an older one is taken, and what is stored next comes after both.
func TestRestoreFromTheCatalogueBefore(t *testing.T) {
	h, store := newRemote(t, Options{})
	h.write(12, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	require.NoError(t, blob.Put(t.Context(), store, remoteCatalogue(1<<20), []byte("damaged")))
	require.NoError(t, h.restore())
	h.same(h.pos)
	h.write(3, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	require.NoError(t, h.restore())
	h.same(h.pos)
	require.NoError(t, h.j.Close())
}

// named is the objects that the catalogue names, sorted.
func (h *history) named() (names []string) {
	return slices.Compact(slices.Sorted(h.j.catalogue().names))
}

// stored is what is in the store.
func (h *history) stored() (names []string) {
	for _, kind := range []string{"layer-", "timeline-"} {
		list, err := h.j.blobs.List(h.t.Context(), kind)
		require.NoError(h.t, err)
		for _, o := range list {
			names = append(names, o.Name)
		}
	}
	return names
}

// calm does what there is to do, whatever fails meanwhile.
func (h *history) calm() {
	for failed := 0; ; {
		did, err := h.j.Maintain(h.t.Context(), Limits{Urgent: true})
		if err != nil {
			require.ErrorIs(h.t, err, errIO)
			failed++
			require.Less(h.t, failed, 10)
		} else if !did {
			return
		}
	}
}

// lifetime is a journal from its flushes to its merges and what retention reclaims.
func (h *history) lifetime() {
	h.write(12, 0)
	for h.j.Seal() != nil {
	}
	h.calm()
	for h.j.Retain(Retention{Since: time.Unix(0, 108), Points: []Point{{Epoch: 1, Position: 105}}}) != nil {
	}
	h.write(8, 0)
	for h.j.Seal() != nil {
	}
	h.calm()
}

// truth is that of a lifetime, in the journal and in its store.
func (h *history) truth(what ...any) {
	h.t.Helper()
	require.Equal(h.t, h.named(), h.stored(), what...)
	positions := append(slices.Sorted(maps.Keys(h.states))[8:], 105)
	for _, pos := range positions {
		got, err := h.read(h.j, h.at(pos), 0, len(h.disk))
		require.NoError(h.t, err, what...)
		require.Equal(h.t, h.states[pos], got, what...)
	}
}

// Every operation of the local disk and of the store fails once. The journal goes on, loses nothing, leaves nothing lying about, and
// what is in object storage is as good as what is on the disk.
func TestEveryOperationFailsOnce(t *testing.T) {
	for n, failed := 1, true; failed; n++ {
		failed = false
		h, store := newRemote(t, Options{SegmentBytes: 1000, LayerBytes: 2500})
		count := 0
		store.before = func(op, name string) error {
			if count++; count == n {
				failed = true
				return fault.New(fault.Transient, "test "+op+" "+name, "%w", errIO)
			}
			return nil
		}
		h.lifetime()
		store.before = nil
		h.truth("store", n)
		require.NoError(t, h.j.Close())
		require.NoError(t, h.restore(), n)
		h.truth("restored", n)
		require.NoError(t, h.j.Close())
	}
}
