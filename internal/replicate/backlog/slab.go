package backlog

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	pageSize     = 4096
	slabAtMost   = 1 << 20
	slabsAtLeast = 16
)

/*
A slab is memory outside of the runtime's heap: the collector would let the heap grow to twice of what is alive. Records lie in
it one behind the other, in the ring's order, each rounded up to 8 bytes. It never outlives the process, so it has no version.

	0       8     16       24      32     40      48    52     54   55      56       64
	+-------+-----+--------+-------+------+-------+-----+------+----+-------+--------+------
	| start | end | sector | bytes | time | drops | cpu | disk | op | flags | length | data
	+-------+-----+--------+-------+------+-------+-----+------+----+-------+--------+------
*/
type slab struct {
	b          []byte
	used       int
	first, end uint64 // ring offsets: of its first record, and behind its last
}

const headBytes = 64

func newSlab(size int, first uint64) (*slab, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fault.New(fault.OutOfSpace, "backlog: take memory", "%d bytes: %w", size, err)
	}
	return &slab{b: b, first: first, end: first}, nil
}

// free gives the memory back. Who reads it afterwards is ended by the kernel.
func (s *slab) free() {
	_ = unix.Munmap(s.b) // fails only for what was not mapped
	s.b = nil
}

// recordBytes is what a record takes.
func recordBytes(r *capture.Record) int { return headBytes + (len(r.Data)+7)&^7 }

func (s *slab) fits(n int) bool { return len(s.b)-s.used >= n }

func (s *slab) append(r *capture.Record) {
	h, le := s.b[s.used:], binary.LittleEndian
	for i, v := range [...]uint64{r.Start, r.End, r.Sector, r.Bytes, r.Time, r.Drops} {
		le.PutUint64(h[8*i:], v)
	}
	le.PutUint32(h[48:], r.CPU)
	le.PutUint16(h[52:], r.Disk)
	h[54], h[55] = byte(r.Op), byte(r.Flags)
	le.PutUint64(h[56:], uint64(len(r.Data)))
	copy(h[headBytes:], r.Data)
	s.used += recordBytes(r)
	s.end = r.End
}

// find reads the first record at or past a ring offset, looking from at on, and says where the next one lies.
func (s *slab) find(at int, offset uint64, r *capture.Record) (next int, ok bool) {
	for at < s.used {
		h := s.b[at:s.used]
		n := int(binary.LittleEndian.Uint64(h[56:]))
		next = at + headBytes + (n+7)&^7
		if binary.LittleEndian.Uint64(h) >= offset {
			decode(h, n, r)
			return next, true
		}
		at = next
	}
	return at, false
}

func decode(h []byte, n int, r *capture.Record) {
	le := binary.LittleEndian
	*r = capture.Record{
		Start: le.Uint64(h), End: le.Uint64(h[8:]), Sector: le.Uint64(h[16:]), Bytes: le.Uint64(h[24:]), Time: le.Uint64(h[32:]),
		Drops: le.Uint64(h[40:]), CPU: le.Uint32(h[48:]), Disk: le.Uint16(h[52:]), Op: capture.Op(h[54]), Flags: capture.Flags(h[55]),
	}
	if n > 0 {
		r.Data = h[headBytes : headBytes+n : headBytes+n]
	}
}
