package source

import (
	"bytes"
	"context"
	"sync"
	"unsafe"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// maxSpans bounds the separate reads of one chunk.
const maxSpans = 64

// span is a run of blocks.
type span struct{ start, end uint64 }

// chunk is a piece of baseline: asked for by the owner, read and framed by a reader, and given back.
type chunk struct {
	disk    *disk
	spans   []span
	bytes   int
	session uint64
	epoch   uint64
	first   uint64
	time    int64
	version uint32 // of the protocol that its frames are for
	zeros   bool   // zero blocks must be sent too

	held    int    // bytes that it counts for in the window
	wanted  []span // of spans, those to read
	compare compare
	same    uint64 // bytes that the journal has already

	stretch *stretch // of a verify pass; nil: of the baseline
	fine    bool     // block by block

	frames []*encoded
	sent   bool // at least one frame was
	err    error
}

// readers read disks beside the owner. They outlive connections, so that a disk that hangs does not hang those.
type readers struct {
	requests chan *chunk
	results  chan *chunk
	out      int // chunks submitted and not taken back; the owner's
	group    sync.WaitGroup
	n        int
}

func newReaders(n int) readers {
	return readers{requests: make(chan *chunk, n), results: make(chan *chunk, 2*n), n: n}
}

func (r *readers) start(ctx context.Context, yield func()) {
	for range r.n {
		r.group.Go(func() {
			yield()
			var buf []byte
			for {
				select {
				case <-ctx.Done():
					return
				case c := <-r.requests:
					buf = c.read(buf)
					r.results <- c // has room for all that idle allows
				}
			}
		})
	}
}

func (r *readers) wait() { r.group.Wait() }

// idle tells whether submit would not wait.
func (r *readers) idle() bool { return r.out < r.n }

func (r *readers) submit(c *chunk) {
	r.out++
	r.requests <- c
}

func (r *readers) taken() { r.out-- }

// read reads the chunk by way of buf, which it returns for the next, larger if need be, and frames it, or what of it
// differs, or makes its digests.
func (c *chunk) read(buf []byte) []byte {
	if len(buf) < c.bytes {
		buf = alignedBuffer(c.bytes)
	}
	defer c.compare.putBack()
	w := framer{chunk: c}
	for _, s := range c.wanted {
		from, to := c.extent(s)
		b := buf[:to-from]
		if n, err := c.disk.Reader.ReadAt(b, int64(from)); n < len(b) {
			c.frames = nil
			c.err = fault.New(fault.Transient, "source: read "+c.disk.Device, "%d bytes at %d: %w", len(b), from, err)
			return buf
		}
		switch c.compare.stage {
		case sendAll:
			w.add(b, from)
		case coarse:
			c.compare.digest(c.disk.Index, b, from)
		case fine:
			c.compare.frame(&w, b, from)
		}
	}
	w.flush()
	return buf
}

// extent is where a span begins and ends, in bytes.
func (c *chunk) extent(s span) (from, to uint64) {
	size := c.disk.debt.BlockSize()
	return s.start * size, min(s.end*size, c.disk.Bytes)
}

// encoded is a frame as it is sent. Its memory is used again.
type encoded struct {
	frame []byte
	raw   int // bytes of its payload before compression
}

var encodings = sync.Pool{New: func() any { return new(encoded) }}

// framer puts what was read into frames, zeroes as ranges or not at all. Compressing is most of what a frame costs the agent, so
// the readers do it, each beside the others, and not the one sender.
type framer struct {
	chunk *chunk
	b     *wire.Builder
}

func (w *framer) add(data []byte, from uint64) {
	for len(data) > 0 {
		n, zero := run(data)
		switch {
		case !zero:
			w.data(data[:n], from)
		case w.chunk.zeros:
			w.extent(wire.KindZero, from, uint64(n), nil)
		}
		data, from = data[n:], from+uint64(n)
	}
}

func (w *framer) data(data []byte, from uint64) {
	for len(data) > 0 {
		if w.b != nil && w.b.RawBytes() >= baseFrame {
			w.flush()
		}
		room := baseFrame
		if w.b != nil {
			room -= w.b.RawBytes()
		}
		n := min(len(data), room)
		w.extent(wire.KindData, from, uint64(n), data[:n])
		data, from = data[n:], from+uint64(n)
	}
}

func (w *framer) extent(k wire.Kind, from, bytes uint64, data []byte) {
	if w.b == nil {
		w.b = builders.Get().(*wire.Builder)
		w.b.Reset(wire.TypeBaseline, w.chunk.epoch)
	}
	w.b.Add(wire.Extent{
		Disk: w.chunk.disk.Index, Kind: k, Position: w.chunk.first, Sector: from / wire.SectorSize, Bytes: bytes,
		Time: w.chunk.time,
	}, data)
}

func (w *framer) flush() {
	if w.b == nil {
		return
	}
	e := encodings.Get().(*encoded)
	e.raw = w.b.RawBytes()
	e.frame = encode(w.b, e.frame[:0], w.chunk.version)
	builders.Put(w.b)
	w.b = nil
	w.chunk.frames = append(w.chunk.frames, e)
}

// run is the length of the first run of pieces that are all zero or all not.
func run(data []byte) (n int, zero bool) {
	for n < len(data) {
		end := min(n+zeroPiece, len(data))
		z := isZero(data[n:end])
		if n == 0 {
			zero = z
		} else if z != zero {
			break
		}
		n = end
	}
	return n, zero
}

var zeroes [zeroPiece]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroes[:len(b)]) }

// alignedBuffer is memory fit for direct reads.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+zeroPiece)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (zeroPiece - 1)
	return b[skip : int(skip)+n : int(skip)+n]
}
