package usedblocks

import (
	"io"
	"sync"
	"unsafe"
)

// volume is a run of bytes that may hold a file system: a disk, a part of one, or a logical volume.
type volume interface {
	// read fills p from off; a volume that ends before is an error.
	read(p []byte, off int64) error
	size() int64
	// disk is where a byte of the volume lies on the disk.
	disk(off int64) int64
}

// disk is all of it.
type disk struct {
	r     io.ReaderAt
	bytes int64
}

const (
	pageBytes = 4096
	maxRead   = 1 << 20
)

var buffers = sync.Pool{New: func() any { return aligned(maxRead + 2*pageBytes) }}

func aligned(n int) []byte {
	b := make([]byte, n+pageBytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pageBytes - 1)
	return b[skip : int(skip)+n : int(skip)+n]
}

func (d *disk) size() int64          { return d.bytes }
func (d *disk) disk(off int64) int64 { return off }

func (d *disk) read(p []byte, off int64) error {
	if off < 0 || off > d.bytes || int64(len(p)) > d.bytes-off {
		return errDoubt("%d bytes at %d are not on the disk", len(p), off)
	}
	buf := buffers.Get().([]byte)
	defer buffers.Put(buf) //nolint:staticcheck // a slice header a read of 4 KiB and more is little
	for len(p) > 0 {
		n := min(len(p), maxRead)
		from := off &^ (pageBytes - 1)
		to := min((off+int64(n)+pageBytes-1)&^(pageBytes-1), d.bytes)
		b := buf[:to-from]
		if got, err := d.r.ReadAt(b, from); got < len(b) {
			return errDoubt("%d bytes at %d: %w", len(b), from, err)
		}
		copy(p[:n], b[off-from:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// part is a run of another volume.
type part struct {
	of           volume
	from, length int64
}

func (p *part) size() int64          { return p.length }
func (p *part) disk(off int64) int64 { return p.of.disk(p.from + off) }

func (p *part) read(b []byte, off int64) error {
	if off < 0 || off > p.length || int64(len(b)) > p.length-off {
		return errDoubt("%d bytes at %d are not in the partition", len(b), off)
	}
	return p.of.read(b, p.from+off)
}

func (p *part) place(r Range) []Range { return []Range{{p.from + r.Offset, r.Length}} }

// segment is a piece of a logical volume.
type segment struct {
	logical, physical, length int64
}

// logical is a volume of pieces of another, in order and without gaps.
type logical struct {
	id       string // as LVM knows it, without dashes
	of       volume
	segments []segment
}

func (l *logical) size() int64 {
	last := l.segments[len(l.segments)-1]
	return last.logical + last.length
}

func (l *logical) disk(off int64) int64 {
	for _, s := range l.place(Range{off, 1}) {
		return l.of.disk(s.Offset)
	}
	return 0
}

func (l *logical) read(p []byte, off int64) error {
	if off < 0 || off > l.size() || int64(len(p)) > l.size()-off {
		return errDoubt("%d bytes at %d are not in the volume", len(p), off)
	}
	for _, r := range l.place(Range{off, int64(len(p))}) {
		if err := l.of.read(p[:r.Length], r.Offset); err != nil {
			return err
		}
		p = p[r.Length:]
	}
	return nil
}

// place tells where a run of the volume lies in the one below.
func (l *logical) place(r Range) (out []Range) {
	for _, s := range l.segments {
		from, to := max(r.Offset, s.logical), min(r.end(), s.logical+s.length)
		if from < to {
			out = append(out, Range{s.physical + from - s.logical, to - from})
		}
	}
	return out
}
