package journal

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// changing is a journal whose disks change.
type changing struct {
	t  *testing.T
	fs *vfstest.MemFS
	o  Options
	j  *Journal
}

func newChanging(t *testing.T, made ...wire.Disk) *changing {
	c := &changing{t: t, fs: vfstest.New(), o: Options{Keys: testKeys, Log: quiet}}
	var err error
	c.j, err = Create(t.Context(), c.fs, simDir, made, c.o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.j.Close()) })
	return c
}

func (c *changing) append(frames ...[]byte) {
	for _, b := range frames {
		require.NoError(c.t, c.j.Append(mustParse(c.t, b)))
	}
	require.NoError(c.t, c.j.Sync())
}

func (c *changing) refuses(kind fault.Kind, b []byte) {
	err := c.j.Append(mustParse(c.t, b))
	require.Equal(c.t, kind, fault.KindOf(err), err)
}

func (c *changing) reopen() {
	require.NoError(c.t, c.j.Close())
	r, err := Verify(c.t.Context(), c.fs, simDir, VerifyOptions{Keys: testKeys})
	require.NoError(c.t, err)
	require.Empty(c.t, r.Problems)
	c.j, err = Open(c.t.Context(), c.fs, simDir, c.o)
	require.NoError(c.t, err)
}

// sees compares the disks at a position: their sizes, first and last bytes.
func (c *changing) sees(pos uint64, want ...shows) {
	p, err := c.j.Check(pos)
	require.NoError(c.t, err)
	v, err := c.j.View(c.t.Context(), p)
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, v.Close()) }()
	require.Len(c.t, v.Disks(), len(want), "at %d", pos)
	for i, w := range want {
		d := v.Disks()[i]
		require.Equal(c.t, w.disk, d, "at %d", pos)
		got := make([]byte, d.Bytes)
		require.NoError(c.t, v.ReadAt(c.t.Context(), d.Index, got, 0))
		require.Equal(c.t, w.first, got[0], "disk %d at %d", d.Index, pos)
		require.Equal(c.t, w.last, got[len(got)-1], "disk %d at %d", d.Index, pos)
		require.Error(c.t, v.ReadAt(c.t.Context(), d.Index, got, 512), "past the end")
	}
}

var (
	diskA  = wire.Disk{Index: 0, Device: "a", Bytes: 8 << 9}
	diskB  = wire.Disk{Index: 1, Device: "b", Bytes: 4 << 9}
	largeA = wire.Disk{Index: 0, Device: "a", Bytes: 16 << 9}
	diskC  = wire.Disk{Index: 2, Device: "c", Bytes: 6 << 9}
)

func disksOf(d ...wire.Disk) []wire.Disk { return d }

type shows struct {
	disk        wire.Disk
	first, last byte
}

func opens(t *testing.T, epoch, first uint64, disks, joining []wire.Disk) []byte {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, int64(first), wire.EpochOpen{Capture: "cafe", Disks: disks, Joining: joining})
	require.NoError(t, err)
	return b
}

func sectorOf(typ wire.Type, epoch, pos uint64, disk uint16, sector uint64, fill byte) []byte {
	var b wire.Builder
	b.Reset(typ, epoch)
	x := wire.Extent{Disk: disk, Kind: wire.KindData, Position: pos, Sector: sector, Bytes: 512, Time: int64(pos)}
	if typ == wire.TypeData {
		x.Flags = wire.EndOfBio
	}
	b.Add(x, bytes.Repeat([]byte{fill}, 512))
	return b.Finish(nil)
}

// A disk joins, another grows, one goes and comes back: every point has the disks and sizes of its epoch, from segments, from
// layers and after each is opened again.
func TestDisksOfEveryPoint(t *testing.T) {
	c := newChanging(t, diskA, diskB)
	c.append(opens(t, 1, 100, disksOf(diskA, diskB), nil), sectorOf(wire.TypeBaseline, 1, 100, 0, 7, 1), doneFrame(1, 100), sectorOf(wire.TypeData, 1, 101, 1, 0, 2))

	// c joins and a is to be larger. Both are copied while points are made, and captured.
	c.append(opens(t, 2, 110, disksOf(diskA, diskB), disksOf(largeA, diskC)), doneFrame(2, 110), sectorOf(wire.TypeBaseline, 2, 110, 2, 0, 3),
		sectorOf(wire.TypeData, 2, 111, 0, 0, 4), sectorOf(wire.TypeData, 2, 112, 0, 15, 5), sectorOf(wire.TypeData, 2, 113, 2, 5, 6),
		sectorOf(wire.TypeBaseline, 2, 110, 0, 14, 9))
	c.refuses(fault.Conflict, sectorOf(wire.TypeBaseline, 2, 110, 0, 7, 9)) // would change points that were made
	c.refuses(fault.Conflict, sectorOf(wire.TypeBaseline, 2, 110, 1, 0, 9))
	c.refuses(fault.Invalid, sectorOf(wire.TypeData, 2, 114, 2, 6, 9))
	require.Equal(t, disksOf(largeA, diskC), c.j.State().Joining)

	c.append(opens(t, 3, 120, disksOf(largeA, diskB, diskC), nil), doneFrame(3, 120), sectorOf(wire.TypeData, 3, 121, 1, 3, 7))
	c.append(opens(t, 4, 130, disksOf(largeA, diskC), nil), doneFrame(4, 130), sectorOf(wire.TypeData, 4, 131, 0, 0, 8))
	c.refuses(fault.Invalid, sectorOf(wire.TypeData, 4, 132, 1, 0, 9))
	c.append(opens(t, 5, 140, disksOf(diskB, diskC, largeA), nil), sectorOf(wire.TypeBaseline, 5, 140, 1, 0, 9), doneFrame(5, 140))

	c.everyPoint()
	c.reopen()
	c.everyPoint()
	require.NoError(t, c.j.Seal())
	c.reopen() // from the sidecar
	c.everyPoint()
	quiesce(t, c.j)
	c.everyPoint()
	c.reopen() // from the catalogue
	c.everyPoint()
}

// everyPoint looks at the history that TestDisksOfEveryPoint and testdata/v3 have.
func (c *changing) everyPoint() {
	c.sees(101, shows{diskA, 0, 1}, shows{diskB, 2, 0})
	c.sees(113, shows{diskA, 4, 1}, shows{diskB, 2, 0})
	c.sees(121, shows{largeA, 4, 5}, shows{diskB, 2, 7}, shows{diskC, 3, 6})
	c.sees(131, shows{largeA, 8, 5}, shows{diskC, 3, 6})
	c.sees(140, shows{largeA, 8, 5}, shows{diskB, 9, 7}, shows{diskC, 3, 6})
	require.Equal(c.t, disksOf(largeA, diskB, diskC), c.j.State().Disks)
	require.NoError(c.t, c.j.MatchDisks(disksOf(largeA, diskB, diskC)))
}

// testdata/v3 has that history: its first two epochs in layers, the third in a sealed segment, the others in the tail.
func TestGoldenV3(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/v3")))
	name := filepath.Join(dir, "wrapping-keys.json")
	require.NoError(t, os.Chmod(name, 0o600)) // git does not keep it
	keys, err := encryption.OpenKeyFile(name)
	require.NoError(t, err)
	dir = filepath.Join(dir, "journal")
	r, err := Verify(t.Context(), vfs.OS, dir, VerifyOptions{Keys: keys})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	j, err := Open(t.Context(), vfs.OS, dir, Options{Keys: keys, Log: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	c := &changing{t: t, j: j}
	c.everyPoint()
	require.Len(t, j.catalogue().Fold.Tables, 1)
}

func TestDisksThatAreRefused(t *testing.T) {
	a, b := wire.Disk{Index: 0, Bytes: 8 << 9}, wire.Disk{Index: 1, Bytes: 4 << 9}
	small, odd := wire.Disk{Index: 1, Bytes: 3 << 9}, wire.Disk{Index: 1, Bytes: 700}
	for name, o := range map[string]struct {
		kind           fault.Kind
		disks, joining []wire.Disk
	}{
		"shrunk":            {fault.Conflict, []wire.Disk{a, small}, nil},
		"none":              {fault.Conflict, nil, nil},
		"nothing but new":   {fault.Conflict, nil, []wire.Disk{a}},
		"half a sector":     {fault.Invalid, []wire.Disk{a, odd}, nil},
		"twice":             {fault.Invalid, []wire.Disk{a, a}, nil},
		"joins and is here": {fault.Invalid, []wire.Disk{a}, []wire.Disk{a}},
		"joins shrunk":      {fault.Conflict, []wire.Disk{a}, []wire.Disk{small}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChanging(t, a, b)
			c.append(opens(t, 1, 100, []wire.Disk{a, b}, nil), doneFrame(1, 100))
			c.refuses(o.kind, opens(t, 2, 110, o.disks, o.joining))
			c.refuses(fault.Conflict, opens(t, 1, 100, []wire.Disk{a}, nil)) // the same epoch with others
			c.append(opens(t, 1, 100, []wire.Disk{a, b}, nil))
			require.EqualValues(t, 1, c.j.State().Epoch)
		})
	}
}

// A disk that went keeps its size in the journal: what comes back smaller under its number is another disk.
func TestAGoneDiskKeepsItsSize(t *testing.T) {
	a, b := wire.Disk{Index: 0, Bytes: 8 << 9}, wire.Disk{Index: 1, Bytes: 4 << 9}
	c := newChanging(t, a, b)
	c.append(opens(t, 1, 100, []wire.Disk{a}, nil), doneFrame(1, 100))
	c.reopen()
	require.NoError(t, c.j.TakesDisks([]wire.Disk{a, b}))
	require.Equal(t, fault.Conflict, fault.KindOf(c.j.TakesDisks([]wire.Disk{a, {Index: 1, Bytes: 512}})))
	require.Equal(t, fault.Conflict, fault.KindOf(c.j.MatchDisks([]wire.Disk{a, b})))
}

// A branch begins with the disks of its point.
func TestABranchHasTheDisksOfItsPoint(t *testing.T) {
	a, b := wire.Disk{Index: 0, Device: "a", Bytes: 8 << 9}, wire.Disk{Index: 1, Device: "b", Bytes: 4 << 9}
	c := newChanging(t, a)
	c.append(opens(t, 1, 100, []wire.Disk{a}, nil), doneFrame(1, 100), opens(t, 2, 110, []wire.Disk{a, b}, nil),
		sectorOf(wire.TypeBaseline, 2, 110, 1, 0, 5), doneFrame(2, 110))
	o := c.o
	o.Parents = func(string) (*Journal, error) { return c.j, nil }
	for pos, want := range map[uint64][]wire.Disk{100: {a}, 110: {a, b}} {
		p, err := c.j.Check(pos)
		require.NoError(t, err)
		if pos == 110 {
			p.Epoch = 2
		}
		twig, err := c.j.CreateBranch(t.Context(), p, c.fs, twigDir+string(rune('0'+p.Epoch)), o)
		require.NoError(t, err)
		require.Equal(t, want, twig.State().Disks)
		require.NoError(t, twig.Close())
	}
}

// What joins is read while points are made, and what was read may arrive after what was written meanwhile has become layers: zeroes are not
// left out of these, though nothing lies below them yet.
func TestZeroesOfWhatJoins(t *testing.T) {
	c := newChanging(t, diskA)
	var b wire.Builder
	b.Reset(wire.TypeData, 2)
	b.Add(wire.Extent{Disk: 2, Kind: wire.KindZero, Flags: wire.EndOfBio, Position: 111, Bytes: 512, Time: 111}, nil)
	c.append(opens(t, 1, 100, disksOf(diskA), nil), doneFrame(1, 100), sectorOf(wire.TypeData, 1, 101, 0, 0, 1),
		opens(t, 2, 110, disksOf(diskA), disksOf(diskC)), doneFrame(2, 110), b.Finish(nil), sectorOf(wire.TypeData, 2, 112, 0, 1, 1))
	require.NoError(t, c.j.Retain(Retention{Since: time.Unix(0, 112)})) // it joins for longer than the window
	quiesce(t, c.j)
	c.j.upkeep.Lock()
	require.NoError(t, c.j.rewrite(t.Context(), layer.Key{}, layer.Key{Disk: math.MaxUint16}, &Limits{}))
	c.j.upkeep.Unlock()
	c.append(sectorOf(wire.TypeBaseline, 2, 110, 2, 0, 9)) // read before the write
	c.append(opens(t, 3, 120, disksOf(diskA, diskC), nil), doneFrame(3, 120))
	c.sees(120, shows{diskA, 1, 0}, shows{diskC, 0, 0})
	quiesce(t, c.j)
	c.sees(120, shows{diskA, 1, 0}, shows{diskC, 0, 0})
}
