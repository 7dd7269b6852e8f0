package journal

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
A record of a segment of version 2:

	 0  4  magic "UREC"
	 4  4  bytes of what follows the record's header
	 8  8  XXH3-64 of bytes [0,8), seeded with the record's offset in the segment
	16     the frame, sealed with the segment's key; segment number and offset are authenticated with it

The length is in the clear, so that a torn tail is found without the key's help and a damaged frame does not hide the
ones after it.
*/
const (
	recHeaderSize = 16
	recMagic      = 0x43455255 // "UREC"
	maxRecord     = 16 << 20

	// RecordOverhead is what storing a frame adds to its bytes: the record's header, nonce and tag.
	RecordOverhead = recHeaderSize + 12 + 16
)

func recordAAD(segment uint64, offset int64) []byte {
	b := make([]byte, 0, 16)
	b = binary.LittleEndian.AppendUint64(b, segment)
	return binary.LittleEndian.AppendUint64(b, uint64(offset))
}

// appendRecord seals a frame for its place.
func appendRecord(dst []byte, c *encryption.FileCipher, segment uint64, offset int64, frame []byte) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, recMagic)
	dst = le.AppendUint32(dst, uint32(len(frame)+c.Overhead()))
	dst = le.AppendUint64(dst, xxh3.HashSeed(dst[start:], uint64(offset)))
	return c.Seal(dst, frame, recordAAD(segment, offset))
}

// reader reads the frames of one segment in order.
type reader struct {
	f     *segFile
	size  int64
	off   int64
	buf   []byte
	plain []byte
}

func newReader(f *segFile) (*reader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, vfs.Fault("journal: "+segName(f.number), err)
	}
	return &reader{f: f, size: size, off: f.start}, nil
}

// next reads and verifies the frame at r.off and moves past it; it is good until the one after. At the end it says false.
func (r *reader) next() (f wire.Frame, ok bool, err error) {
	if r.off >= r.size {
		if r.off > r.size {
			return f, false, fault.New(fault.Corruption, "journal: frame", "the segment ends before it")
		}
		return f, false, nil
	}
	n, b, err := r.bytes()
	if err != nil {
		return f, false, err
	}
	if f, err = wire.Parse(b); err != nil {
		return f, false, err
	}
	r.off += n
	return f, true, nil
}

// bytes is the frame at r.off in the clear, and how long it is in the segment.
func (r *reader) bytes() (int64, []byte, error) {
	if r.f.cipher == nil {
		return r.clear()
	}
	var head [recHeaderSize]byte
	if err := r.read(head[:], r.off); err != nil {
		return 0, nil, err
	}
	le := binary.LittleEndian
	n := int64(le.Uint32(head[4:]))
	if le.Uint32(head[:]) != recMagic || le.Uint64(head[8:]) != xxh3.HashSeed(head[:8], uint64(r.off)) || n > maxRecord {
		return 0, nil, fault.New(fault.Corruption, "journal: frame", "the record's header is damaged")
	}
	r.grow(int(n))
	if err := r.read(r.buf, r.off+recHeaderSize); err != nil {
		return 0, nil, err
	}
	plain, err := r.f.cipher.Open(r.plain[:0], r.buf, recordAAD(r.f.number, r.off))
	if err != nil {
		return 0, nil, fault.New(fault.Corruption, "journal: frame", "%w", err)
	}
	r.plain = plain
	return recHeaderSize + n, plain, nil
}

// clear reads a frame of a version 1 segment.
func (r *reader) clear() (int64, []byte, error) {
	var head [wire.HeaderSize]byte
	if err := r.read(head[:], r.off); err != nil {
		return 0, nil, err
	}
	h, err := wire.ParseHeader(head[:])
	if head[4] == 0 && fault.Is(err, fault.Unsupported) { // no format is 0: the magic's sector came, the next did not
		err = fault.New(fault.Corruption, "journal: frame", "torn header")
	}
	if err != nil {
		return 0, nil, err
	}
	if cap(r.plain) < h.Size() {
		r.plain = make([]byte, h.Size())
	}
	r.plain = r.plain[:h.Size()]
	return int64(h.Size()), r.plain, r.read(r.plain, r.off)
}

func (r *reader) grow(n int) {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
}

func (r *reader) read(p []byte, off int64) error {
	if off+int64(len(p)) > r.size {
		return fault.New(fault.Corruption, "journal: frame", "%d bytes, %d are left", len(p), r.size-off)
	}
	return vfs.Fault("journal: read", vfs.ReadFull(r.f, p, off))
}
