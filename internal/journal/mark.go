package journal

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
tail.mark, 32 bytes, overwritten in place after every sync of the tail, itself synced only by Close:

	 0  4  magic "UTLM"
	 4  4  version (1)
	 8  8  segment number
	16  8  bytes of that segment that were synced before this was written
	24  8  XXH3-64 of bytes [0,24)

It is a lower bound, so an old one is as true as a new one, and it needs no sync of its own. Damage below it cannot
be a torn write, so it is reported and never truncated away. Bytes above it may be in the page cache only, even if they
verify (a failed fsync leaves pages clean), so Open writes them again before it calls them durable.
*/
const (
	markName    = "tail.mark"
	markSize    = 32
	markMagic   = 0x4d4c5455 // "UTLM"
	markVersion = 1
)

type mark struct {
	segment uint64
	bytes   int64
}

func (m mark) encode() []byte {
	b := make([]byte, markSize)
	le := binary.LittleEndian
	le.PutUint32(b, markMagic)
	le.PutUint32(b[4:], markVersion)
	le.PutUint64(b[8:], m.segment)
	le.PutUint64(b[16:], uint64(m.bytes))
	le.PutUint64(b[24:], xxh3.Hash(b[:24]))
	return b
}

func parseMark(b []byte) (mark, error) {
	le := binary.LittleEndian
	if len(b) != markSize || le.Uint32(b) != markMagic || le.Uint64(b[24:]) != xxh3.Hash(b[:24]) {
		return mark{}, fault.New(fault.Corruption, "journal: "+markName, "damaged")
	}
	if v := le.Uint32(b[4:]); v != markVersion {
		return mark{}, fault.New(fault.Unsupported, "journal: "+markName, "version %d, this build reads %d", v, markVersion)
	}
	m := mark{segment: le.Uint64(b[8:]), bytes: int64(le.Uint64(b[16:]))}
	if m.bytes < 0 {
		return mark{}, fault.New(fault.Corruption, "journal: "+markName, "%d bytes", m.bytes)
	}
	return m, nil
}

func (d *directory) readMark() (mark, error) {
	b, err := vfs.ReadFile(d.fs, d.path(markName), markSize)
	if err != nil {
		return mark{}, vfs.Fault("journal: "+markName, err)
	}
	return parseMark(b)
}
