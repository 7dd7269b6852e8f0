package usedblocks

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// running is a disk whose journal is being written: whenever something of the journal is read, its tail has moved on.
type running struct {
	*sparse
	super    int64 // of the journal
	log, end int64
	moves    atomic.Int64 // to come
	sequence atomic.Uint32
}

func (r *running) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.sparse.ReadAt(p, off)
	end := off + int64(n)
	if off <= r.super && r.super+0x1c <= end {
		at := p[r.super-off+0x18:]
		be.PutUint32(at, be.Uint32(at)+r.sequence.Load())
	}
	if off < r.end && r.log < end && r.moves.Add(-1) >= 0 {
		r.sequence.Add(1)
	}
	return n, err
}

// A bitmap that is logged again while the journal is read may be missed where it was and where it is: only a journal whose tail
// stayed says what is not in place.
func TestJournalThatMovesOnProvesNothing(t *testing.T) {
	s := fixture(t, "ext4.img.gz")
	x := &ext{v: &disk{r: s, bytes: s.size}}
	require.NoError(t, x.parse())
	require.NoError(t, x.readDescriptors())
	j, err := x.openJournal(int64(le.Uint32(x.super[0xe0:])))
	require.NoError(t, err)
	p := j.pieces[0]
	require.Greater(t, p.length, int64(2))
	r := &running{sparse: s, super: p.physical * x.block, log: (p.physical + 1) * x.block, end: (p.physical + p.length) * x.block}
	look := func(o Options) ([]Range, Content) {
		free, found, err := Find(t.Context(), r, s.size, o)
		require.NoError(t, err)
		require.Len(t, found, 1)
		return free, found[0]
	}
	r.moves.Store(1 << 40)
	free, found := look(Options{MinFree: 4096, Settle: 20 * time.Millisecond, Poll: time.Millisecond})
	require.ErrorContains(t, found.Err, "tail moved")
	require.Empty(t, free)

	r.moves.Store(10) // a few looks
	free, found = look(Options{MinFree: 4096, Settle: time.Minute, Poll: time.Millisecond})
	require.NoError(t, found.Err)
	require.Equal(t, tryFind(t, s), free)
	require.Negative(t, r.moves.Load())
}

// Mounted without its journal, nothing is written ahead: what the bitmaps call free may be in use after a crash.
func TestExtWithoutItsJournal(t *testing.T) {
	y := systems[0]
	path, dev, dir := y.make(t)
	unmount(t, dir)
	_, found := look(t, path)
	require.NoError(t, found[0].Err)
	mount(t, dev, "rw,noload")
	free, got := find(t, dev)
	require.ErrorContains(t, got.Err, "without its journal")
	require.Empty(t, free)
}
