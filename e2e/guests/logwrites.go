package guests

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The format of a dm-log-writes log (drivers/md/dm-log-writes.c): a superblock, then entries, each a sector that describes a
// write, a discard or a mark, and the data behind it. All is little-endian.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1

	logDiscard = 1 << 2
	logMark    = 1 << 3
)

type logSuper struct {
	Magic, Version, Entries uint64
	Sector                  uint32
}

type logEntry struct{ Sector, Sectors, Flags, Data uint64 }

// Log is a log of dm-log-writes. The kernel adds a write to it when the disk has been flushed after it, so all that was
// written before a mark is in front of it only if the disk had been flushed.
type Log struct {
	io.ReaderAt
	unit    int64 // of its addresses
	entries uint64
}

// step is one entry: a write, a discard or a mark.
type step struct {
	from, length int64  // of the disk
	data         []byte // nil for a discard, the name of a mark
	mark         bool
}

// OpenLog reads a log's superblock.
func OpenLog(r io.ReaderAt) (*Log, error) {
	var super logSuper
	if err := binary.Read(io.NewSectionReader(r, 0, 512), binary.LittleEndian, &super); err != nil {
		return nil, fmt.Errorf("superblock of the log: %w", err)
	}
	if super.Magic != logMagic || super.Version != logVersion || super.Sector < 512 || super.Sector > 4096 {
		return nil, fmt.Errorf("no log of dm-log-writes: %+v", super)
	}
	return &Log{r, int64(super.Sector), super.Entries}, nil
}

// Each calls visit for every entry that has data or a name, in their order.
func (l *Log) Each(bytesOfDisk int64, visit func(step) error) error {
	at := l.unit
	for i := range l.entries {
		var e logEntry
		if err := binary.Read(io.NewSectionReader(l, at, l.unit), binary.LittleEndian, &e); err != nil {
			return fmt.Errorf("entry %d of the log: %w", i, err)
		}
		s, next, err := l.step(e, at, bytesOfDisk)
		if err == nil && (s.mark || s.length > 0) {
			err = visit(s)
		}
		if err != nil {
			return fmt.Errorf("entry %d of the log, %+v: %w", i, e, err)
		}
		at = next
	}
	return nil
}

// step reads what belongs to the entry at a place of the log, and says where the next one is.
func (l *Log) step(e logEntry, at, bytesOfDisk int64) (s step, next int64, err error) {
	next = at + l.unit
	if e.Flags&logMark != 0 {
		s.mark = true
		s.data, err = io.ReadAll(io.NewSectionReader(l, at+32, min(int64(e.Data), l.unit-32)))
		return s, next, err
	}
	s.from, s.length = int64(e.Sector)*l.unit, int64(e.Sectors)*l.unit
	if s.from < 0 || s.length < 0 || s.from+s.length > bytesOfDisk {
		return s, next, fmt.Errorf("it lies beyond the disk of %d bytes", bytesOfDisk)
	}
	if e.Flags&logDiscard != 0 || s.length == 0 {
		return s, next, nil
	}
	s.data = make([]byte, s.length)
	if n, err := l.ReadAt(s.data, next); err != nil && (n < len(s.data) || !errors.Is(err, io.EOF)) {
		return s, next, err
	}
	return s, next + s.length, nil
}

func (s step) name() string { return strings.TrimRight(string(s.data), "\x00") }

// Replay applies a log's entries to a disk of zeroes, and calls at every mark with its name and the disk as it was then.
func (l *Log) Replay(bytesOfDisk int64, mark func(name string, disk []byte) error) error {
	disk := make([]byte, bytesOfDisk)
	return l.Each(bytesOfDisk, func(s step) error {
		switch {
		case s.mark:
			return mark(s.name(), disk)
		case s.data == nil:
			clear(disk[s.from : s.from+s.length])
		default:
			copy(disk[s.from:], s.data)
		}
		return nil
	})
}

// Different says where two disks differ, "" if nowhere.
func Different(a, b []byte) string {
	const block = 4096
	if len(a) != len(b) {
		return fmt.Sprintf("%d and %d bytes", len(a), len(b))
	}
	for off := 0; off < len(a); off += block {
		x, y := a[off:min(off+block, len(a))], b[off:min(off+block, len(b))]
		if bytes.Equal(x, y) {
			continue
		}
		i := 0
		for x[i] == y[i] {
			i++
		}
		return fmt.Sprintf("byte %d: %x, %x", off+i, x[i:min(i+16, len(x))], y[i:min(i+16, len(y))])
	}
	return ""
}
