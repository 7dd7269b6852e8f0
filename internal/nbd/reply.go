package nbd

import (
	"net"
	"sync"
	"time"
)

// headroom is left in front of a reply's data, so that header and data leave in one write.
const headroom = chunkSize + 8

// frame is a buffer for reply data, with room for the header in front.
type frame []byte

func (f frame) data() []byte { return f[headroom:] }

// simple is f as a successful simple reply.
func (f frame) simple(cookie uint64) []byte {
	b := f[headroom-simpleSize:]
	putSimple(b, cookie, 0)
	return b
}

// chunk is f as an OFFSET_DATA chunk.
func (f frame) chunk(cookie uint64, off int64, last bool) []byte {
	putChunk(f, cookie, chunkOffsetData, last, len(f)-chunkSize)
	be.PutUint64(f[chunkSize:], uint64(off))
	return f
}

// part is a frame in a frame: n bytes of its data from off on, which have what lies before them as their headroom. That is
// overwritten.
func (f frame) part(off, n int64) frame { return f[off : off+headroom+n] }

// pooled is a frame that is used again.
type pooled struct {
	frame
	pool *sync.Pool
}

// frameSizes are what replies mostly carry: a page or a few, what copying programs ask for, a piece.
var (
	frameSizes = [...]int64{16 << 10, 256 << 10, pieceSize}
	framePools [len(frameSizes)]sync.Pool
)

// takeFrame is a frame for n bytes, of whatever content.
func takeFrame(n int64) *pooled {
	for i, size := range frameSizes {
		if n > size {
			continue
		}
		p, ok := framePools[i].Get().(*pooled)
		if !ok {
			p = &pooled{frame: make(frame, headroom+size), pool: &framePools[i]}
		}
		p.frame = p.frame[:headroom+n]
		return p
	}
	return &pooled{frame: make(frame, headroom+n)}
}

func (p *pooled) free() {
	if p.pool != nil {
		p.pool.Put(p)
	}
}

func putSimple(b []byte, cookie uint64, e Errno) {
	be.PutUint32(b[0:], magicSimple)
	be.PutUint32(b[4:], uint32(e))
	be.PutUint64(b[8:], cookie)
}

func putChunk(b []byte, cookie uint64, typ uint16, last bool, payload int) {
	flags := uint16(0)
	if last {
		flags = chunkFlagDone
	}
	be.PutUint32(b[0:], magicStructured)
	be.PutUint16(b[4:], flags)
	be.PutUint16(b[6:], typ)
	be.PutUint64(b[8:], cookie)
	be.PutUint32(b[16:], uint32(payload))
}

// newChunk is a chunk without payload, with room for n bytes of it.
func newChunk(cookie uint64, typ uint16, last bool, n int) []byte {
	b := make([]byte, chunkSize, chunkSize+n)
	putChunk(b, cookie, typ, last, n)
	return b
}

func holeChunk(cookie uint64, s span, last bool) []byte {
	b := newChunk(cookie, chunkOffsetHole, last, 12)
	b = be.AppendUint64(b, uint64(s.off))
	return be.AppendUint32(b, uint32(s.length))
}

func statusChunk(cookie uint64, spans []span) []byte {
	b := newChunk(cookie, chunkBlockStatus, true, 4+8*len(spans))
	b = be.AppendUint32(b, allocationID)
	for _, s := range spans {
		state := uint32(0)
		if s.hole {
			state = stateHole | stateZero
		}
		b = be.AppendUint32(b, uint32(s.length))
		b = be.AppendUint32(b, state)
	}
	return b
}

func errorChunk(cookie uint64, e Errno, text string) []byte {
	text = clip(text, 512)
	b := newChunk(cookie, chunkError, true, 6+len(text))
	b = be.AppendUint32(b, uint32(e))
	b = be.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// replier writes whole replies or chunks to a connection that many requests share.
type replier struct {
	nc    net.Conn
	stall time.Duration

	mu sync.Mutex
}

// send fails if the client has not taken b within the stall time. The connection is then lost, because
// part of b may have been sent.
func (r *replier) send(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.nc.SetWriteDeadline(time.Now().Add(r.stall)); err != nil {
		return err
	}
	_, err := r.nc.Write(b)
	return err
}
