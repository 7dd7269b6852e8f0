package nbd

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a client made by hand, which can say anything.
type wire struct {
	t testing.TB
	net.Conn
	ended chan error // what ServeConn returned
}

// dialWire connects to srv and greets it.
func dialWire(t testing.TB, srv *Server) *wire {
	t.Helper()
	w := dialSilent(t, srv)
	hello := w.take(18)
	require.EqualValues(t, uint64(magicServer), be.Uint64(hello))
	require.EqualValues(t, uint64(magicOption), be.Uint64(hello[8:]))
	require.EqualValues(t, flagFixedNewstyle|flagNoZeroes, be.Uint16(hello[16:]))
	w.say(be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes))
	return w
}

func dialSilent(t testing.TB, srv *Server) *wire {
	t.Helper()
	if srv.Log == nil {
		srv.Log = quiet()
	}
	ours, theirs := net.Pipe()
	require.NoError(t, ours.SetDeadline(time.Now().Add(20*time.Second))) // before the server may hang up
	ctx, cancel := context.WithCancel(context.Background())
	w := &wire{t: t, Conn: ours, ended: make(chan error, 1)}
	var served sync.WaitGroup
	served.Go(func() { w.ended <- srv.ServeConn(ctx, theirs) })
	t.Cleanup(func() {
		ours.Close()
		cancel()
		served.Wait()
	})
	return w
}

func (w *wire) say(b []byte) {
	w.t.Helper()
	_, err := w.Write(b)
	require.NoError(w.t, err)
}

func (w *wire) take(n int) []byte {
	w.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(w, b)
	require.NoError(w.t, err)
	return b
}

// gone requires that the server closes without another byte and returns what ServeConn did.
func (w *wire) gone() error {
	w.t.Helper()
	rest, err := io.ReadAll(w)
	require.NoError(w.t, err)
	require.Empty(w.t, rest)
	return <-w.ended
}

func (w *wire) option(opt uint32, data []byte) {
	w.t.Helper()
	b := be.AppendUint32(be.AppendUint64(nil, magicOption), opt)
	w.say(append(be.AppendUint32(b, uint32(len(data))), data...))
}

// answer reads one option reply.
func (w *wire) answer(opt uint32) (typ uint32, data []byte) {
	w.t.Helper()
	b := w.take(optReplySize)
	require.EqualValues(w.t, uint64(magicOptReply), be.Uint64(b))
	require.Equal(w.t, opt, be.Uint32(b[8:]))
	return be.Uint32(b[12:]), w.take(int(be.Uint32(b[16:])))
}

// expect sends an option and requires the type of its one reply.
func (w *wire) expect(opt uint32, data []byte, typ uint32) []byte {
	w.t.Helper()
	w.option(opt, data)
	got, text := w.answer(opt)
	require.Equal(w.t, typ, got, "%s", text)
	return text
}

// enter goes to transmission with structured replies and base:allocation.
func (w *wire) enter(name string) (size uint64, flags uint16) {
	w.t.Helper()
	w.expect(optStructuredReply, nil, repAck)
	w.expect(optSetMeta, metaQuery{name, []string{contextAllocation}}.encode(), repMetaContext)
	w.answer(optSetMeta)
	info := w.expect(optGo, choice{name: name}.encode(), repInfo)
	typ, _ := w.answer(optGo)
	require.EqualValues(w.t, repAck, typ)
	return be.Uint64(info[2:]), be.Uint16(info[10:])
}

// enterPlain goes to transmission with simple replies.
func (w *wire) enterPlain(name string) {
	w.t.Helper()
	w.option(optExportName, []byte(name))
	w.take(10)
}

func (w *wire) request(r request) {
	w.t.Helper()
	var b [requestSize]byte
	r.encode(&b)
	w.say(b[:])
}

// reply is a simple reply or a chunk.
type reply struct {
	structured bool
	flags, typ uint16
	errno      Errno
	cookie     uint64
	payload    []byte
}

// next reads one simple reply, with n bytes of data if it succeeded, or one chunk.
func (w *wire) next(n int) reply {
	w.t.Helper()
	magic := be.Uint32(w.take(4))
	if magic == magicSimple {
		b := w.take(simpleSize - 4)
		r := reply{errno: Errno(be.Uint32(b)), cookie: be.Uint64(b[4:])}
		if r.errno == 0 {
			r.payload = w.take(n)
		}
		return r
	}
	require.EqualValues(w.t, uint32(magicStructured), magic)
	b := w.take(chunkSize - 4)
	r := reply{structured: true, flags: be.Uint16(b), typ: be.Uint16(b[2:]), cookie: be.Uint64(b[4:])}
	r.payload = w.take(int(be.Uint32(b[12:])))
	if r.typ&chunkErrorBit != 0 {
		r.errno = Errno(be.Uint32(r.payload))
	}
	return r
}
