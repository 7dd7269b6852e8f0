package nbd

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/understudy-dr/understudy/internal/fault"
)

// model is what an export holds, as a plain array.
type model struct {
	t      *rapid.T
	disk   *disk
	bytes  []byte
	client []*Client
}

func (m *model) pick() *Client {
	return m.client[rapid.IntRange(0, len(m.client)-1).Draw(m.t, "client")]
}

// somewhere is a range inside the export: often short, often aligned, sometimes longer than a piece.
func (m *model) somewhere() (off, length int64) {
	size := int64(len(m.bytes))
	off = rapid.Int64Range(0, size).Draw(m.t, "off")
	most := rapid.SampledFrom([]int64{1, 511, 4096, 65536, pieceSize + 5, size}).Draw(m.t, "most")
	length = rapid.Int64Range(0, min(most, size-off)).Draw(m.t, "length")
	if rapid.Bool().Draw(m.t, "aligned") {
		off, length = off&^4095, length&^4095
	}
	return off, length
}

func (m *model) read(*rapid.T) {
	off, length := m.somewhere()
	p := bytes.Repeat([]byte{0xee}, int(length))
	require.NoError(m.t, m.pick().ReadAt(context.Background(), p, off))
	require.True(m.t, bytes.Equal(m.bytes[off:off+length], p), "read %d+%d differs", off, length)
}

func (m *model) write(*rapid.T) {
	off, length := m.somewhere()
	p := make([]byte, length)
	fillRandom(rapid.Uint64().Draw(m.t, "content"), p)
	require.NoError(m.t, m.pick().WriteAt(context.Background(), p, off))
	copy(m.bytes[off:], p)
}

func (m *model) zero(*rapid.T) {
	off, length := m.somewhere()
	require.NoError(m.t, m.pick().Zero(context.Background(), off, length, rapid.Bool().Draw(m.t, "trim")))
	clear(m.bytes[off : off+length])
}

// trim relies on the disk of these tests, which zeroes what is trimmed.
func (m *model) trim(*rapid.T) {
	off, length := m.somewhere()
	require.NoError(m.t, m.pick().Trim(context.Background(), off, length))
	clear(m.bytes[off : off+length])
}

func (m *model) flush(*rapid.T) {
	before := m.disk.flushes.Load()
	require.NoError(m.t, m.pick().Flush(context.Background()))
	require.Equal(m.t, before+1, m.disk.flushes.Load())
}

// extents walks a range and checks that every hole reads as zero and is one on the disk.
func (m *model) extents(*rapid.T) {
	off, length := m.somewhere()
	c := m.pick()
	for end := off + length; off < end; {
		extents, err := c.Extents(context.Background(), off, end-off)
		require.NoError(m.t, err)
		require.NotEmpty(m.t, extents)
		for _, e := range extents {
			require.Positive(m.t, e.Length)
			require.LessOrEqual(m.t, off+e.Length, end)
			if e.Hole {
				require.Zero(m.t, len(bytes.Trim(m.bytes[off:off+e.Length], "\x00")))
			}
			for b := off / diskBlock; c.Structured() && b <= (off+e.Length-1)/diskBlock; b++ {
				require.Equal(m.t, m.disk.used[b], !e.Hole)
			}
			off += e.Length
		}
	}
}

// crowd reads from many goroutines at once over one connection.
func (m *model) crowd(*rapid.T) {
	c := m.pick()
	seed := rapid.Uint64().Draw(m.t, "seed")
	var wg sync.WaitGroup
	errs := make(chan string, 8)
	for i := range cap(errs) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			off := rnd.Int64N(int64(len(m.bytes)))
			p := make([]byte, rnd.Int64N(int64(len(m.bytes))-off+1))
			if err := c.ReadAt(context.Background(), p, off); err != nil {
				errs <- err.Error()
			} else if !bytes.Equal(p, m.bytes[off:off+int64(len(p))]) {
				errs <- "wrong bytes"
			}
		})
	}
	wg.Wait()
	close(errs)
	require.Empty(m.t, <-errs)
}

func fillRandom(seed uint64, p []byte) {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	rnd.Read(p)
}

// Random commands over three connections, two modern and one with simple replies, against an array.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int64{1, 4095, 300<<10 + 7, pieceSize + 70777}).Draw(rt, "size")
		d := newDisk(size)
		ctx, cancel := context.WithCancel(context.Background())
		srv := &Server{Exports: Static(Export{Name: "d", Backend: d}), Log: quiet()}
		m := &model{t: rt, disk: d, bytes: make([]byte, size)}
		var conns sync.WaitGroup
		for range 2 {
			m.client = append(m.client, connectPiped(ctx, rt, &conns, srv))
		}
		m.client = append(m.client, plainPiped(ctx, rt, &conns, srv))
		defer conns.Wait()
		defer cancel()
		defer func() {
			for _, c := range m.client {
				require.NoError(rt, c.Close())
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"read": m.read, "write": m.write, "zero": m.zero, "trim": m.trim,
			"flush": m.flush, "extents": m.extents, "crowd": m.crowd,
		})
	})
}

func TestRangesOutsideAreRefused(t *testing.T) {
	c := dial(t, listen(t, &Server{Exports: Static(Export{Backend: newDisk(8192)})}), ClientConfig{})
	ctx := context.Background()
	for _, r := range [][2]int64{{-1, 1}, {8192, 1}, {0, 8193}, {8191, 2}, {1 << 62, 1 << 62}, {0, -1}} {
		_, err := c.Extents(ctx, r[0], r[1])
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", r)
		require.Equal(t, fault.Invalid, fault.KindOf(c.Zero(ctx, r[0], r[1], true)), "%v", r)
		require.Equal(t, fault.Invalid, fault.KindOf(c.Trim(ctx, r[0], r[1])), "%v", r)
	}
	require.Equal(t, fault.Invalid, fault.KindOf(c.ReadAt(ctx, make([]byte, 2), 8191)))
	require.Equal(t, fault.Invalid, fault.KindOf(c.WriteAt(ctx, make([]byte, 2), 8191)))
}
