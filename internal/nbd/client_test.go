package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestClientErrors(t *testing.T) {
	d := newDisk(1 << 20)
	d.fill(t, 1)
	c := dial(t, listen(t, serverOf(d)), ClientConfig{Export: "d"})
	ctx := context.Background()
	for _, e := range []Errno{EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP} {
		d.fault = func(context.Context, int64, int64) error { return fault.Wrap("why", e) }
		err := c.ReadAt(ctx, make([]byte, 4096), 0)
		require.ErrorIs(t, err, e)
		require.Equal(t, errnos[e].kind, fault.KindOf(err))
		require.ErrorContains(t, err, "why")
		require.ErrorIs(t, c.WriteAt(ctx, make([]byte, 10), 0), e)
	}
	require.Equal(t, EINVAL, errnoOf(Errno(4711)), "the protocol's list is closed")
	_, err := c.Status(ctx, "qemu:dirty-bitmap:x", 0, 512)
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
}

func TestClientChoosesExport(t *testing.T) {
	path := listen(t, &Server{Exports: twoExports()})
	c := dial(t, path, ClientConfig{Export: "two"})
	require.True(t, c.ReadOnly())
	require.True(t, c.MultiConn())
	require.True(t, c.Structured())
	require.EqualValues(t, 2<<20, c.Size())
	require.Equal(t, fault.Denied, fault.KindOf(c.WriteAt(context.Background(), []byte("x"), 0)))
	require.NoError(t, c.Flush(context.Background()))

	_, err := Dial(context.Background(), "unix", path, ClientConfig{Export: "three"})
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = Dial(context.Background(), "unix", path+"x", ClientConfig{})
	require.Equal(t, fault.Transient, fault.KindOf(err))

	nc, err := net.Dial("unix", path)
	require.NoError(t, err)
	list, err := List(context.Background(), nc, nil)
	require.NoError(t, err)
	require.Equal(t, []Listing{{"one", "the first"}, {"two", ""}}, list)
}

// A caller that leaves has its memory back at once; the late reply harms neither it nor the connection.
func TestClientCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1 << 20)
		serverCtx, stop := context.WithCancel(context.Background())
		var conns sync.WaitGroup
		srv := serverOf(g)
		c := connectPiped(serverCtx, t, &conns, srv)
		ctx, cancel := context.WithCancel(context.Background())
		buf, left := make([]byte, 4096), make(chan error, 1)
		go func() { left <- c.ReadAt(ctx, buf, 0) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		g.data[0] = 9
		close(g.open)
		synctest.Wait()
		require.Zero(t, buf[0], "memory of a caller that left was written to")
		require.NoError(t, c.ReadAt(context.Background(), buf, 0))
		require.EqualValues(t, 9, buf[0])
		require.Empty(t, c.slots)
		require.NoError(t, c.Close())
		stop()
		conns.Wait()
	})
}

// An error reply to a caller that left is no reason to give the connection up.
func TestClientCancelThenError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := scripted(t, exportInfo{structured: true})
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() { left <- c.ReadAt(ctx, make([]byte, 10), 0) }()
		server.take(requestSize)
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		server.say(errorChunk(1, EIO, "disk"))
		go func() { left <- c.ReadAt(context.Background(), make([]byte, 10), 0) }()
		server.take(requestSize)
		server.say(errorChunk(2, EIO, "disk"))
		require.ErrorIs(t, <-left, EIO)
		require.NoError(t, c.lostBecause())
	})
}

// scripted is a client in transmission whose server is the test.
func scripted(t *testing.T, info exportInfo) (*Client, *wire) {
	ours, theirs := net.Pipe()
	info.size, info.minBlock, info.maxPayload = max(info.size, 1<<20), max(info.minBlock, 1), maxPayload
	info.flags = flagHasFlags | flagSendFlush
	c := startClient(ours, info)
	t.Cleanup(func() {
		theirs.Close()
		c.Close()
	})
	return c, &wire{t: t, Conn: theirs}
}

func TestClientLosesConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := scripted(t, exportInfo{})
		const callers = clientInFlight + 10 // some wait for a slot
		lost := make(chan error, callers)
		for range callers {
			go func() { lost <- c.ReadAt(context.Background(), make([]byte, 10), 0) }()
		}
		for range 3 {
			server.take(requestSize)
		}
		synctest.Wait()
		server.Close()
		for range callers {
			require.Equal(t, fault.Transient, fault.KindOf(<-lost))
		}
		require.Equal(t, fault.Transient, fault.KindOf(c.Flush(context.Background())))
	})
}

func TestClientCancelInsideWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := scripted(t, exportInfo{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		left := make(chan error, 1)
		go func() { left <- c.WriteAt(ctx, make([]byte, 1000), 0) }()
		server.take(requestSize + 10) // and no more: the request is stuck half-way
		require.ErrorIs(t, <-left, context.DeadlineExceeded)
		require.Error(t, c.Flush(context.Background()), "the server would take a next request for data")
	})
}

// lateCancel ends a context when a write is through but has not returned.
type lateCancel struct {
	net.Conn
	cancel   context.CancelFunc
	deadline chan time.Time
}

func (l *lateCancel) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if l.cancel != nil {
		l.cancel()
		l.cancel = nil
		<-l.deadline
	}
	return n, err
}

func (l *lateCancel) SetWriteDeadline(d time.Time) error {
	err := l.Conn.SetWriteDeadline(d)
	select {
	case l.deadline <- d:
	default:
	}
	return err
}

// A caller that leaves just as its request is out takes nothing from those after it.
func TestClientCancelAfterWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		late := &lateCancel{Conn: ours, cancel: cancel, deadline: make(chan time.Time, 1)}
		c := startClient(late, exportInfo{size: 4096, flags: flagSendFlush, minBlock: 1, maxPayload: maxPayload})
		server := &wire{t: t, Conn: theirs}
		left := make(chan error, 1)
		go func() { left <- c.Flush(ctx) }()
		server.take(requestSize)
		require.ErrorIs(t, <-left, context.Canceled)
		go func() { left <- c.Flush(context.Background()) }()
		req := server.take(requestSize)
		server.say(append(be.AppendUint32(be.AppendUint32(nil, magicSimple), 0), req[8:16]...))
		require.NoError(t, <-left)
		theirs.Close()
		require.NoError(t, c.Close())
	})
}

func TestClientCancelBeforeWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := scripted(t, exportInfo{})
		c.turn <- struct{}{} // somebody else is writing
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Flush(ctx), context.DeadlineExceeded)
		<-c.turn
		require.Empty(t, c.slots)
		done := make(chan error, 1)
		go func() { done <- c.Flush(context.Background()) }()
		req := server.take(requestSize)
		server.say(append(be.AppendUint32(be.AppendUint32(nil, magicSimple), 0), req[8:16]...))
		require.NoError(t, <-done)
	})
}

// ESHUTDOWN obliges the client to say goodbye.
func TestClientLeavesServerThatShutsDown(t *testing.T) {
	c, server := scripted(t, exportInfo{})
	lost := make(chan error, 1)
	go func() { lost <- c.Flush(context.Background()) }()
	req := server.take(requestSize)
	server.say(append(be.AppendUint32(be.AppendUint32(nil, magicSimple), uint32(ESHUTDOWN)), req[8:16]...))
	require.EqualValues(t, cmdDisc, be.Uint16(server.take(requestSize)[6:]))
	_, err := server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	err = <-lost
	require.ErrorIs(t, err, ESHUTDOWN)
	require.Equal(t, fault.Transient, fault.KindOf(err))
}

func TestClientDistrustsReplies(t *testing.T) {
	data := func(off uint64, n int) []byte {
		b := newChunk(1, chunkOffsetData, true, 8+n)
		return append(be.AppendUint64(b, off), make([]byte, n)...)
	}
	more := func(b []byte) []byte { b[5] = 0; return b }
	simple := make([]byte, simpleSize)
	putSimple(simple, 1, 0)
	for name, script := range map[string][]byte{
		"magic":                {1, 2, 3, 4},
		"unknown cookie":       newChunk(2, chunkNone, true, 0),
		"unknown chunk":        newChunk(1, 77, true, 0),
		"none, not last":       more(newChunk(1, chunkNone, true, 0)),
		"nothing":              newChunk(1, chunkNone, true, 0),
		"too little":           data(1000, 99),
		"before the range":     data(999, 2),
		"past the range":       data(1099, 2),
		"far past the range":   data(1<<64-1, 2),
		"overlap":              append(more(data(1000, 60)), data(1059, 41)...),
		"hole past the range":  holeChunk(1, span{off: 1000, length: 101}, true),
		"hole of nothing":      holeChunk(1, span{off: 1000}, true),
		"simple reply to read": simple,
		"status to read":       statusChunk(1, []span{{0, 4, false}}),
		"error 0":              errorChunk(1, 0, ""),
		"error text too long":  append(newChunk(1, chunkError, true, 6), 0, 0, 0, 5, 0, 9),
		"error too short":      newChunk(1, chunkError, true, 5),
		"error too long":       newChunk(1, chunkError, true, 1<<30),
		"cut off":              data(1000, 100)[:50],
	} {
		t.Run(name, func(t *testing.T) {
			c, server := scripted(t, exportInfo{structured: true})
			lost := make(chan error, 1)
			go func() { lost <- c.ReadAt(context.Background(), make([]byte, 100), 1000) }()
			server.take(requestSize)
			server.Write(script) // the client may hang up in the middle
			if name == "cut off" {
				server.Close()
			}
			err := <-lost
			require.Error(t, err)
			require.True(t, name == "cut off" || errors.Is(c.lostBecause(), err))
		})
	}
}

func TestClientDistrustsStatus(t *testing.T) {
	good := []span{{0, 512, true}}
	other := statusChunk(1, good)
	be.PutUint32(other[chunkSize:], 99)
	more := func(b []byte) []byte { b[5] = 0; return b }
	simple := make([]byte, simpleSize)
	putSimple(simple, 1, 0)
	for name, script := range map[string][]byte{
		"no status":       newChunk(1, chunkNone, true, 0),
		"simple":          simple,
		"foreign context": other,
		"said twice":      append(more(statusChunk(1, good)), statusChunk(1, good)...),
		"no extents":      statusChunk(1, nil),
		"empty extent":    statusChunk(1, []span{{0, 0, true}}),
		"odd length":      newChunk(1, chunkBlockStatus, true, 13),
		"endless":         newChunk(1, chunkBlockStatus, true, 1<<31+4),
		"data":            append(newChunk(1, chunkOffsetData, true, 9), make([]byte, 9)...),
	} {
		t.Run(name, func(t *testing.T) {
			c, server := scripted(t, exportInfo{structured: true, contexts: map[uint32]string{allocationID: contextAllocation}})
			lost := make(chan error, 1)
			go func() {
				_, err := c.Extents(context.Background(), 0, 4096)
				lost <- err
			}()
			server.take(requestSize)
			server.Write(script)
			err := <-lost
			require.Equal(t, fault.Corruption, fault.KindOf(err))
			require.Equal(t, err, c.lostBecause(), "the connection is given up")
		})
	}
}

func TestClientDistrustsHandshake(t *testing.T) {
	hello := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption), flagFixedNewstyle|flagNoZeroes)
	rep := func(opt, typ uint32, data string) []byte {
		b := be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOptReply), opt), typ)
		return append(be.AppendUint32(b, uint32(len(data))), data...)
	}
	structured := append(bytes.Clone(hello), rep(optStructuredReply, repAck, "")...)
	context1 := rep(optSetMeta, repMetaContext, "\x00\x00\x00\x05base:allocation")
	ready := bytes.Join([][]byte{structured, context1, rep(optSetMeta, repAck, "")}, nil)
	for name, c := range map[string]struct {
		said []byte
		kind fault.Kind
	}{
		"another protocol":    {[]byte("SSH-2.0-OpenSSH_9.2p1\r\n"), fault.Invalid},
		"oldstyle":            {be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), 0x00420281861253), 0), fault.Unsupported},
		"not fixed":           {append(bytes.Clone(hello[:16]), 0, 0), fault.Unsupported},
		"silence":             {hello, fault.Transient},
		"another option":      {append(bytes.Clone(hello), rep(optGo, repAck, "")...), fault.Corruption},
		"huge reply":          {append(bytes.Clone(hello), 0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0, 0, 0), fault.Corruption},
		"more contexts":       {bytes.Join([][]byte{structured, context1, context1, rep(optSetMeta, repMetaContext, "\x00\x00\x00\x06x:y")}, nil), fault.Corruption},
		"nothing described":   {append(bytes.Clone(ready), rep(optGo, repAck, "")...), fault.Corruption},
		"short description":   {append(bytes.Clone(ready), rep(optGo, repInfo, "\x00\x00\x00")...), fault.Corruption},
		"block not a power":   {append(bytes.Clone(ready), rep(optGo, repInfo, "\x00\x03\x00\x00\x00\x03\x00\x00\x10\x00\x02\x00\x00\x00")...), fault.Corruption},
		"payload below block": {append(bytes.Clone(ready), rep(optGo, repInfo, "\x00\x03\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x01\x00")...), fault.Corruption},
		"too large":           {bytes.Join([][]byte{ready, rep(optGo, repInfo, "\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01"), rep(optGo, repAck, "")}, nil), fault.Unsupported},
		"shutting down":       {append(bytes.Clone(ready), rep(optGo, repErrShutdown, "")...), fault.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewClient(context.Background(), &tape{Reader: bytes.NewReader(c.said)}, ClientConfig{})
			require.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		})
	}
}

func TestClientHandshakeIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := NewClient(ctx, ours, ClientConfig{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = theirs.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "closed")
	})
}

// A server that only takes whole blocks is asked for whole blocks.
func TestClientAligns(t *testing.T) {
	c, server := scripted(t, exportInfo{structured: true, size: 10000, minBlock: 4096, contexts: map[uint32]string{7: contextAllocation}})
	c.info.size = 10000
	got := make(chan error, 1)
	buf := make([]byte, 10)
	go func() { got <- c.ReadAt(context.Background(), buf, 8190) }()
	req := server.take(requestSize)
	require.EqualValues(t, 4096, be.Uint64(req[16:]))
	require.EqualValues(t, 10000-4096, be.Uint32(req[24:]))
	f := make(frame, headroom+10000-4096)
	copy(f.data()[8190-4096:], "0123456789")
	server.say(f.chunk(1, 4096, true))
	require.NoError(t, <-got)
	require.Equal(t, "0123456789", string(buf))

	extents := make(chan []Extent, 1)
	go func() {
		e, _ := c.Extents(context.Background(), 5000, 100)
		extents <- e
	}()
	require.EqualValues(t, 4096, be.Uint64(server.take(requestSize)[16:]))
	b := statusChunk(2, []span{{4096, 950, false}, {5046, 4096, true}})
	be.PutUint32(b[chunkSize:], 7)
	server.say(b)
	require.Equal(t, []Extent{{46, false}, {54, true}}, <-extents)
	c.info.flags = flagHasFlags
	require.Equal(t, fault.Invalid, fault.KindOf(c.WriteAt(context.Background(), buf, 1)))
	require.Equal(t, fault.Unsupported, fault.KindOf(c.Flush(context.Background())))
}
