package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

func quiesce(t testing.TB, j *Journal) {
	require.NoError(t, j.Seal())
	for {
		did, err := j.Maintain(t.Context(), Limits{Urgent: true})
		require.NoError(t, err)
		if !did {
			return
		}
	}
}

// history is a journal on a file system in memory, and what disk 0 holds at each position.
type history struct {
	t      testing.TB
	fs     *vfstest.MemFS
	o      Options
	j      *Journal
	pos    uint64
	epoch  uint64
	disk   []byte
	states map[uint64][]byte
}

func newHistory(t testing.TB, o Options) *history {
	h := &history{t: t, fs: vfstest.New(), o: o, pos: 100, epoch: 1, disk: make([]byte, simDisks[0].Bytes), states: map[uint64][]byte{}}
	h.o.Keys, h.o.Log = testKeys, quiet
	var err error
	h.j, err = Create(t.Context(), h.fs, simDir, simDisks, h.o)
	require.NoError(t, err)
	h.append(epochFrame(t, 1, 100), doneFrame(1, 100))
	h.states[100] = bytes.Clone(h.disk)
	return h
}

func (h *history) append(frames ...[]byte) {
	for _, f := range frames {
		require.NoError(h.t, h.j.Append(mustParse(h.t, f)))
	}
	require.NoError(h.t, h.j.Sync())
}

// write writes n times 1024 bytes at a sector, and again at the next.
func (h *history) write(n int, sector uint64) {
	for range n {
		h.pos++
		fill := byte(h.pos)
		h.append(dataFrame(h.epoch, h.pos, sector, fill))
		copy(h.disk[sector*512:], bytes.Repeat([]byte{fill}, 1024))
		h.states[h.pos] = bytes.Clone(h.disk)
		sector = (sector + 2) % 40
	}
}

func (h *history) reopen() {
	require.NoError(h.t, h.j.Close())
	var err error
	h.j, err = Open(h.t.Context(), h.fs, simDir, h.o)
	require.NoError(h.t, err)
}

func (h *history) read(j *Journal, p Point, off, n int) ([]byte, error) {
	v, err := j.View(h.t.Context(), p)
	if err != nil {
		return nil, err
	}
	got := make([]byte, n)
	err = v.ReadAt(h.t.Context(), 0, got, int64(off))
	require.NoError(h.t, v.Close())
	return got, err
}

func (h *history) at(pos uint64) Point {
	p, err := h.j.Check(pos)
	require.NoError(h.t, err)
	return p
}

// files of one kind in the journal's own store.
func (h *history) files(kind string) (names []string) {
	for name := range h.fs.Snapshot() {
		if strings.Contains(name, "/"+kind+"-") {
			names = append(names, name)
		}
	}
	return names
}

func (h *history) flip(name string, at int) {
	f, err := h.fs.OpenWrite(name)
	require.NoError(h.t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(at))
	require.NoError(h.t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, int64(at))
	require.NoError(h.t, errors.Join(err, f.Close()))
}

// Whatever byte of a layer, timeline or catalogue is damaged: verify tells, and what is read is true or an error.
func TestEveryByteOfTheStoreFlipped(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400})
	h.write(25, 0)
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	require.Empty(t, truthful(t, h.fs, h.states))
	files := h.fs.Snapshot()
	for name, content := range files {
		if !strings.Contains(name, layerDir) && !strings.Contains(name, catName) {
			continue
		}
		for at := range content {
			h.fs = vfstest.Restore(files, simDir, simDir+"/"+layerDir)
			h.flip(name, at)
			r, err := Verify(t.Context(), h.fs, simDir, VerifyOptions{Keys: testKeys})
			require.NoError(t, err)
			require.NotEmpty(t, r.Problems, "verify missed %s at %d", name, at)
			for _, err := range truthful(t, h.fs, h.states, name, at) {
				require.Equal(t, fault.Corruption, fault.KindOf(err), err)
			}
		}
	}
}

// A frame of a sealed segment that is damaged before it is flushed becomes lost: the rest stays readable, and when the
// source server sends the same content again, the old points are whole once more.
func TestLostAndHealed(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(20, 0)
	victim := h.pos // the newest write of sectors 38 and 39
	require.NoError(t, h.j.Seal())
	seg := simDir + "/" + segName(1)
	h.flip(seg, len(h.fs.Snapshot()[seg])-30)
	h.flushOnly()
	p := h.at(victim)
	_, err := h.read(h.j, p, 38*512, 1024)
	require.Equal(t, fault.Corruption, fault.KindOf(err), err)
	got, err := h.read(h.j, p, 0, 38*512)
	require.NoError(t, err)
	require.Equal(t, h.states[victim][:38*512], got)
	got, err = h.read(h.j, h.at(victim-1), 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[victim-1], got)
	require.NoError(t, h.j.Close())
	r, err := Verify(t.Context(), h.fs, simDir, VerifyOptions{Keys: testKeys})
	require.NoError(t, err)
	require.Empty(t, r.Problems, "what is lost is marked; no file is damaged any more")
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)

	// The agent reads the range again: the baseline of a new epoch.
	h.pos++
	h.epoch = 2
	var b wire.Builder
	b.Reset(wire.TypeBaseline, 2)
	b.Add(wire.Extent{Kind: wire.KindData, Position: h.pos, Sector: 38, Bytes: 1024, Time: int64(h.pos)}, h.disk[38*512:][:1024])
	h.append(epochFrame(t, 2, h.pos), b.Finish(nil), doneFrame(2, h.pos))
	got, err = h.read(h.j, h.at(h.pos), 38*512, 1024)
	require.NoError(t, err)
	require.Equal(t, h.disk[38*512:][:1024], got)
	h.write(3, 0)
	quiesce(t, h.j)
	for range 4 { // until the newer runs meet the damaged one
		h.write(3, 0)
		quiesce(t, h.j)
	}
	got, err = h.read(h.j, p, 0, len(h.disk))
	require.NoError(t, err, "healed")
	require.Equal(t, h.states[victim], got)
	require.NoError(t, h.j.Close())
}

// flushOnly flushes all sealed segments.
func (h *history) flushOnly() {
	for {
		h.j.upkeep.Lock()
		did, err := h.j.flush(h.t.Context(), &Limits{})
		h.j.upkeep.Unlock()
		require.NoError(h.t, err)
		if !did {
			return
		}
	}
}

// Scrubbing finds a damaged layer and says where; a merge afterwards keeps the rest.
func TestScrubFindsDamage(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(20, 0)
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	layers := h.files("layer")
	require.Len(t, layers, 1)
	for n := 0; ; n++ {
		require.Less(t, n, 10)
		passed, err := h.j.Scrub(t.Context(), Limits{})
		require.NoError(t, err)
		if passed {
			break
		}
	}
	require.Empty(t, h.j.Damage())
	require.False(t, h.j.ScrubProgress().LastFull.IsZero())
	h.flip(layers[0], 200) // in the first data block
	h.j.cache = layer.NewCache(1)
	for passed := false; !passed; {
		var err error
		passed, err = h.j.Scrub(t.Context(), Limits{})
		require.NoError(t, err)
	}
	found := h.j.Damage()
	require.NotEmpty(t, found)
	require.Equal(t, filepath.Base(layers[0]), found[0].File)
	h.reopen()
	require.Equal(t, len(found), len(h.j.Damage()), "it is remembered")
	require.NoError(t, h.j.Close())
}

// What is not retained is reclaimed, kept points and the window read as before, and what was let go of is refused.
func TestRetentionReclaims(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	h := newHistory(t, Options{SegmentBytes: 60 << 10, LayerBytes: 40 << 10})
	for range 400 { // incompressible, over and over the same place
		h.pos++
		content := make([]byte, 4096)
		for i := range content {
			content[i] = byte(rng.Uint32())
		}
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		sector := uint64(rng.IntN(5)) * 8
		b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: h.pos, Sector: sector, Bytes: 4096, Time: int64(h.pos)}, content)
		h.append(b.Finish(nil))
		copy(h.disk[sector*512:], content)
		h.states[h.pos] = bytes.Clone(h.disk)
	}
	quiesce(t, h.j)
	before := h.j.Usage()
	require.Greater(t, before.Stored, int64(1<<20))
	kept := []Point{h.at(150), h.at(300), h.at(301)}
	require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 480), Points: kept}))
	quiesce(t, h.j)
	after := h.j.Usage()
	require.Less(t, after.Stored, before.Stored/3, "%+v", after)
	require.Less(t, len(h.files("timeline")), 4)
	h.reopen()
	for _, p := range kept {
		got, err := h.read(h.j, p, 0, len(h.disk))
		require.NoError(t, err)
		require.Equal(t, h.states[p.Position], got)
		again, err := h.j.At(p.Time)
		require.NoError(t, err)
		require.Equal(t, p, again)
	}
	for pos := uint64(480); pos <= h.pos; pos++ {
		got, err := h.read(h.j, h.at(pos), 0, len(h.disk))
		require.NoError(t, err)
		require.Equal(t, h.states[pos], got)
	}
	for _, pos := range []uint64{100, 149, 151, 299, 302, 479} {
		_, err := h.j.Check(pos)
		require.Equal(t, fault.NotFound, fault.KindOf(err), err)
		_, err = h.j.View(t.Context(), Point{Epoch: 1, Position: pos})
		require.Equal(t, fault.NotFound, fault.KindOf(err), err)
	}
	require.ErrorContains(t, h.j.Retain(Retention{Since: time.Unix(0, 100), Points: []Point{{Epoch: 1, Position: 200}}}), "not kept any more")
	_, err := h.j.Check(479)
	require.Error(t, err, "retention only moves forward")
	require.NoError(t, h.j.Close())
}

// A branch begins as its parent was, goes its own way, and keeps its parent's point.
func TestBranch(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400})
	h.write(30, 0)
	at := h.at(115)
	parents := func(id string) (*Journal, error) {
		if id != h.j.ID() {
			return nil, fault.New(fault.NotFound, "test", "no journal %s", id)
		}
		return h.j, nil
	}
	o := Options{Keys: testKeys, Log: quiet, Parents: parents}
	b, err := h.j.CreateBranch(t.Context(), at, h.fs, "/branch", o)
	require.NoError(t, err)
	require.NoError(t, h.j.Retain(Retention{Since: time.Unix(0, 128)}))
	quiesce(t, h.j)
	begin, ok := b.BranchPoint()
	require.True(t, ok)
	got, err := h.read(b, begin, 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[115], got)

	for _, f := range [][]byte{epochFrame(t, 1, 7000), doneFrame(1, 7000), dataFrame(1, 7001, 4, 0xbb), zeroFrame(1, 7002, 8)} {
		require.NoError(t, b.Append(mustParse(t, f)))
	}
	require.NoError(t, b.Sync())
	want := bytes.Clone(h.states[115])
	copy(want[4*512:], bytes.Repeat([]byte{0xbb}, 1024))
	clear(want[8*512:][:1024])
	for _, how := range []func(){func() {}, func() { quiesce(t, b) }, func() {
		require.NoError(t, b.Close())
		h.reopen()
		b, err = Open(t.Context(), h.fs, "/branch", o)
		require.NoError(t, err)
	}} {
		how()
		p, err := b.Latest()
		require.NoError(t, err)
		got, err = h.read(b, p, 0, len(h.disk))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Len(t, h.j.Branches(), 1)
	require.NoError(t, b.Close())
	_, err = Open(t.Context(), h.fs, "/branch", Options{Keys: testKeys, Log: quiet})
	require.Equal(t, fault.Unsupported, fault.KindOf(err), err)
	require.NoError(t, Remove(h.fs, "/branch"))
	require.NoError(t, h.j.DropBranch(t.Context(), b.ID()))
	require.Empty(t, h.j.Branches())
	require.NoError(t, h.j.Close())
}

func zeroFrame(epoch, pos, sector uint64) []byte {
	var b wire.Builder
	b.Reset(wire.TypeData, epoch)
	b.Add(wire.Extent{Kind: wire.KindZero, Flags: wire.EndOfBio, Position: pos, Sector: sector, Bytes: 1024, Time: int64(pos)}, nil)
	return b.Finish(nil)
}

// The local disk is lost; what is in object storage is a journal again, and goes on.
func TestRestore(t *testing.T) {
	remote := vfstest.New()
	store, err := dir.New(remote, "/bucket")
	require.NoError(t, err)
	h := newHistory(t, Options{Blobs: store, Remote: true})
	h.write(12, 0)
	quiesce(t, h.j)
	flushed, frames := h.pos, h.j.State().Frames
	h.write(3, 20)
	require.NoError(t, h.j.Close())

	h.fs = vfstest.New()
	require.NoError(t, Restore(t.Context(), h.fs, simDir, h.o))
	require.Equal(t, fault.Conflict, fault.KindOf(Restore(t.Context(), h.fs, simDir, h.o)))
	h.j, err = Open(t.Context(), h.fs, simDir, h.o)
	require.NoError(t, err)
	require.Equal(t, flushed, h.j.State().Durable)
	require.Equal(t, frames, h.j.State().Frames, "an agent that had more acknowledged notices")
	for pos := uint64(100); pos <= flushed; pos++ {
		got, err := h.read(h.j, h.at(pos), 0, len(h.disk))
		require.NoError(t, err)
		require.Equal(t, h.states[pos], got)
	}
	h.pos, h.epoch = 300, 2
	h.append(epochFrame(t, 2, 300), doneFrame(2, 300))
	quiesce(t, h.j)
	require.NoError(t, h.j.Close())
	require.NoError(t, Purge(t.Context(), store))
	left, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, fault.NotFound, fault.KindOf(Restore(t.Context(), vfstest.New(), simDir, h.o)))
}

// Rotation wraps the data key anew and rewrites nothing else; without the wrapping key there is nothing to read.
func TestRotation(t *testing.T) {
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys"))
	require.NoError(t, err)
	h := newHistory(t, Options{})
	require.NoError(t, h.j.Close())
	h.fs, h.o.Keys = vfstest.New(), keys
	h.j, err = Create(t.Context(), h.fs, simDir, simDisks, h.o)
	require.NoError(t, err)
	h.append(epochFrame(t, 1, 100), doneFrame(1, 100))
	h.write(12, 0)
	quiesce(t, h.j)
	old, err := keys.Current(t.Context())
	require.NoError(t, err)
	_, err = keys.Rotate(t.Context())
	require.NoError(t, err)
	before := h.fs.Snapshot()
	changed, err := h.j.Rewrap(t.Context())
	require.NoError(t, err)
	require.True(t, changed)
	changed, err = h.j.Rewrap(t.Context())
	require.NoError(t, err)
	require.False(t, changed)
	for name, content := range h.fs.Snapshot() {
		require.Equal(t, filepath.Base(name) != keyName, bytes.Equal(content, before[name]), name)
	}
	require.NoError(t, keys.Retire(t.Context(), old))
	h.reopen()
	got, err := h.read(h.j, h.at(h.pos), 0, len(h.disk))
	require.NoError(t, err)
	require.Equal(t, h.states[h.pos], got)
	require.NoError(t, h.j.Close())
	h.o.Keys = testKeys
	_, err = Open(t.Context(), h.fs, simDir, h.o)
	require.Error(t, err)
}

// No byte of what a source server wrote is on the disk in the clear.
func TestNothingInTheClear(t *testing.T) {
	h := newHistory(t, Options{})
	secret := bytes.Repeat([]byte("attack at dawn; "), 64)
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: 101, Bytes: 1024, Time: 101}, secret)
	h.append(b.Finish(nil))
	look := func(when string) {
		for name, content := range h.fs.Snapshot() {
			require.NotContains(t, string(content), "attack at", fmt.Sprintf("%s, %s", name, when))
		}
	}
	look("in the unsealed segment")
	require.NoError(t, h.j.Seal())
	look("in a sealed segment")
	quiesce(t, h.j)
	look("in a layer")
	require.NoError(t, h.j.Close())
}

// Runs never pile up: whatever is flushed, there are at most a few more than the logarithm of what is there.
func TestRunsStayFew(t *testing.T) {
	h := newHistory(t, Options{SegmentBytes: 1400, LayerBytes: 3000})
	most := 0
	for range 120 {
		h.write(6, 0)
		quiesce(t, h.j)
		most = max(most, h.j.Usage().Runs)
	}
	require.LessOrEqual(t, most, 10)
	require.Greater(t, most, 1, "else nothing was merged in steps")
	require.NoError(t, h.j.Close())
}

// A layer that is gone altogether costs what only it held: scrubbing names the ranges, newer versions read, merging goes
// on, and no point ever shows older content in its place.
func TestMissingLayer(t *testing.T) {
	h := newHistory(t, Options{})
	h.write(20, 0) // sectors 0 to 39
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	gone := h.files("layer")
	require.Len(t, gone, 1)
	old := h.pos
	h.write(5, 0) // sectors 0 to 9 again
	require.NoError(t, h.j.Seal())
	h.flushOnly()
	h.reopen()
	require.NoError(t, h.fs.Remove(gone[0]))
	look := func(when string) {
		for pos := uint64(101); pos <= h.pos; pos++ {
			for sector := 0; sector < 40; sector += 2 {
				got, err := h.read(h.j, h.at(pos), sector*512, 1024)
				if err == nil {
					require.Equal(t, h.states[pos][sector*512:][:1024], got, "%s: position %d, sector %d", when, pos, sector)
				} else {
					require.Equal(t, fault.Corruption, fault.KindOf(err), err)
				}
				if pos >= old+5 && sector < 10 {
					require.NoError(t, err, "%s: written since, position %d, sector %d", when, pos, sector)
				}
				if pos >= old && sector >= 10 {
					require.Error(t, err, "%s: position %d, sector %d", when, pos, sector)
				}
			}
		}
	}
	look("before merging")
	h.j.noted, h.j.known = nil, nil // it is scrubbing that is to find it
	for passed := false; !passed; {
		var err error
		passed, err = h.j.Scrub(t.Context(), Limits{})
		require.NoError(t, err)
	}
	found := h.j.Damage()
	require.NotEmpty(t, found)
	require.EqualValues(t, 40, found[0].Sectors)
	for range 4 {
		h.write(5, 0)
		require.NoError(t, h.j.Seal())
		h.flushOnly()
	}
	quiesce(t, h.j)
	look("after merging")
	require.NoError(t, h.j.Close())
	r, err := Verify(t.Context(), h.fs, simDir, VerifyOptions{Keys: testKeys})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
}
