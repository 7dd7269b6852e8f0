package journal

import (
	"errors"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

const twigDir = "/twig"

// twig is a branch that is written while its parent goes on.
type twig struct {
	j     *Journal
	id    string
	o     Options
	begin map[uint16][]byte // what it stands on
	disks map[uint16][]byte // what was written and synced
	next  map[uint16][]byte // and what was not synced, it may be
	pos   uint64
	table []wire.Disk
}

// sprout makes the branch at some point, or writes to the one there is.
func (m *model) sprout() bool {
	if m.twig.j != nil {
		return m.grow()
	}
	p, err := m.j.Check(m.src.history[m.rng.IntN(len(m.src.history))].pos)
	if err != nil {
		return !errors.Is(err, vfstest.ErrCrashed)
	}
	v, err := m.j.View(m.t.Context(), p)
	if err != nil {
		return m.survives(err)
	}
	w := twig{begin: map[uint16][]byte{}, disks: map[uint16][]byte{}, pos: 5000, o: m.o, table: v.Disks()}
	w.o.Blobs, w.o.Remote = nil, false
	w.o.Parents = func(id string) (*Journal, error) {
		if id != m.j.ID() {
			return nil, fault.New(fault.NotFound, "test", "no journal %s", id)
		}
		return m.j, nil
	}
	for _, d := range w.table {
		w.begin[d.Index] = make([]byte, d.Bytes)
		if err := v.ReadAt(m.t.Context(), d.Index, w.begin[d.Index], 0); err != nil {
			return m.survives(err)
		}
		w.disks[d.Index] = slices.Clone(w.begin[d.Index])
	}
	require.NoError(m.t, v.Close())
	w.j, err = m.j.CreateBranch(m.t.Context(), p, m.fs, twigDir, w.o)
	if err != nil {
		return m.survives(err)
	}
	w.id = w.j.ID()
	w.next = w.disks
	m.twig = w
	open, err := wire.Message(wire.TypeEpochOpen, 1, w.pos, w.pos, 1, wire.EpochOpen{Capture: "cafe", Disks: w.table})
	require.NoError(m.t, err)
	return m.graft(open, wire.Control(wire.TypeBaselineDone, 1, w.pos, w.pos, int64(w.pos)))
}

// graft appends to the branch and syncs it.
func (m *model) graft(frames ...[]byte) bool {
	for _, b := range frames {
		if err := m.twig.j.Append(mustParse(m.t, b)); err != nil {
			return m.survives(err)
		}
	}
	return m.survives(m.twig.j.Sync())
}

// grow writes to the branch, maintains it or cuts it off.
func (m *model) grow() bool {
	w := &m.twig
	switch m.rng.IntN(8) {
	case 0:
		return m.survives(m.cut())
	case 1:
		if err := w.j.Retain(Retention{Since: time.Unix(0, int64(w.pos))}); err != nil {
			return m.survives(err)
		}
		return m.survives(w.j.Seal())
	case 2, 3, 4:
		_, err := w.j.Maintain(m.t.Context(), Limits{Urgent: true})
		return m.survives(err)
	}
	next := map[uint16][]byte{}
	for index, b := range w.disks {
		next[index] = slices.Clone(b)
	}
	w.pos++
	d := w.table[m.rng.IntN(len(w.table))]
	n := min(4, d.Bytes/512)
	x := wire.Extent{Disk: d.Index, Kind: wire.KindData, Flags: wire.EndOfBio, Position: w.pos, Sector: m.rng.Uint64N(d.Bytes/512 - n + 1), Bytes: n * 512, Time: int64(w.pos)}
	content := next[d.Index][x.Sector*512:][:x.Bytes]
	if m.rng.IntN(3) == 0 {
		x.Kind = wire.KindZero
		clear(content)
		content = nil
	} else {
		for i := range content {
			content[i] = byte(w.pos)
		}
	}
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	b.Add(x, content)
	if w.next = next; !m.graft(b.Finish(nil)) {
		return false
	}
	w.disks = next
	return true
}

// cut removes the branch.
func (m *model) cut() error {
	w := m.twig
	if w.j == nil {
		return nil
	}
	m.twig = twig{}
	if err := errors.Join(w.j.Close(), Remove(m.fs, twigDir)); err != nil {
		return err
	}
	return m.j.DropBranch(m.t.Context(), w.id)
}

func (m *model) prune() { require.NoError(m.t, m.cut()) }

// regrow opens the branch again after a crash, if it was made. What a crash left of its making or removal is cleared away as the
// control plane does: by asking the parent who stands on it.
func (m *model) regrow() {
	w := &m.twig
	if w.j != nil {
		_ = w.j.Close()
		require.Contains(m.t, m.j.Branches(), w.id, "the parent does not keep its point")
		var err error
		w.j, err = Open(m.t.Context(), m.fs, twigDir, w.o)
		require.NoError(m.t, err)
		switch p, err := w.j.Latest(); {
		case err != nil: // its epoch was not synced
			require.True(m.t, fault.Is(err, fault.NotFound), err)
			m.sameTwig(Point{}, w.begin)
			m.prune()
		case p.Position == w.pos:
			w.disks = w.next
		}
		return
	}
	require.NoError(m.t, Remove(m.fs, twigDir))
	for _, id := range m.j.Branches() {
		require.NoError(m.t, m.j.DropBranch(m.t.Context(), id))
	}
}

// checkTwig compares the point that the branch stands on and its newest.
func (m *model) checkTwig() {
	w := &m.twig
	if w.j == nil {
		return
	}
	begin, ok := w.j.BranchPoint()
	require.True(m.t, ok)
	m.sameTwig(begin, w.begin)
	p, err := w.j.Latest()
	require.NoError(m.t, err)
	m.sameTwig(p, w.disks)
}

func (m *model) sameTwig(p Point, want map[uint16][]byte) {
	v, err := m.twig.j.View(m.t.Context(), p)
	require.NoError(m.t, err)
	require.Equal(m.t, m.twig.table, v.Disks())
	for _, d := range v.Disks() {
		require.Equal(m.t, want[d.Index], m.read(v, d), "of the branch at %d", p.Position)
	}
	require.NoError(m.t, v.Close())
}
