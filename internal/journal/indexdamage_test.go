package journal

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// wide is a journal of one disk on which every other 4 KiB were written twice, in one layer of several index blocks.
type wide struct {
	t     *testing.T
	fs    *vfstest.MemFS
	o     Options
	j     *Journal
	disks []wire.Disk
	cells uint64
	pos   uint64
}

func newWide(t *testing.T) *wide {
	w := &wide{t: t, fs: vfstest.New(), cells: 6000, pos: 100, o: Options{Keys: testKeys, Log: quiet}}
	w.disks = []wire.Disk{{Device: "/dev/sda", Bytes: w.cells * 2 * 4096}}
	var err error
	w.j, err = Create(t.Context(), w.fs, simDir, w.disks, w.o)
	require.NoError(t, err)
	w.open(1)
	w.append(wire.Control(wire.TypeBaselineDone, 1, w.pos, w.pos, int64(w.pos)))
	for range 2 {
		w.write(wire.TypeData, 1, 0, w.cells)
	}
	require.NoError(t, w.j.Seal())
	_, err = w.j.flush(t.Context(), &Limits{})
	require.NoError(t, err)
	return w
}

func (w *wide) append(b []byte) { require.NoError(w.t, w.j.Append(mustParse(w.t, b))) }

func (w *wide) open(epoch uint64) {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, w.pos, w.pos, int64(w.pos), wire.EpochOpen{Capture: "cafe", Disks: w.disks})
	require.NoError(w.t, err)
	w.append(b)
}

// content of a cell as the newest write left it.
func (w *wide) content(cell, version uint64) []byte {
	b := make([]byte, 8)
	binary.LittleEndian.PutUint64(b, cell<<20|version)
	return bytes.Repeat(b, 512)
}

// write writes the cells in [from, to).
func (w *wide) write(typ wire.Type, epoch, from, to uint64) {
	var b wire.Builder
	b.Reset(typ, epoch)
	first := w.pos
	for cell := from; cell < to; cell++ {
		x := wire.Extent{Kind: wire.KindData, Position: first, Sector: cell * 16, Bytes: 4096, Time: int64(first)}
		if typ == wire.TypeData {
			w.pos++
			x.Position, x.Time, x.Flags = w.pos, int64(w.pos), wire.EndOfBio
		}
		b.Add(x, w.content(cell, 1))
		if b.Extents() == 200 || cell == to-1 {
			if typ == wire.TypeBaseline {
				b.Span(first, first, int64(first))
			}
			w.append(b.Finish(nil))
			b.Reset(typ, epoch)
		}
	}
	require.NoError(w.t, w.j.Sync())
}

// unreadable is the cells that cannot be read in the newest state. The others must be as they were written.
func (w *wide) unreadable() (list []uint64) {
	p, err := w.j.Latest()
	require.NoError(w.t, err)
	v, err := w.j.View(w.t.Context(), p)
	require.NoError(w.t, err)
	got := make([]byte, 4096)
	for cell := range w.cells {
		if err := v.ReadAt(w.t.Context(), 0, got, int64(cell)*8192); err != nil {
			require.True(w.t, fault.Is(err, fault.Corruption), err)
			list = append(list, cell)
			continue
		}
		require.Equal(w.t, w.content(cell, 1), got)
	}
	require.NoError(w.t, v.Close())
	return list
}

// What a damaged index block told of is told as damage range by range when scrubbing finds it, whichever block it is: the source is asked for
// these ranges, and what it sends makes the newest state whole.
func TestDamagedIndexBlockIsAskedFor(t *testing.T) {
	w := newWide(t)
	require.NoError(t, w.j.Close())
	files := w.fs.Snapshot()
	layers := (&history{fs: w.fs}).files("layer")
	require.Len(t, layers, 1)
	file := files[layers[0]]
	le := binary.LittleEndian
	indexEnd := int(le.Uint64(file[len(file)-64+48:]))
	hit := map[layer.Range]bool{}
	for at := indexEnd - 500; at > indexEnd-90<<10; at -= 9 << 10 {
		w.fs = vfstest.Restore(files, simDir, simDir+"/"+layerDir)
		(&history{t: t, fs: w.fs}).flip(layers[0], at)
		var err error
		w.j, err = Open(t.Context(), w.fs, simDir, w.o)
		require.NoError(t, err)
		for passed := false; !passed; {
			passed, err = w.j.Scrub(t.Context(), Limits{})
			require.NoError(t, err)
		}
		damage := w.j.Damage()
		require.Len(t, damage, 1, "byte %d", at)
		d := damage[0]
		require.Positive(t, d.Sectors, "the source can be asked")
		hit[layer.Range{Sector: d.Sector, Sectors: d.Sectors}] = true
		lost := w.unreadable()
		require.NotEmpty(t, lost)
		for _, cell := range lost {
			require.True(t, d.Sector <= cell*16 && cell*16+8 <= d.Sector+d.Sectors, "cell %d is not in %+v", cell, d)
		}
		w.pos = w.j.State().Highest + 1
		w.open(2)
		w.write(wire.TypeBaseline, 2, d.Sector/16, (d.Sector+d.Sectors+15)/16)
		w.append(wire.Control(wire.TypeBaselineDone, 2, w.pos, w.pos, int64(w.pos)))
		require.NoError(t, w.j.Sync())
		require.Empty(t, w.unreadable())
		quiesce(t, w.j)
		require.Empty(t, w.unreadable())
		require.NoError(t, w.j.Close())
	}
	require.GreaterOrEqual(t, len(hit), 3, "index blocks")
}
