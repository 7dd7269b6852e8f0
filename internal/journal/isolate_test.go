package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// records is where those of a segment begin, and last where it ends.
func records(seg []byte) (offsets []int) {
	off := segHeaderSize
	for ; off < len(seg); off += recHeaderSize + int(binary.LittleEndian.Uint32(seg[off+4:])) {
		offsets = append(offsets, off)
	}
	return append(offsets, off)
}

// marks is what may be left of the mark of a journal whose unsealed segment is the third.
func marks(files map[string][]byte) map[string][]byte {
	return map[string][]byte{
		"exact": files[simDir+"/"+markName], "of the segment before": mark{segment: 2, bytes: 900}.encode(),
		"of the beginning": mark{segment: 3}.encode(), "damaged": make([]byte, markSize), "missing": nil,
	}
}

// The unsealed segment is damaged at its header and in every part of every record, with the mark as it was, older, damaged and
// missing. The journal opens, all before the damage is there, nothing behind it is, no position that was lost is given again, and
// what the source then sends is whole.
func TestUnsealedSegmentDamaged(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	offsets := records(files[tail])
	require.Greater(t, len(offsets), 4)
	first := uint64(120 - len(offsets) + 1) // position in the segment's first record
	for name, m := range marks(files) {
		for at := 0; at < len(files[tail]); at += 7 {
			damaged := maps.Clone(files)
			if damaged[simDir+"/"+markName] = m; m == nil {
				delete(damaged, simDir+"/"+markName)
			}
			damaged[tail] = bytes.Clone(files[tail])
			damaged[tail][at] ^= 0x41
			whole := max(0, len(offsets)-1-countAbove(offsets[1:], at)) // records before the one that was hit
			if at < segHeaderSize {
				whole = 0
			}
			h := reopened(t, vfstest.Restore(damaged, simDir), states)
			st := h.j.State()
			kept := first + uint64(whole) - 1
			require.Equal(t, kept, st.Durable, "mark %s, byte %d", name, at)
			require.EqualValues(t, 2+kept-100, st.Frames)
			h.kept(kept, states)
			last := whole == len(offsets)-2
			switch told := name == "exact" || at < segHeaderSize; {
			case told:
				h.told(kept, !last && at >= segHeaderSize)
				fallthrough
			case name == "damaged", name == "missing", !last:
				require.Greater(t, st.Highest, uint64(119+1<<30), "mark %s, byte %d", name, at)
			default: // above the mark and at the end: a torn write looks the same
				require.NoError(t, h.j.Close())
				continue
			}
			h.goesOn(kept, states)
		}
	}
}

func countAbove(list []int, at int) (n int) {
	for _, x := range list {
		if x > at {
			n++
		}
	}
	return n
}

func reopened(t *testing.T, fs *vfstest.MemFS, states map[uint64][]byte) *history {
	h := &history{t: t, fs: fs, o: Options{Keys: testKeys, Log: quiet, SegmentBytes: 1400, reread: 1}, epoch: 1, disk: make([]byte, simDisks[0].Bytes), states: maps.Clone(states)}
	var err error
	h.j, err = Open(t.Context(), fs, simDir, h.o)
	require.NoError(t, err)
	return h
}

// kept: what was whole is as it was, what is behind is not there.
func (h *history) kept(last uint64, states map[uint64][]byte) {
	for pos, want := range states {
		p, err := h.j.Check(pos)
		if pos > last {
			require.Equal(h.t, fault.NotFound, fault.KindOf(err), "position %d: %v", pos, err)
			continue
		}
		require.NoError(h.t, err)
		got, err := h.read(h.j, p, 0, len(want))
		require.NoError(h.t, err)
		require.Equal(h.t, want, got)
	}
}

// told: that history ended, when, what was written behind, and where it was set aside.
func (h *history) told(last uint64, ranges bool) {
	all := h.j.Damage()
	require.NotEmpty(h.t, all)
	require.True(h.t, all[0].Cut)
	require.Zero(h.t, all[0].Sectors)
	require.Equal(h.t, time.Unix(0, int64(last)).UTC(), all[0].Written)
	require.Equal(h.t, ranges, len(all) > 1)
	for _, d := range all[1:] {
		require.True(h.t, d.Cut)
		require.Positive(h.t, d.Sectors)
		require.Greater(h.t, d.Position, last)
		require.EqualValues(h.t, d.Position, d.Written.UnixNano())
	}
	require.Contains(h.t, h.fs.Snapshot(), simDir+"/"+all[0].File)
}

// goesOn: an agent that lost its memory opens an epoch above everything, sends all, and goes on. Then what was set aside is let go of.
func (h *history) goesOn(last uint64, lost map[uint64][]byte) {
	base := h.j.State().Highest + 1
	h.pos, h.epoch = base, h.j.State().Epoch+1
	var b wire.Builder
	b.Reset(wire.TypeBaseline, h.epoch)
	content := bytes.Repeat([]byte{0xee}, len(h.disk))
	b.Add(wire.Extent{Kind: wire.KindData, Position: base, Bytes: uint64(len(content)), Time: 1000}, content)
	b.Span(base, base, 1000)
	copy(h.disk, content)
	h.append(epochFrame(h.t, h.epoch, base), b.Finish(nil), wire.Control(wire.TypeBaselineDone, h.epoch, base, base, 1000))
	h.states[base] = bytes.Clone(h.disk)
	h.write(2, 0)
	check := func() {
		for pos, want := range h.states {
			if pos > last && lost[pos] != nil {
				_, err := h.j.Check(pos)
				require.Equal(h.t, fault.NotFound, fault.KindOf(err), "%d", pos)
				continue
			}
			got, err := h.read(h.j, h.at(pos), 0, len(want))
			require.NoError(h.t, err)
			require.Equal(h.t, want, got)
		}
		require.GreaterOrEqual(h.t, h.j.State().Highest, base)
	}
	check()
	damage := h.j.Damage()
	quiesce(h.t, h.j)
	check()
	require.Equal(h.t, damage, h.j.Damage(), "it stays known when the segment is in layers")
	h.reopen()
	check()
	r, err := Verify(h.t.Context(), h.closed(), simDir, VerifyOptions{Keys: testKeys})
	require.NoError(h.t, err)
	require.Empty(h.t, r.Problems)
	h.j, err = Open(h.t.Context(), h.fs, simDir, h.o)
	require.NoError(h.t, err)
	require.NoError(h.t, h.j.Retain(Retention{Since: time.Unix(0, 1<<62)}))
	quiesce(h.t, h.j)
	if len(damage) > 0 && !damage[0].Written.IsZero() { // else it goes by when it was found
		require.Empty(h.t, h.j.Damage(), "out of the window")
		require.Empty(h.t, h.aside())
	}
	require.NoError(h.t, h.j.Close())
}

func (h *history) closed() *vfstest.MemFS {
	require.NoError(h.t, h.j.Close())
	return h.fs
}

func (h *history) aside() []string {
	return slices.DeleteFunc(slices.Collect(maps.Keys(h.fs.Snapshot())), func(name string) bool { return !strings.HasPrefix(name, simDir+"/"+asidePrefix) })
}

// Files that nothing can replace are gone or damaged together: history ends before the first of them.
func TestSegmentsLost(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	seg := func(n uint64) string { return simDir + "/" + segName(n) }
	idx := func(n uint64) string { return simDir + "/" + idxName(n) }
	before := map[uint64]uint64{1: 0, 2: 0, 3: 0} // position at which each segment ends
	pos := uint64(99 - 1)
	for n := uint64(1); n <= 3; n++ {
		pos += uint64(len(records(files[seg(n)])) - 1)
		before[n] = pos
	}
	for _, c := range []struct {
		what string
		hit  func(files map[string][]byte)
		kept uint64
	}{
		{"the unsealed segment is missing", func(f map[string][]byte) { delete(f, seg(3)) }, before[2]},
		{"all segments are missing", func(f map[string][]byte) {
			for n := uint64(1); n <= 3; n++ {
				delete(f, seg(n))
				delete(f, idx(n))
			}
		}, 0},
		{"a sealed segment is missing", func(f map[string][]byte) { delete(f, seg(2)) }, before[1]},
		{"a sealed segment and its index are missing", func(f map[string][]byte) { delete(f, seg(2)); delete(f, idx(2)) }, before[1]},
		{"a sealed segment and its index are damaged", func(f map[string][]byte) {
			f[idx(2)] = []byte("damaged")
			f[seg(2)] = bytes.Clone(f[seg(2)])
			f[seg(2)][records(f[seg(2)])[2]+recHeaderSize] ^= 1
		}, before[1] + 2},
		{"the first segment's header and its index are damaged", func(f map[string][]byte) {
			delete(f, idx(1))
			f[seg(1)] = append(make([]byte, segHeaderSize), f[seg(1)][segHeaderSize:]...)
		}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			damaged := maps.Clone(files)
			c.hit(damaged)
			h := reopened(t, vfstest.Restore(damaged, simDir), states)
			require.Equal(t, c.kept, h.j.State().Durable)
			require.Greater(t, h.j.State().Highest, uint64(1<<30))
			require.True(t, h.j.Damage()[0].Cut)
			h.kept(c.kept, states)
			highest := h.j.State().Highest
			h.reopen()
			require.Equal(t, highest, h.j.State().Highest, "nothing is lost a second time")
			h.goesOn(c.kept, states)
		})
	}
}

// Power fails at every operation of an opening that ends history: the next opening comes to the same end.
func TestIsolateCrashes(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	offsets := records(files[tail])
	files[tail][offsets[1]+recHeaderSize+1] ^= 1
	kept := uint64(120-len(offsets)+1) + 0
	for n, crashed := 1, true; crashed; n++ {
		fs := vfstest.Restore(files, simDir)
		fs.CrashAt(n)
		j, err := Open(t.Context(), fs, simDir, Options{Keys: testKeys, Log: quiet})
		if crashed = err != nil; crashed {
			require.ErrorIs(t, err, vfstest.ErrCrashed)
		} else {
			_ = j.Close()
		}
		h := reopened(t, fs.Crash(newRand(uint64(n))), states)
		require.Equal(t, kept, h.j.State().Durable)
		require.Greater(t, h.j.State().Highest, uint64(1<<30))
		h.kept(kept, states)
		h.told(kept, true)
		h.goesOn(kept, states)
	}
}

// There is no room to set anything aside: that holds nothing up.
func TestIsolateWithoutRoom(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	files[tail][records(files[tail])[1]+recHeaderSize+1] ^= 1
	fs = vfstest.Restore(files, simDir)
	fs.OnOp(func(op vfstest.Op) error {
		if strings.Contains(op.Name, asidePrefix) && op.Kind == "write" {
			return errors.New("no room")
		}
		return nil
	})
	h := reopened(t, fs, states)
	require.Greater(t, h.j.State().Highest, uint64(1<<30))
	require.Empty(t, h.aside())
	h.goesOn(h.j.State().Durable, states)
}

// A branch that stands on a state which was lost is let go of, and cannot be read: that state is another now.
func TestBranchOnWhatWasLost(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1 << 20})
	h.write(4, 0)
	var whole, gone *Journal
	o := Options{Keys: testKeys, Log: quiet, Parents: func(string) (*Journal, error) { return h.j, nil }}
	var err error
	whole, err = h.j.CreateBranch(t.Context(), h.at(102), h.fs, simDir+"-1", o)
	require.NoError(t, err)
	gone, err = h.j.CreateBranch(t.Context(), h.at(104), h.fs, simDir+"-2", o)
	require.NoError(t, err)
	tail := simDir + "/" + segName(1)
	require.NoError(t, h.j.Close())
	h.flip(tail, records(h.fs.Snapshot()[tail])[4]+recHeaderSize)
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	require.EqualValues(t, 102, h.j.State().Durable)
	require.Equal(t, []string{whole.ID()}, h.j.Branches())
	p, _ := whole.BranchPoint()
	v, err := whole.View(t.Context(), p)
	require.NoError(t, err)
	require.NoError(t, v.Close())
	_, err = gone.View(t.Context(), p)
	require.Equal(t, fault.NotFound, fault.KindOf(err), err)
	require.NoError(t, errors.Join(whole.Close(), gone.Close(), h.j.Close()))
}

// Many small writes behind damage are told as few stretches, which cover them all.
func TestJoinWrites(t *testing.T) {
	var list []written
	for i := range uint64(5 * maxStretches) {
		list = append(list, written{disk: uint16(i % 2), begin: i * 20, end: i*20 + 1, epoch: 1, position: 1 + i, time: int64(i)})
	}
	slices.Reverse(list)
	all := slices.Clone(list)
	got := joinWrites(list)
	require.LessOrEqual(t, len(got), maxStretches)
	for _, w := range all {
		require.True(t, slices.ContainsFunc(got, func(g written) bool {
			return g.disk == w.disk && g.begin <= w.begin && w.end <= g.end && g.position <= w.position
		}))
	}
}
