package capture

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// The ring is the kernel's BPF ring buffer (kernel/bpf/ringbuf.c), mapped by ourselves: the library's reader moves the
// consumer position as it reads, and we move it only over what is acknowledged. Positions count bytes and never wrap.
// The data pages are mapped twice in a row, so a record that passes the end is contiguous.
//
//	consumer page | producer page | data | data again
//
//	0      4      8                    8 + length, rounded up to 8
//	+------+------+--------------------+
//	| len  | page | the record         |      len: bit 31 busy (reserved, not committed), bit 30 discarded
//	+------+------+--------------------+
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHead    = 8
)

type ring struct {
	consumer *uint64
	producer *uint64
	data     []byte // twice the ring's size
	size     uint64
	maps     [][]byte
}

// mapRing maps the ring buffer behind a file descriptor.
func mapRing(fd, size int) (ring, error) {
	r := ring{size: uint64(size)}
	page := unix.Getpagesize()
	head, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return ring{}, kernelFault("map ring", err)
	}
	r.maps = append(r.maps, head)
	tail, err := unix.Mmap(fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = r.unmap()
		return ring{}, kernelFault("map ring", err)
	}
	r.maps = append(r.maps, tail)
	r.consumer = (*uint64)(unsafe.Pointer(&head[0]))
	r.producer = (*uint64)(unsafe.Pointer(&tail[0]))
	r.data = tail[page:]
	return r, nil
}

func (r *ring) unmap() error {
	var first error
	for _, b := range r.maps {
		if err := unix.Munmap(b); err != nil && first == nil {
			first = fault.New(fault.Bug, "capture: unmap ring", "%w", err)
		}
	}
	*r = ring{}
	return first
}

// Next reads the record at a ring offset, passing over discarded ones. It says false when none is committed
// there yet: the producer has not passed it or is still writing it. The offset is Consumer() or the End of a record.
func (r *ring) Next(offset uint64, rec *Record) (bool, error) {
	if c := r.Consumer(); offset < c || offset%8 != 0 {
		return false, fault.New(fault.Bug, "capture: read ring", "offset %d is not that of a record at or past %d", offset, c)
	}
	for producer := r.Producer(); offset < producer; {
		at := offset & (r.size - 1)
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
		if head&ringBusy != 0 {
			return false, nil
		}
		length := uint64(head &^ ringDiscard)
		end := offset + (ringHead+length+7)&^7
		if end > producer {
			return false, damaged("record of %d bytes at %d passes the end at %d", length, offset, producer)
		}
		if head&ringDiscard != 0 {
			offset = end
			continue
		}
		if !rec.decode(r.data[at+ringHead : at+ringHead+length]) {
			return false, damaged("record of %d bytes at %d makes no sense", length, offset)
		}
		rec.Start, rec.End = offset, end
		return true, nil
	}
	return false, nil
}

func damaged(format string, args ...any) error {
	return fault.New(fault.Corruption, "capture: read ring", format, args...).
		WithHint("remove the capture and open it again; the disks are then scanned anew")
}

// Producer is the ring offset that the next record will get.
func (r *ring) Producer() uint64 { return atomic.LoadUint64(r.producer) }

// Consumer is the ring offset up to which the ring has been released.
func (r *ring) Consumer() uint64 { return atomic.LoadUint64(r.consumer) }

// Release gives the ring's bytes before offset back to the kernel. Nothing else moves the consumer position. An offset
// that is not the End of a record between Consumer and Producer would break the ring; one outside them is ignored.
func (r *ring) Release(offset uint64) {
	if offset > r.Consumer() && offset <= r.Producer() {
		atomic.StoreUint64(r.consumer, offset)
	}
}

// RingBytes is the ring's capacity.
func (r *ring) RingBytes() int { return int(r.size) }
