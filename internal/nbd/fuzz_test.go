package nbd

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// tape is a connection whose peer has said everything it will ever say.
type tape struct {
	io.Reader
	said bytes.Buffer
}

func (t *tape) Write(p []byte) (int, error)      { return t.said.Write(p) }
func (t *tape) Close() error                     { return nil }
func (t *tape) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

func optionBytes(opt uint32, data []byte) []byte {
	b := be.AppendUint32(be.AppendUint64(nil, magicOption), opt)
	return append(be.AppendUint32(b, uint32(len(data))), data...)
}

func requestBytes(reqs ...request) []byte {
	var out []byte
	for _, r := range reqs {
		var b [requestSize]byte
		r.encode(&b)
		out = append(out, b[:]...)
		if r.cmd == cmdWrite {
			out = append(out, bytes.Repeat([]byte{7}, int(r.length))...)
		}
	}
	return out
}

// Whatever a client says while haggling, every answer is well formed, and what was opened is released.
func FuzzHaggle(f *testing.F) {
	flags := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	meta := metaQuery{"one", []string{contextAllocation, "base:"}}.encode()
	chosen := choice{"one", []uint16{infoBlockSize, infoName}}.encode()
	for _, opts := range [][]byte{
		optionBytes(optList, nil),
		optionBytes(optStartTLS, nil),
		optionBytes(optExportName, []byte("two")),
		optionBytes(99, []byte("data")),
		bytes.Join([][]byte{
			optionBytes(optStructuredReply, nil), optionBytes(optListMeta, meta), optionBytes(optSetMeta, meta),
			optionBytes(optInfo, chosen), optionBytes(optGo, chosen), requestBytes(request{cmd: cmdRead, length: 9}),
		}, nil),
		optionBytes(optAbort, nil),
		{},
	} {
		f.Add(append(bytes.Clone(flags), opts...))
	}
	both := twoExports()
	f.Fuzz(func(t *testing.T, said []byte) {
		exports := &counted{Exports: both}
		conn := &tape{Reader: bytes.NewReader(said)}
		h := &haggle{srv: &Server{Exports: exports, Log: quiet()}, nc: conn}
		chosen, err := h.run(context.Background())
		require.False(t, chosen && err != nil)
		require.False(t, chosen && h.open == nil)
		h.release()
		require.Equal(t, exports.opened.Load(), exports.released.Load())

		out := conn.said.Bytes()[18:]
		for len(out) >= optReplySize && be.Uint64(out) == magicOptReply {
			n := optReplySize + int(be.Uint32(out[16:]))
			require.LessOrEqual(t, n, len(out))
			out = out[n:]
		}
		if len(out) > 0 { // the reply to EXPORT_NAME, which has no header
			require.True(t, chosen)
			require.Contains(t, []int{10, 10 + exportNameZeros}, len(out))
		}
	})
}

// Whatever a client requests, the replies can be told apart, stay inside what was asked, and nothing outside
// the export is touched (the disk refuses, which would be an EIO).
func FuzzTransmission(f *testing.F) {
	for _, reqs := range [][]request{
		{{cmd: cmdRead, length: 70000}, {cmd: cmdBlockStatus, length: 1 << 18}, {cmd: cmdDisc}},
		{{cmd: cmdWrite, off: 100, length: 10}, {cmd: cmdRead, flags: cmdFlagDF, off: 90, length: 100}},
		{{cmd: cmdWriteZeroes, length: 1 << 17}, {cmd: cmdTrim, length: 99}, {cmd: cmdFlush}, {cmd: cmdCache, length: 5}},
		{{cmd: cmdRead, off: 1<<64 - 1, length: 1<<32 - 1}, {cmd: 42}},
	} {
		f.Add(requestBytes(reqs...), true)
		f.Add(requestBytes(reqs...), false)
	}
	f.Fuzz(func(t *testing.T, said []byte, structured bool) {
		d := newDisk(1 << 18)
		d.fill(t, 1)
		h := &haggle{nc: &tape{Reader: bytes.NewReader(said)}, open: &Export{Backend: d}, structured: structured}
		if structured {
			h.metaFor = new(string)
		}
		s := newSession(&Server{Log: quiet()}, h)
		s.run(context.Background())
		checkReplies(t, h.nc.(*tape).said.Bytes(), structured)
	})
}

// checkReplies takes a server's output apart. In simple mode data cannot be told from headers without the
// requests, so only the first reply is looked at.
func checkReplies(t *testing.T, out []byte, structured bool) {
	for len(out) > 0 {
		require.GreaterOrEqual(t, len(out), simpleSize)
		if be.Uint32(out) == magicSimple {
			require.NotEqual(t, EIO, Errno(be.Uint32(out[4:])), "the backend was asked for the impossible")
			if !structured {
				return
			}
			out = out[simpleSize:]
			continue
		}
		require.True(t, structured)
		require.EqualValues(t, uint32(magicStructured), be.Uint32(out))
		require.GreaterOrEqual(t, len(out), chunkSize)
		payload := out[chunkSize:]
		n := int(be.Uint32(out[16:]))
		require.LessOrEqual(t, n, len(payload))
		if typ := be.Uint16(out[6:]); typ == chunkError {
			require.NotEqual(t, EIO, Errno(be.Uint32(payload)), "the backend was asked for the impossible")
		}
		out = payload[n:]
	}
}

// Whatever a server replies, the client ends with an answer for every caller, and a read succeeds only if
// every byte of it was described.
func FuzzClientReplies(f *testing.F) {
	read := make(frame, headroom+100)
	simple := make([]byte, simpleSize)
	putSimple(simple, 3, 0)
	f.Add(bytes.Join([][]byte{read.chunk(1, 1000, true), statusChunk(2, []span{{0, 512, true}, {512, 99, false}}), simple}, nil), true)
	f.Add(bytes.Join([][]byte{holeChunk(1, span{off: 1050, length: 50}, false), holeChunk(1, span{off: 1000, length: 50}, true)}, nil), true)
	f.Add(bytes.Join([][]byte{errorChunk(1, EIO, "bad"), errorChunk(2, EINVAL, ""), simple}, nil), true)
	f.Add(append(bytes.Clone(simple[:8]), append(be.AppendUint64(nil, 1), make([]byte, 100)...)...), false)
	f.Fuzz(func(t *testing.T, said []byte, structured bool) {
		conn := &tape{Reader: bytes.NewReader(said)}
		c := &Client{
			nc: conn, slots: make(chan struct{}, 3), turn: make(chan struct{}, 1),
			calls: map[uint64]*call{}, dead: make(chan struct{}),
			info: exportInfo{size: 1 << 20, minBlock: 1, maxPayload: maxPayload, structured: structured,
				contexts: map[uint32]string{allocationID: contextAllocation}},
		}
		buf := bytes.Repeat([]byte{0xee}, 100)
		var calls []*call
		for _, r := range []request{{cmd: cmdRead, off: 1000, length: 100}, {cmd: cmdBlockStatus, length: 4096}, {cmd: cmdFlush}} {
			c.slots <- struct{}{}
			call, err := c.register(r, nil)
			require.NoError(t, err)
			calls = append(calls, call)
		}
		calls[0].buf = buf
		c.reader.Go(func() { c.fail(c.readReplies(newReplyReader(conn))) })
		for _, call := range calls {
			<-call.done
		}
		c.reader.Wait()
		require.Error(t, c.lostBecause())
		if calls[0].err == nil {
			require.True(t, !structured || calls[0].got.full(1000, 100))
		}
		if calls[1].err == nil {
			require.NotEmpty(t, calls[1].statuses[allocationID])
		}
	})
}

// Whatever a server says in the handshake, the client gets through or gives up.
func FuzzClientHandshake(f *testing.F) {
	hello := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption), flagFixedNewstyle|flagNoZeroes)
	reply := func(opt, typ uint32, data string) []byte {
		b := be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOptReply), opt), typ)
		return append(be.AppendUint32(b, uint32(len(data))), data...)
	}
	f.Add(bytes.Join([][]byte{
		hello, reply(optStructuredReply, repAck, ""),
		reply(optSetMeta, repMetaContext, "\x00\x00\x00\x05base:allocation"), reply(optSetMeta, repAck, ""),
		reply(optGo, repInfo, "\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x01\x01"),
		reply(optGo, repInfo, "\x00\x03\x00\x00\x02\x00\x00\x00\x10\x00\x02\x00\x00\x00"), reply(optGo, repAck, ""),
	}, nil))
	f.Add(bytes.Join([][]byte{
		hello, reply(optStructuredReply, repErrUnsup, ""), reply(optGo, repErrUnsup, "no"), make([]byte, 10),
	}, nil))
	f.Add(bytes.Join([][]byte{hello, reply(optStructuredReply, repErrTLSReqd, "")}, nil))
	f.Fuzz(func(t *testing.T, said []byte) {
		h := &clientHaggle{nc: &tape{Reader: bytes.NewReader(said)}}
		if err := h.choose(context.Background(), ClientConfig{Export: "e"}); err != nil {
			require.NotEqual(t, fault.Unknown, fault.KindOf(err))
			return
		}
		require.NotZero(t, h.info.minBlock)
		require.GreaterOrEqual(t, h.info.maxPayload, h.info.minBlock)
	})
}
