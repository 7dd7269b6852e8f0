package nbd

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// sparseDisk finds holes as it reads, and leaves rubbish where they are.
type sparseDisk struct {
	*disk
	t testing.TB
}

func (d sparseDisk) ReadSparse(ctx context.Context, p []byte, off int64, hole func(off, length int64)) error {
	if err := d.ReadAt(ctx, p, off); err != nil {
		return err
	}
	for at, end := off, off+int64(len(p)); at < end; {
		n := min(diskBlock-at%diskBlock, end-at)
		if !d.used[at/diskBlock] {
			copy(p[at-off:], bytes.Repeat([]byte{0xdb}, int(n)))
			hole(at, n)
		}
		at += n
	}
	return nil
}

func (d sparseDisk) Extents(context.Context, int64, int64) ([]Extent, error) {
	d.t.Error("asked for holes before it was read")
	return nil, EIO
}

func TestSparseRead(t *testing.T) {
	d := newDisk(8 << 20)
	d.fill(t, 7) // data in the first 64 KiB of every 192 KiB
	for b := 3 << 20 / diskBlock; b < 6<<20/diskBlock; b++ {
		d.used[b] = false
	}
	clear(d.data[3<<20 : 6<<20])
	w := dialWire(t, serverOf(sparseDisk{d, t}))
	w.enter("d")
	for _, c := range []struct{ off, length int64 }{
		{60 << 10, 140 << 10}, {0, 64 << 10}, {64 << 10, 4096}, {100 << 10, 512}, {1, 300 << 10}, {63<<10 + 7, 2048}, {0, 8 << 20},
		{3<<20 - 64<<10, 3<<20 + 70<<10}, {8<<20 - 1, 1}, {64<<10 - 10, 20},
	} {
		w.request(request{cmd: cmdRead, cookie: 3, off: uint64(c.off), length: uint32(c.length)})
		got := bytes.Repeat([]byte{0xee}, int(c.length))
		var have coverage
		chunks := 0
		for {
			r := w.next(0)
			require.EqualValues(t, 3, r.cookie)
			off := int64(be.Uint64(r.payload))
			n := int64(len(r.payload) - 8)
			switch r.typ {
			case chunkOffsetData:
				copy(got[off-c.off:], r.payload[8:])
			case chunkOffsetHole:
				n = int64(be.Uint32(r.payload[8:]))
				clear(got[off-c.off:][:n])
			default:
				t.Fatalf("chunk of type %d", r.typ)
			}
			require.True(t, have.add(off, n))
			chunks++
			if r.flags&chunkFlagDone != 0 {
				break
			}
		}
		require.True(t, have.full(c.off, c.length), "%+v", c)
		require.Equal(t, d.data[c.off:c.off+c.length], got, "%+v", c)
		if c.length == 3<<20+70<<10 {
			require.LessOrEqual(t, chunks, 3, "a hole of many pieces is said at once")
		}
	}
	w.request(request{cmd: cmdRead, flags: cmdFlagDF, off: 60 << 10, length: 140 << 10})
	require.Equal(t, d.data[60<<10:200<<10], w.next(0).payload[8:])
}

// holeLiar tells holes that cannot be.
type holeLiar struct {
	*disk
	holes []span
}

func (l holeLiar) ReadSparse(_ context.Context, _ []byte, _ int64, hole func(off, length int64)) error {
	for _, h := range l.holes {
		hole(h.off, h.length)
	}
	return nil
}

func TestLyingSparseReader(t *testing.T) {
	for name, holes := range map[string][]span{
		"before": {{off: 4095, length: 10000}}, "behind": {{off: 8192, length: 4097}}, "empty": {{off: 8192}}, "negative": {{off: 8192, length: -4096}},
		"backwards": {{off: 9000, length: 10}, {off: 8500, length: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, serverOf(holeLiar{newDisk(1 << 20), holes}))
			w.enter("d")
			w.request(request{cmd: cmdRead, off: 4096, length: 8192})
			require.Equal(t, EIO, w.next(0).errno)
		})
	}
}

// Workers take turns: one request after the other needs two or three, whatever the limit is; many at once need as many.
func TestWorkersAreAsManyAsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		g := newGate(1 << 20)
		s := newSession(serverOf(g), &haggle{nc: theirs, open: &Export{Backend: g}, structured: true})
		ended := make(chan error)
		go func() { ended <- s.run(t.Context()) }()
		w := &wire{t: t, Conn: ours}
		ask := func(n int) {
			for i := range n {
				w.request(request{cmd: cmdRead, cookie: uint64(i), flags: cmdFlagDF, length: 4096})
			}
		}
		answer := func(n int) {
			for range n {
				require.Len(t, w.next(0).payload, 8+4096)
			}
		}
		ask(10)
		synctest.Wait()
		require.EqualValues(t, 10, g.inside.Load())
		close(g.open)
		answer(10)
		for range 500 {
			ask(1)
			answer(1)
		}
		w.request(request{cmd: cmdDisc})
		require.NoError(t, <-ended)
		require.Equal(t, 11, s.have)
		require.NoError(t, ours.Close())
	})
}
