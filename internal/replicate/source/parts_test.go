package source

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/wire"
)

func TestReconcile(t *testing.T) {
	const id = "c1"
	mine := epoch{number: 3, first: 100, base: 1, journal: "j", acked: 150, openAcked: true, done: true}
	same := wire.Welcome{Journal: "j", Capture: id, Epoch: 3, First: 100, BaselineDone: true, Durable: 150, Highest: 200}
	unheard := mine
	unheard.openAcked, unheard.done, unheard.gap, unheard.acked = false, false, 90, 80
	before := wire.Welcome{Journal: "j", Capture: id, Epoch: 2, First: 10, BaselineDone: true, Durable: 85, Highest: 85}
	cases := []struct {
		name string
		e    epoch
		w    wire.Welcome
		edit func(e *epoch, w *wire.Welcome)
		want verdict
	}{
		{"first time", epoch{}, wire.Welcome{Journal: "j"}, nil, verdict{reason: reasonInitial}},
		{"new capture", epoch{}, same, nil, verdict{reason: reasonTrackingLost}},
		{"link cut", mine, same, nil, verdict{resume: true, announced: true}},
		{"acknowledgement lost", mine, same, func(_ *epoch, w *wire.Welcome) { w.Durable = 180 }, verdict{resume: true, announced: true}},
		{"other journal", mine, same, func(_ *epoch, w *wire.Welcome) { w.Journal = "k" }, verdict{reason: reasonJournalChanged}},
		{"bios lost", mine, same, func(_ *epoch, w *wire.Welcome) { w.Durable = 149 }, verdict{reason: reasonRolledBack}},
		{"baseline lost", mine, same, func(e *epoch, w *wire.Welcome) { e.frames, w.Frames = 8, 7 }, verdict{reason: reasonRolledBack}},
		{"more than was acknowledged", mine, same, func(e *epoch, w *wire.Welcome) { e.frames, w.Frames = 8, 9 }, verdict{resume: true, announced: true}},
		{"end of baseline lost", mine, same, func(_ *epoch, w *wire.Welcome) { w.BaselineDone = false }, verdict{reason: reasonRolledBack}},
		{"epoch lost", mine, before, func(e *epoch, _ *wire.Welcome) { e.acked = 80 }, verdict{reason: reasonRolledBack}},
		{"two epochs lost", unheard, before, func(_ *epoch, w *wire.Welcome) { w.Epoch = 1 }, verdict{reason: reasonRolledBack}},
		{"epoch not heard of", unheard, before, nil, verdict{resume: true}},
		{"not heard of, and another wrote", unheard, before, func(_ *epoch, w *wire.Welcome) { w.Highest = 101 }, verdict{reason: reasonTrackingLost}},
		{"not heard of, and another capture", unheard, before, func(_ *epoch, w *wire.Welcome) { w.Capture = "c2" }, verdict{reason: reasonTrackingLost}},
		{"another capture", mine, same, func(_ *epoch, w *wire.Welcome) { w.Capture = "c2" }, verdict{reason: reasonTrackingLost}},
		{"another beginning", mine, same, func(_ *epoch, w *wire.Welcome) { w.First = 99 }, verdict{reason: reasonTrackingLost}},
		{"later epoch", mine, same, func(_ *epoch, w *wire.Welcome) { w.Epoch = 4 }, verdict{reason: reasonTrackingLost}},
		{"bios that were never captured", mine, same, func(_ *epoch, w *wire.Welcome) { w.Durable = 1001 }, verdict{reason: reasonTrackingLost}},
	}
	for _, c := range cases {
		e, w := c.e, c.w
		if c.edit != nil {
			c.edit(&e, &w)
		}
		require.Equal(t, c.want, reconcile(&e, id, 1000, &w), c.name)
	}
}

// cells are meta cells; after some stores they take no more, as if the agent had been killed.
type cells struct {
	v    [capture.MetaCells]uint64
	left int
}

func (c *cells) Meta(i int) uint64 { return c.v[i] }

func (c *cells) SetMeta(i int, v uint64) {
	if c.left > 0 {
		c.v[i] = v
		c.left--
	}
}

// TestMemoryIsAtomic kills the agent after each store of a commit: it remembers the old epoch or the new one.
func TestMemoryIsAtomic(t *testing.T) {
	old := epoch{number: 1, first: 2, producer: 3, gap: 4, drops: 5, base: 6, reason: 1, opened: 7, journal: "one", acked: 8, frames: 10, time: 9,
		openAcked: true, done: true, settled: true, zeros: true, fresh: true}
	next := epoch{number: 11, first: 12, producer: 13, gap: 14, drops: 15, base: 16, reason: 2, opened: 17,
		journal: "a journal's id of exactly forty-eight bytes, yes.", acked: 18, time: 19}
	next.frames = 20
	next.journal = next.journal[:maxJournalID]
	news := 0
	for kill := range 100 {
		c := &cells{left: 1000}
		m := memory{cells: c}
		require.Equal(t, epoch{}, m.load())
		m.commit(&epoch{number: 99})
		m.commit(&old)
		require.Equal(t, old, m.load())
		c.left = kill
		m.commit(&next)
		if got := m.load(); got.number == next.number {
			require.Equal(t, next, got)
			news++
		} else {
			require.Equal(t, old, got, "killed after %d stores", kill)
		}
	}
	require.Positive(t, news)
	require.Less(t, cellKept, capture.MetaCells)
}

func TestMemoryOfAnotherLayout(t *testing.T) {
	c := &cells{left: 1000}
	memory{cells: c}.commit(&epoch{number: 5})
	c.SetMeta(cellLayout, layoutV3+1)
	require.Equal(t, epoch{}, memory{cells: c}.load())
}

func part(cpu uint32, flags capture.Flags, start uint64) *capture.Record {
	return &capture.Record{CPU: cpu, Flags: flags, Op: capture.Write, Start: start, End: start + 64}
}

func TestAssembler(t *testing.T) {
	var a assembler
	require.Nil(t, a.add(part(1, capture.First, 0)))
	require.Nil(t, a.add(part(2, capture.First, 64)))
	require.EqualValues(t, 0, a.oldest())
	b := a.add(part(1, capture.Last, 128))
	require.NotNil(t, b)
	require.Len(t, b.parts, 2)
	require.Equal(t, [2]uint64{0, 192}, [2]uint64{b.start, b.end})
	require.EqualValues(t, 64, a.oldest())
	a.recycle(b)

	whole := a.add(part(2, capture.First|capture.Last, 192)) // the open bio of this CPU was dropped
	require.Len(t, whole.parts, 1)
	require.Empty(t, a.open)
	require.Nil(t, a.add(part(2, capture.Last, 256)), "the rest of a bio whose beginning is gone")

	require.Nil(t, a.add(part(3, capture.First, 320)))
	a.expire(1000)
	require.Len(t, a.open, 1, "nobody said that its program has finished")
	a.finished(384, 512)
	require.Nil(t, a.add(part(4, capture.First, 384)))
	a.expire(511)
	require.Len(t, a.open, 2, "its end may come yet")
	a.expire(512)
	require.Len(t, a.open, 1, "only the list that had begun then")
	require.EqualValues(t, 384, a.oldest())
}

func TestRun(t *testing.T) {
	b := make([]byte, 3*zeroPiece+512)
	n, zero := run(b)
	require.Equal(t, len(b), n)
	require.True(t, zero)
	for _, i := range []int{zeroPiece, 2*zeroPiece - 1, zeroPiece + 33} {
		clear(b)
		b[i] = 1
		n, zero = run(b)
		require.Equal(t, zeroPiece, n, "byte %d", i)
		require.True(t, zero)
		n, zero = run(b[n:])
		require.Equal(t, zeroPiece, n)
		require.False(t, zero)
	}
	clear(b)
	b[len(b)-1] = 1
	n, zero = run(b[3*zeroPiece:])
	require.Equal(t, 512, n)
	require.False(t, zero)
}

// TestFramer reads a chunk back from its frames.
func TestFramer(t *testing.T) {
	for _, zeros := range []bool{true, false} {
		data := make([]byte, 3*baseFrame+512)
		for i := range data {
			if i/zeroPiece%5 != 3 {
				data[i] = byte(i>>12) | 1
			}
		}
		w := framer{chunk: &chunk{disk: &disk{Disk: Disk{Index: 7}}, epoch: 2, first: 50, time: 9, version: wire.V3, zeros: zeros}}
		w.add(data, 8192)
		w.flush()
		got := make([]byte, len(data))
		covered := 0
		require.Greater(t, len(w.chunk.frames), 2)
		for _, b := range w.chunk.frames {
			require.LessOrEqual(t, b.raw, baseFrame)
			f, err := wire.Parse(b.frame)
			require.NoError(t, err)
			require.Equal(t, b.raw, int(f.RawBytes))
			require.Equal(t, b.raw > 0, f.Summed())
			extents, err := f.ExtentTable(nil)
			require.NoError(t, err)
			raw, err := f.Payload(nil)
			require.NoError(t, err)
			for _, e := range extents {
				require.Equal(t, [3]uint64{7, 50, 9}, [3]uint64{uint64(e.Disk), e.Position, uint64(e.Time)})
				covered += int(e.Bytes)
				if e.Kind == wire.KindData {
					copy(got[e.Sector*512-8192:], raw[:e.Bytes])
					raw = raw[e.Bytes:]
				}
			}
		}
		require.True(t, bytes.Equal(data, got))
		require.Equal(t, zeros, covered == len(data), "%d of %d covered", covered, len(data))
	}
}

func TestAlignedBuffer(t *testing.T) {
	for range 20 {
		b := alignedBuffer(512)
		require.Len(t, b, 512)
		require.Equal(t, 512, cap(b))
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	seen := map[time.Duration]bool{}
	for range 100 {
		d := b.next()
		require.GreaterOrEqual(t, d, 50*time.Millisecond)
		require.LessOrEqual(t, d, maxBackoff)
		seen[d] = true
	}
	require.Equal(t, maxBackoff, b.last)
	require.Greater(t, len(seen), 50, "jitter")
}

func TestLatency(t *testing.T) {
	var w window
	require.Zero(t, w.quantiles())
	for i := range int64(windowFrames + 100) {
		w.add(i, 2*i)
	}
	l := w.quantiles()
	require.Equal(t, windowFrames, l.Frames)
	require.EqualValues(t, 100+windowFrames/2, l.OldestP50)
	require.EqualValues(t, 100+windowFrames*99/100, l.OldestP99)
	require.EqualValues(t, 2*l.OldestP99, l.NewestP99)
}
