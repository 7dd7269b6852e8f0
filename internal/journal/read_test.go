package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	largeDisk  = 4 << 20
	largeBlock = 4096
)

// large is a journal of a disk that is read in shares, by several goroutines.
type large struct {
	t    testing.TB
	rng  *rand.Rand
	fs   *vfstest.MemFS
	o    Options
	j    *Journal
	pos  uint64
	disk []byte
}

func newLarge(t testing.TB, seed uint64) *large {
	l := &large{t: t, rng: newRand(seed), fs: vfstest.New(), pos: 100, disk: make([]byte, largeDisk)}
	l.o = Options{Keys: testKeys, Log: quiet, SegmentBytes: 1 << 20, LayerBytes: 1 << 20, Cache: layer.NewCache(1 << 20)}
	var err error
	disks := []wire.Disk{{Index: 0, Device: "/dev/sda", Bytes: largeDisk}}
	l.j, err = Create(t.Context(), l.fs, simDir, disks, l.o)
	require.NoError(t, err)
	open, err := wire.Message(wire.TypeEpochOpen, 1, 100, 100, 1, wire.EpochOpen{Capture: "cafe", Reason: "initial", Disks: disks})
	require.NoError(t, err)
	l.append(open, doneFrame(1, 100))
	return l
}

func (l *large) append(frames ...[]byte) {
	for _, f := range frames {
		require.NoError(l.t, l.j.Append(mustParse(l.t, f)))
	}
	require.NoError(l.t, l.j.Sync())
}

// write writes a few blocks at a place, or discards them.
func (l *large) write(at, n int) {
	l.pos++
	x := wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: l.pos, Sector: uint64(at) * largeBlock / 512, Bytes: uint64(n) * largeBlock, Time: int64(l.pos)}
	part := l.disk[at*largeBlock : (at+n)*largeBlock]
	var content []byte
	if l.rng.IntN(8) == 0 {
		x.Kind = wire.KindZero
		clear(part)
	} else {
		for i := range part {
			part[i] = byte(l.rng.Uint32())
		}
		content = part
	}
	var b wire.Builder
	b.Reset(wire.TypeData, 1)
	b.Add(x, content)
	l.append(b.Finish(nil))
}

func (l *large) writeSome(n int) {
	for range n {
		at := l.rng.IntN(largeDisk / largeBlock)
		l.write(at, 1+l.rng.IntN(min(8, largeDisk/largeBlock-at)))
	}
}

// compare reads a View at once, and where the holes are, and sees that it is what was remembered.
func compareLarge(v *View, rng *rand.Rand, want []byte) error {
	got := make([]byte, largeDisk)
	for _, r := range [][2]int{{0, largeDisk}, {rng.IntN(largeDisk / 2), rng.IntN(largeDisk / 2)}, {512 * rng.IntN(2000), 512 * rng.IntN(4000)}} {
		off, part := r[0], got[:r[1]]
		if err := v.ReadAt(v.j.stop, 0, part, int64(off)); err != nil {
			return err
		}
		if !bytes.Equal(part, want[off:off+len(part)]) {
			return fmt.Errorf("%d bytes at %d are others", len(part), off)
		}
		for i := range part {
			part[i] = 0xee
		}
		at := int64(off)
		err := v.ReadSparse(v.j.stop, 0, part, int64(off), func(hole, length int64) {
			if hole < at || length <= 0 {
				part[0]++ // out of order
			}
			at = hole + length
			clear(part[hole-int64(off):][:length])
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(part, want[off:off+len(part)]) {
			return fmt.Errorf("%d bytes at %d are others, with holes", len(part), off)
		}
	}
	return nil
}

// Several read all there is, in parallel, while segments become layers and layers are merged under them.
func TestLargeReadsWhileMerging(t *testing.T) {
	seed := seeds(t, 1)[0]
	l := newLarge(t, seed)
	var mu sync.Mutex
	var points []Point
	states := map[uint64][]byte{}
	remember := func() {
		p, err := l.j.Check(l.pos)
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		points, states[l.pos] = append(points, p), slices.Clone(l.disk)
	}
	l.writeSome(20)
	remember()
	var readers sync.WaitGroup
	done := make(chan struct{})
	errs := make([]error, 3)
	for i := range errs {
		readers.Go(func() {
			rng := newRand(seed + uint64(i))
			for errs[i] == nil {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				p := points[rng.IntN(len(points))]
				want := states[p.Position]
				mu.Unlock()
				v, err := l.j.View(t.Context(), p)
				if err == nil {
					err = compareLarge(v, rng, want)
					v.Close()
				}
				errs[i] = err
			}
		})
	}
	for range 6 {
		l.writeSome(60)
		remember()
		quiesce(t, l.j)
	}
	close(done)
	readers.Wait()
	require.Equal(t, make([]error, 3), errs)
	for _, p := range points {
		v, err := l.j.View(t.Context(), p)
		require.NoError(t, err)
		require.NoError(t, compareLarge(v, l.rng, states[p.Position]))
		require.NoError(t, v.Close())
	}
	require.NoError(t, l.j.Close())
}

// One damaged block of a large read: it is the one that is named, and noted, and everything around it still reads.
func TestDamageInLargeReadIsNamed(t *testing.T) {
	l := newLarge(t, seeds(t, 1)[0])
	const blocks = largeDisk / largeBlock
	for i := range blocks { // each a fragment of its own
		l.write(i*7%blocks, 1)
	}
	quiesce(t, l.j)
	var name string
	for n := range l.fs.Snapshot() {
		if ref := l.j.catalogue().Runs[0].Layers[0].Name; bytes.HasSuffix([]byte(n), []byte(ref)) {
			name = n
		}
	}
	(&history{t: t, fs: l.fs}).flip(name, 300<<10)
	p, err := l.j.Latest()
	require.NoError(t, err)
	v, err := l.j.View(t.Context(), p)
	require.NoError(t, err)
	got := make([]byte, largeDisk)
	whole := v.ReadAt(t.Context(), 0, got, 0)
	require.True(t, fault.Is(whole, fault.Corruption), "%v", whole)
	noted := l.j.Damage()
	require.NotEmpty(t, noted)
	bad := 0
	for i := range blocks {
		err := v.ReadAt(t.Context(), 0, got[:largeBlock], int64(i)*largeBlock)
		if err == nil {
			require.Equal(t, l.disk[i*largeBlock:(i+1)*largeBlock], got[:largeBlock])
			continue
		}
		bad++
		place := fmt.Sprintf("disk 0, bytes %d to %d,", i*largeBlock, (i+1)*largeBlock)
		require.ErrorContains(t, err, place)
		if bad == 1 {
			require.ErrorContains(t, whole, place)
			require.EqualValues(t, i*largeBlock/512, noted[0].Sector)
			require.EqualValues(t, largeBlock/512, noted[0].Sectors)
		}
	}
	require.Positive(t, bad)
	require.LessOrEqual(t, bad, 4, "a block of 16 KiB")
	require.NoError(t, v.Close())
	require.NoError(t, l.j.Close())
}

// Shares are together what was cut, and none is larger than a share.
func TestCut(t *testing.T) {
	rng := newRand(seeds(t, 1)[0])
	for range 200 {
		var list []fragment
		at := rng.Uint64N(1000)
		for range rng.IntN(200) {
			at += rng.Uint64N(2) * rng.Uint64N(100)
			list = append(list, fragment{start: at, sectors: 1 + rng.Uint64N(1<<rng.IntN(13))})
			at = list[len(list)-1].end()
		}
		rest := slices.Clone(list)
		for _, s := range cut(list) {
			n := uint64(0)
			for _, f := range s {
				require.NotEmpty(t, rest)
				require.Equal(t, rest[0].start, f.start)
				require.LessOrEqual(t, f.sectors, rest[0].sectors)
				if rest[0] = rest[0].from(f.end()); rest[0].sectors == 0 {
					rest = rest[1:]
				}
				n += f.sectors
			}
			require.LessOrEqual(t, n, uint64(share/512))
		}
		require.Empty(t, rest)
	}
}
