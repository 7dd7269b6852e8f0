package journal

import (
	"bytes"
	"context"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

const forEver = -1

// letGo lets the window pass over everything up to now, on the source's clock.
func (h *history) letGo() {
	now := time.Now().Add(time.Hour)
	h.pos++
	var b wire.Builder
	b.Reset(wire.TypeData, h.epoch)
	b.Add(wire.Extent{Kind: wire.KindZero, Flags: wire.EndOfBio, Position: h.pos, Bytes: 512, Time: now.UnixNano()}, nil)
	h.append(b.Finish(nil))
	require.NoError(h.t, h.j.Seal())
	require.NoError(h.t, h.j.Retain(Retention{Since: now}))
	quiesce(h.t, h.j)
}

// stays: the bytes of a file are all there still, under some name.
func stays(t *testing.T, fs *vfstest.MemFS, content []byte, what ...any) {
	for _, have := range fs.Snapshot() {
		if bytes.Equal(have, content) {
			return
		}
	}
	require.Fail(t, "what could be read again later is gone", what...)
}

// The disk cannot read a byte of the unsealed segment, whatever the mark says. The journal opens with everything before it, and nothing of
// the file is given away.
func TestUnsealedSegmentUnreadable(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	offsets := records(files[tail])
	first := uint64(120 - len(offsets) + 1)
	for name, m := range marks(files) {
		for at := 0; at < len(files[tail]); at += 13 {
			now := maps.Clone(files)
			if now[simDir+"/"+markName] = m; m == nil {
				delete(now, simDir+"/"+markName)
			}
			fs := vfstest.Restore(now, simDir)
			require.NoError(t, fs.BadSectors(tail, int64(at), 1, forEver))
			whole := max(0, len(offsets)-1-countAbove(offsets[1:], at))
			if at < segHeaderSize {
				whole = 0
			}
			h := reopened(t, fs, states)
			kept := first + uint64(whole) - 1
			require.Equal(t, kept, h.j.State().Durable, "mark %s, byte %d", name, at)
			require.Greater(t, h.j.State().Highest, uint64(119+1<<30))
			h.kept(kept, states)
			h.told(kept, false) // the bytes behind are in the same page
			stays(t, fs, files[tail], "mark %s, byte %d", name, at)
			highest := h.j.State().Highest
			h.reopen()
			require.Equal(t, highest, h.j.State().Highest, "nothing is lost a second time")
			if at%5 == 0 {
				h.goesOn(kept, states)
			} else {
				require.NoError(t, h.j.Close())
			}
		}
	}
}

// What the disk reads after all loses nothing: at another try of the same opening, or of the next.
func TestUnreadableForAMoment(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	const eachTime = 3 // vfs asks so often
	for fails := 1; fails < eachTime*(rereads+2); fails++ {
		fs := vfstest.Restore(files, simDir)
		require.NoError(t, fs.BadSectors(tail, int64(records(files[tail])[1]+recHeaderSize+5), 1, fails))
		o := Options{Keys: testKeys, Log: quiet, SegmentBytes: 1400, reread: 1}
		j, err := Open(t.Context(), fs, simDir, o)
		if fails >= eachTime*(rereads+1) {
			require.Equal(t, fault.Transient, fault.KindOf(err), "%d: %v", fails, err)
			require.Equal(t, files[tail], fs.Snapshot()[tail])
			j, err = Open(t.Context(), fs, simDir, o)
		}
		require.NoError(t, err, fails)
		require.EqualValues(t, 119, j.State().Durable)
		require.Empty(t, j.Damage())
		require.NoError(t, j.Close())
		require.Empty(t, truthful(t, fs, states))
	}
}

// Whoever asked for the journal may leave while the disk is asked again.
func TestUnreadableAndCancelled(t *testing.T) {
	fs, _ := smallOf(t, Options{Keys: testKeys}, 19)
	tail := simDir + "/" + segName(3)
	require.NoError(t, fs.BadSectors(tail, 200, 1, forEver))
	before := fs.Snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, fs, simDir, Options{Keys: testKeys, Log: quiet, reread: time.Hour})
	require.Equal(t, fault.Transient, fault.KindOf(err), err)
	require.Equal(t, before[tail], fs.Snapshot()[tail])
}

// Power fails at every operation of such an opening: the next one comes to the same end, and nothing of the file is given away.
func TestUnreadableCrashes(t *testing.T) {
	fs, states := smallOf(t, Options{Keys: testKeys}, 19)
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	offsets := records(files[tail])
	kept := uint64(120 - len(offsets) + 1)
	for n, crashed := 1, true; crashed; n++ {
		fs := vfstest.Restore(files, simDir)
		require.NoError(t, fs.BadSectors(tail, int64(offsets[1]+recHeaderSize+1), 1, forEver))
		fs.CrashAt(n)
		j, err := Open(t.Context(), fs, simDir, Options{Keys: testKeys, Log: quiet, reread: 1})
		if crashed = err != nil; crashed {
			require.ErrorIs(t, err, vfstest.ErrCrashed)
		} else {
			_ = j.Close()
		}
		h := reopened(t, fs.Crash(newRand(uint64(n))), states)
		require.Equal(t, kept, h.j.State().Durable, n)
		require.Greater(t, h.j.State().Highest, uint64(1<<30))
		h.kept(kept, states)
		stays(t, h.fs, files[tail], n)
		for name := range h.fs.Snapshot() {
			require.False(t, strings.HasSuffix(name, wholeSuffix), name)
		}
		h.goesOn(kept, states)
	}
}

// Behind the page that cannot be read, frames verify: what was written there is told by range and time.
func TestBehindTheUnreadable(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1 << 20})
	h.write(100, 0)
	require.NoError(t, h.j.Close())
	tail := simDir + "/" + segName(1)
	content := h.fs.Snapshot()[tail]
	offsets := records(content)
	const page = 1
	require.NoError(t, h.fs.BadSectors(tail, page*unreadStep+100, 512, forEver))
	last, behind := uint64(0), uint64(0) // positions: the last whole one before, the first that begins in a page behind
	for i, at := range offsets[:len(offsets)-1] {
		pos := uint64(100 + i - 1) // the first two records are the epoch and its baseline's end
		if offsets[i+1] <= page*unreadStep+100 {
			last = pos
		}
		if at >= (page+1)*unreadStep && behind == 0 {
			behind = pos
		}
	}
	h.o.reread = 1
	var err error
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	require.Equal(t, last, h.j.State().Durable)
	all := h.j.Damage()
	require.Greater(t, len(all), 1)
	least := all[1].Position
	for _, d := range all[1:] {
		require.True(t, d.Cut)
		require.Positive(t, d.Sectors)
		require.EqualValues(t, d.Position, d.Written.UnixNano())
		least = min(least, d.Position)
	}
	require.Equal(t, behind, least)
	stays(t, h.fs, content)
	h.goesOn(last, maps.Clone(h.states))
}

// A sealed segment has a place that cannot be read: that is lost, the rest reads, from the segment and from the layers, and the
// segment is set aside when it is in layers, until the window has passed.
func TestSealedSegmentUnreadable(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(20, 0)
	victim := h.pos // the newest write of sectors 38 and 39
	require.NoError(t, h.j.Seal())
	seg := simDir + "/" + segName(1)
	content := h.fs.Snapshot()[seg]
	require.NoError(t, h.fs.BadSectors(seg, int64(len(content)-30), 1, forEver))
	check := func(when string) {
		_, err := h.read(h.j, h.at(victim), 38*512, 1024)
		require.Equal(t, fault.Corruption, fault.KindOf(err), "%s: %v", when, err)
		got, err := h.read(h.j, h.at(victim), 0, 38*512)
		require.NoError(t, err, when)
		require.Equal(t, h.states[victim][:38*512], got, when)
		got, err = h.read(h.j, h.at(victim-1), 0, len(h.disk))
		require.NoError(t, err, when)
		require.Equal(t, h.states[victim-1], got, when)
		stays(t, h.fs, content, when)
	}
	check("in the segment")
	h.reopen()
	check("in the segment, opened again")
	quiesceAtEase(t, h.j)
	check("in layers")
	require.Equal(t, []string{simDir + "/" + asideName(1, 0)}, h.aside())
	h.reopen()
	quiesceAtEase(t, h.j)
	check("in layers, opened again")
	d := h.j.Damage()
	require.Len(t, d, 1)
	require.Equal(t, uint64(38), d[0].Sector)
	require.Equal(t, victim, d[0].Position)
	h.letGo()
	require.Empty(t, h.aside(), "out of the window")
	require.NoError(t, h.j.Close())
}

// Power fails between the catalogue that no longer counts on the segment and the segment's leave: it is set aside all the same.
func TestUnreadableSegmentIsSetAsideAfterACrash(t *testing.T) {
	for n, crashed := 1, true; crashed; n++ {
		h := newHistory(t, Options{})
		h.write(20, 0)
		require.NoError(t, h.j.Seal())
		seg := simDir + "/" + segName(1)
		content := h.fs.Snapshot()[seg]
		require.NoError(t, h.fs.BadSectors(seg, int64(len(content)-30), 1, forEver))
		h.fs.CrashAt(n)
		crashed = false
		for did := true; did && !crashed; {
			var err error
			if did, err = h.j.Maintain(t.Context(), Limits{}); err != nil {
				require.ErrorIs(t, err, vfstest.ErrCrashed)
				crashed = true
			}
		}
		_ = h.j.Close()
		h.fs = h.fs.Crash(newRand(uint64(n)))
		var err error
		h.j, err = Open(t.Context(), h.fs, simDir, h.o)
		require.NoError(t, err)
		quiesceAtEase(t, h.j)
		require.Equal(t, []string{simDir + "/" + asideName(1, 0)}, h.aside(), n)
		stays(t, h.fs, content, n)
		require.NoError(t, h.j.Close())
	}
}

// A layer has a place that cannot be read. It is found by reading and by scrubbing, nothing else is lost by it, merging goes on, and the
// file stays until the window has passed.
func TestLayerUnreadable(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 6000, LayerBytes: 1 << 20})
	h.write(20, 0)
	quiesce(t, h.j)
	layers := h.files("layer")
	require.Len(t, layers, 1)
	content := h.fs.Snapshot()[layers[0]]
	require.NoError(t, h.fs.BadSectors(layers[0], 200, 1, forEver)) // the first data block: the newest of the first cells
	h.reopen()
	h.j.cache = layer.NewCache(1)
	lost := 0
	for pos, want := range h.states {
		for s := 0; s < 48; s++ {
			got, err := h.read(h.j, h.at(pos), s*512, 512)
			if err != nil {
				require.Equal(t, fault.Corruption, fault.KindOf(err), err)
				lost++
				continue
			}
			require.Equal(t, want[s*512:][:512], got)
		}
	}
	require.Positive(t, lost)
	require.Less(t, lost, 48*len(h.states))
	for passed := false; !passed; {
		var err error
		passed, err = h.j.Scrub(t.Context(), Limits{})
		require.NoError(t, err)
	}
	require.NotEmpty(t, h.j.Damage())
	require.Equal(t, filepath.Base(layers[0]), h.j.Damage()[0].File)

	for range 6 { // until it is merged
		h.write(20, 0)
		quiesce(t, h.j)
	}
	for name := range h.j.catalogue().names {
		require.NotEqual(t, filepath.Base(layers[0]), name, "it still counts")
	}
	stays(t, h.fs, content)
	h.reopen()
	quiesce(t, h.j)
	stays(t, h.fs, content, "after it was opened again")
	got, err := h.read(h.j, h.at(h.pos), 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.disk, got)
	h.letGo()
	require.NotContains(t, h.fs.Snapshot(), layers[0], "out of the window")
	require.NoError(t, h.j.Close())
}
