package guests

import (
	"bytes"
	"encoding/binary"
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

// Replay applies a log's entries to a disk of zeroes, and calls at every mark with its name and the disk as it was then.
// The kernel writes an entry to the log when it is durable on the disk, so the disk must have been flushed at a mark.
func Replay(log io.ReaderAt, bytesOfDisk int64, mark func(name string, disk []byte) error) error {
	var super logSuper
	if err := binary.Read(io.NewSectionReader(log, 0, 512), binary.LittleEndian, &super); err != nil {
		return fmt.Errorf("superblock of the log: %w", err)
	}
	if super.Magic != logMagic || super.Version != logVersion || super.Sector < 512 || super.Sector > 4096 {
		return fmt.Errorf("no log of dm-log-writes: %+v", super)
	}
	disk := make([]byte, bytesOfDisk)
	unit, at := int64(super.Sector), int64(super.Sector)
	for i := range super.Entries {
		var e logEntry
		if err := binary.Read(io.NewSectionReader(log, at, unit), binary.LittleEndian, &e); err != nil {
			return fmt.Errorf("entry %d of the log: %w", i, err)
		}
		data := io.NewSectionReader(log, at, unit)
		at += unit
		var err error
		switch {
		case e.Flags&logMark != 0:
			var name []byte
			if name, err = io.ReadAll(io.NewSectionReader(data, 32, int64(e.Data))); err == nil {
				err = mark(strings.TrimRight(string(name), "\x00"), disk)
			}
		case e.Sectors > 0:
			at, err = e.apply(log, at, unit, disk)
		}
		if err != nil {
			return fmt.Errorf("entry %d of the log, %+v: %w", i, e, err)
		}
	}
	return nil
}

// apply does to the disk what the entry says, and returns where the next entry is.
func (e logEntry) apply(log io.ReaderAt, at, unit int64, disk []byte) (int64, error) {
	from, length := int64(e.Sector)*unit, int64(e.Sectors)*unit
	if from < 0 || length < 0 || from+length > int64(len(disk)) {
		return at, fmt.Errorf("it lies beyond the disk of %d bytes", len(disk))
	}
	to := disk[from : from+length]
	if e.Flags&logDiscard != 0 {
		clear(to)
		return at, nil
	}
	if n, err := log.ReadAt(to, at); err != nil && (n < len(to) || err != io.EOF) {
		return at, err
	}
	return at + length, nil
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
