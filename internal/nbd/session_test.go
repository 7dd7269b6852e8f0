package nbd

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func serverOf(d Backend) *Server {
	return &Server{Exports: Static(Export{Name: "d", Backend: d})}
}

func TestReadSendsHolesAsHoles(t *testing.T) {
	d := newDisk(1 << 20)
	d.fill(t, 7) // data in the first 64 KiB of every 192 KiB
	w := dialWire(t, serverOf(d))
	w.enter("d")
	w.request(request{cmd: cmdRead, cookie: 9, off: 60 << 10, length: 140 << 10})
	a, b, c := w.next(0), w.next(0), w.next(0)
	require.Equal(t, []uint16{chunkOffsetData, chunkOffsetHole, chunkOffsetData}, []uint16{a.typ, b.typ, c.typ})
	require.Equal(t, []uint16{0, 0, chunkFlagDone}, []uint16{a.flags, b.flags, c.flags})
	require.Equal(t, d.data[60<<10:64<<10], a.payload[8:])
	require.Equal(t, be.AppendUint32(be.AppendUint64(nil, 64<<10), 128<<10), b.payload)
	require.EqualValues(t, 192<<10, be.Uint64(c.payload))
	require.Equal(t, d.data[192<<10:200<<10], c.payload[8:])

	// Unfragmented, the zeros are sent.
	w.request(request{cmd: cmdRead, flags: cmdFlagDF, off: 60 << 10, length: 140 << 10})
	one := w.next(0)
	require.EqualValues(t, chunkOffsetData, one.typ)
	require.EqualValues(t, chunkFlagDone, one.flags)
	require.Equal(t, d.data[60<<10:200<<10], one.payload[8:])

	w.request(request{cmd: cmdRead, cookie: 1})
	require.Equal(t, reply{structured: true, flags: chunkFlagDone, cookie: 1, payload: []byte{}}, w.next(0))
}

func TestBlockStatus(t *testing.T) {
	d := newDisk(1 << 20)
	d.fill(t, 7)
	w := dialWire(t, serverOf(d))
	w.enter("d")
	const zero = stateHole | stateZero
	for _, c := range []struct {
		flags uint16
		off   uint64
		len   uint32
		want  []uint32
	}{
		{0, 0, 1 << 20, []uint32{
			64 << 10, 0, 128 << 10, zero, 64 << 10, 0, 128 << 10, zero, 64 << 10, 0, 128 << 10, zero,
			64 << 10, 0, 128 << 10, zero, 64 << 10, 0, 128 << 10, zero, 64 << 10, 0}},
		{0, 1, 512, []uint32{512, 0}},
		{0, 65 << 10, 4096, []uint32{4096, zero}},
		{cmdFlagReqOne, 0, 1 << 20, []uint32{64 << 10, 0}},
		{cmdFlagReqOne, 64 << 10, 100, []uint32{100, zero}},
	} {
		w.request(request{cmd: cmdBlockStatus, flags: c.flags, off: c.off, length: c.len})
		want := be.AppendUint32(nil, allocationID)
		for _, v := range c.want {
			want = be.AppendUint32(want, v)
		}
		require.Equal(t, reply{structured: true, flags: chunkFlagDone, typ: chunkBlockStatus, payload: want}, w.next(0))
	}
}

func TestRefusals(t *testing.T) {
	const size = 1 << 20
	ro := Static(Export{Name: "d", Backend: newDisk(size), ReadOnly: true})
	rw := Static(Export{Name: "d", Backend: newDisk(size)})
	for name, c := range map[string]struct {
		exports Exports
		req     request
		want    Errno
	}{
		"read past the end":         {rw, request{cmd: cmdRead, off: size - 1, length: 2}, EINVAL},
		"read wraps around":         {rw, request{cmd: cmdRead, off: 1<<64 - 1, length: 2}, EINVAL},
		"read over the payload":     {rw, request{cmd: cmdRead, length: maxPayload + 1}, EINVAL},
		"read with foreign flag":    {rw, request{cmd: cmdRead, flags: cmdFlagReqOne, length: 1}, EINVAL},
		"write past the end":        {rw, request{cmd: cmdWrite, off: size - 1, length: 2}, ENOSPC},
		"zeroes past the end":       {rw, request{cmd: cmdWriteZeroes, off: size, length: 1}, ENOSPC},
		"zeroes fast":               {rw, request{cmd: cmdWriteZeroes, flags: 1 << 4, length: 1}, EINVAL},
		"trim past the end":         {rw, request{cmd: cmdTrim, off: size, length: 1}, EINVAL},
		"cache past the end":        {rw, request{cmd: cmdCache, off: size, length: 1}, EINVAL},
		"status past the end":       {rw, request{cmd: cmdBlockStatus, off: size, length: 1}, EINVAL},
		"status of nothing":         {rw, request{cmd: cmdBlockStatus}, EINVAL},
		"unknown command":           {rw, request{cmd: 8, length: 1}, EINVAL},
		"write on read-only":        {ro, request{cmd: cmdWrite, length: 100}, EPERM},
		"trim on read-only":         {ro, request{cmd: cmdTrim, length: 100}, EPERM},
		"zeroes on read-only":       {ro, request{cmd: cmdWriteZeroes, length: 100}, EPERM},
		"flush on read-only":        {ro, request{cmd: cmdFlush}, 0},
		"cache without a cache":     {ro, request{cmd: cmdCache, length: 100}, 0},
		"flush with length":         {rw, request{cmd: cmdFlush, off: 1 << 63, length: 1}, 0},
		"trim of nothing":           {rw, request{cmd: cmdTrim, off: size}, 0},
		"write of nothing":          {rw, request{cmd: cmdWrite, off: size}, 0},
		"read with FUA, as some do": {rw, request{cmd: cmdRead, flags: cmdFlagFUA, length: 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, &Server{Exports: c.exports})
			w.enter("d")
			c.req.cookie = 0x1122334455667788
			w.request(c.req)
			if c.req.cmd == cmdWrite {
				w.say(make([]byte, c.req.length))
			}
			got := w.next(0)
			require.Equal(t, c.want, got.errno)
			require.Equal(t, c.req.cookie, got.cookie)
			// The connection goes on, at the right byte.
			w.request(request{cmd: cmdRead, cookie: 2, flags: cmdFlagDF, length: 512})
			require.Len(t, w.next(0).payload, 8+512)
		})
	}
}

func TestSimpleReplies(t *testing.T) {
	d := newDisk(1 << 20)
	d.fill(t, 3)
	w := dialWire(t, serverOf(d))
	w.enterPlain("d")
	w.request(request{cmd: cmdRead, cookie: 5, off: 100, length: 200 << 10})
	require.Equal(t, reply{cookie: 5, payload: d.data[100 : 100+200<<10]}, w.next(200<<10))
	w.request(request{cmd: cmdRead, cookie: 6, off: 1 << 20, length: 1})
	require.Equal(t, reply{cookie: 6, errno: EINVAL}, w.next(1))
	w.request(request{cmd: cmdRead, flags: cmdFlagDF, length: 1})
	require.Equal(t, EINVAL, w.next(1).errno)
}

func TestWritesReachTheBackend(t *testing.T) {
	d := newDisk(1 << 20)
	w := dialWire(t, serverOf(d))
	w.enter("d")
	w.request(request{cmd: cmdWrite, flags: cmdFlagFUA, off: 4096, length: 4})
	w.say([]byte("data"))
	require.Zero(t, w.next(0).errno)
	require.Equal(t, "data", string(d.data[4096:4100]))
	require.EqualValues(t, 1, d.flushes.Load(), "FUA makes durable")
	w.request(request{cmd: cmdWriteZeroes, flags: cmdFlagNoHole, off: 4096, length: 4096})
	require.Zero(t, w.next(0).errno)
	require.True(t, d.used[1], "NO_HOLE keeps the space")
	w.request(request{cmd: cmdWriteZeroes, off: 4096, length: 4096})
	require.Zero(t, w.next(0).errno)
	require.False(t, d.used[1])
	w.request(request{cmd: cmdTrim, off: 4096, length: 4096})
	require.Zero(t, w.next(0).errno)
	require.EqualValues(t, 1, d.trims.Load())
	require.EqualValues(t, 1, d.flushes.Load())
}

func TestTransmissionViolationsEndIt(t *testing.T) {
	t.Run("magic", func(t *testing.T) {
		w := dialWire(t, serverOf(newDisk(4096)))
		w.enter("d")
		w.say(make([]byte, requestSize))
		require.Equal(t, fault.Corruption, fault.KindOf(w.gone()))
	})
	t.Run("oversized write", func(t *testing.T) {
		w := dialWire(t, serverOf(newDisk(4096)))
		w.enter("d")
		w.request(request{cmd: cmdWrite, length: maxPayload + 1})
		require.Equal(t, fault.Corruption, fault.KindOf(w.gone()))
	})
	t.Run("half a write", func(t *testing.T) {
		w := dialWire(t, serverOf(newDisk(4096)))
		w.enter("d")
		w.request(request{cmd: cmdWrite, length: 100})
		w.say(make([]byte, 50))
		w.Close()
		require.Equal(t, fault.Transient, fault.KindOf(<-w.ended))
	})
}

func TestBackendErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Errno
	}{
		{fault.New(fault.Corruption, "journal: read", "segment 7"), EIO},
		{fault.New(fault.OutOfSpace, "t", "full"), ENOSPC},
		{fault.New(fault.Denied, "t", "no"), EPERM},
		{fault.New(fault.Invalid, "t", "no"), EINVAL},
		{fault.New(fault.Unsupported, "t", "no"), ENOTSUP},
		{fault.Wrap("t", ENOMEM), ENOMEM},
		{context.DeadlineExceeded, EIO},
	} {
		d := newDisk(1 << 20)
		d.fill(t, 1)
		d.fault = func(context.Context, int64, int64) error { return c.err }
		w := dialWire(t, serverOf(d))
		w.enter("d")
		w.request(request{cmd: cmdRead, length: 4096})
		got := w.next(0)
		require.Equal(t, c.want, got.errno, "%v", c.err)
		require.EqualValues(t, chunkFlagDone, got.flags)
		require.Contains(t, string(got.payload[6:]), c.err.Error())
		w.request(request{cmd: cmdFlush})
		require.Zero(t, w.next(0).errno, "the connection goes on")
	}
}

// A client that is told of a shutdown fails its guest's reads; one that loses its connection comes back.
func TestShutdownIsNotTold(t *testing.T) {
	for name, err := range map[string]error{
		"fenced":    fault.New(fault.Fenced, "t", "another owner"),
		"shut down": fault.Wrap("t", ESHUTDOWN),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(4096)
			d.used[0] = true
			d.fault = func(context.Context, int64, int64) error { return err }
			w := dialWire(t, serverOf(d))
			w.enter("d")
			w.request(request{cmd: cmdRead, length: 4096})
			require.ErrorIs(t, w.gone(), err)
		})
	}
	t.Run("context", func(t *testing.T) {
		d := newDisk(4096)
		d.used[0] = true
		reading := make(chan struct{})
		d.fault = func(ctx context.Context, _, _ int64) error {
			close(reading)
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(context.Background())
		var conns sync.WaitGroup
		srv := serverOf(d)
		srv.Log = quiet()
		w := &wire{t: t, Conn: piped(ctx, &conns, srv)}
		defer w.Close()
		w.take(18)
		w.say(be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes))
		w.enter("d")
		w.request(request{cmd: cmdRead, length: 4096})
		<-reading
		cancel()
		conns.Wait()
		_, err := w.Read(make([]byte, 1))
		require.Error(t, err, "not a byte was sent")
	})
}

// gate holds reads back until it is opened and counts them.
type gate struct {
	*disk
	inside, most atomic.Int64
	bytes, peak  atomic.Int64
	open         chan struct{}
}

func newGate(size int64) *gate {
	g := &gate{disk: newDisk(size), open: make(chan struct{})}
	for i := range g.used {
		g.used[i] = true
	}
	g.fault = func(ctx context.Context, _, length int64) error {
		raise(&g.most, g.inside.Add(1))
		raise(&g.peak, g.bytes.Add(length))
		defer g.inside.Add(-1)
		defer g.bytes.Add(-length)
		select {
		case <-g.open:
		case <-ctx.Done():
		}
		return nil
	}
	return g
}

func raise(top *atomic.Int64, v int64) {
	for old := top.Load(); v > old && !top.CompareAndSwap(old, v); old = top.Load() {
	}
}

func TestRequestsRunTogetherWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(64 << 20)
		srv := serverOf(g)
		srv.MaxInFlight = 8
		w := dialWire(t, srv)
		w.enter("d")
		var sent sync.WaitGroup
		sent.Go(func() {
			for i := range 12 {
				w.request(request{cmd: cmdRead, cookie: uint64(i), off: uint64(i) << 12, length: 4096})
			}
		})
		synctest.Wait()
		require.EqualValues(t, 8, g.inside.Load(), "as many as allowed, together")
		close(g.open)
		seen := map[uint64]bool{}
		for range 12 {
			seen[w.next(0).cookie] = true
		}
		sent.Wait()
		require.Len(t, seen, 12)
		require.EqualValues(t, 8, g.most.Load())
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(64 << 20)
		w := dialWire(t, serverOf(g))
		w.enter("d")
		for i := range 8 {
			w.request(request{cmd: cmdRead, flags: cmdFlagDF, cookie: uint64(i), length: 10 << 20})
		}
		synctest.Wait()
		require.EqualValues(t, 3, g.inside.Load(), "three reads of 10 MiB fit into 32 MiB")
		close(g.open)
		for range 8 {
			require.Len(t, w.next(0).payload, 8+10<<20)
		}
		require.LessOrEqual(t, g.peak.Load(), int64(maxPayload))
		w.request(request{cmd: cmdRead, flags: cmdFlagDF, length: maxPayload})
		require.Len(t, w.next(0).payload, 8+maxPayload, "all of it was given back")
	})
}

func TestStalledClientIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(1 << 20)
		d.fill(t, 1)
		srv := serverOf(d)
		srv.StallTimeout = 7 * time.Second
		w := dialWire(t, srv)
		w.enter("d")
		began := time.Now()
		w.request(request{cmd: cmdRead, length: 4096})
		require.ErrorContains(t, <-w.ended, "timeout")
		require.Equal(t, 7*time.Second, time.Since(began))
	})
}

// DISC waits for what was asked before it.
func TestDisconnectFinishesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1 << 20)
		w := dialWire(t, serverOf(g))
		w.enter("d")
		w.request(request{cmd: cmdWrite, off: 0, length: 4096})
		w.say(bytes.Repeat([]byte{5}, 4096))
		w.request(request{cmd: cmdDisc})
		synctest.Wait()
		close(g.open)
		require.Zero(t, w.next(0).errno)
		require.NoError(t, w.gone())
		require.EqualValues(t, 5, g.data[0])
	})
}

// A backend that breaks its contract costs a request, not the process.
func TestLyingBackend(t *testing.T) {
	for name, extents := range map[string][]Extent{
		"nothing": {}, "empty": {{Length: 0}}, "negative": {{Length: 10}, {Length: -5}},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, serverOf(liar{newDisk(4096), extents}))
			w.enter("d")
			w.request(request{cmd: cmdRead, length: 4096})
			require.Equal(t, EIO, w.next(0).errno)
			w.request(request{cmd: cmdBlockStatus, length: 4096})
			require.Equal(t, EIO, w.next(0).errno)
		})
	}
}

type liar struct {
	*disk
	extents []Extent
}

func (l liar) Extents(context.Context, int64, int64) ([]Extent, error) { return l.extents, nil }
