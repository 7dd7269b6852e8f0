package journal

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
A segment, seg-<20 digits>.usj: this header, then durable wire frames verbatim, one after the other.

	 0  4  magic "USJS"
	 4  4  version (1)
	 8 16  journal id
	24  8  segment number, from 1
	32 24  zero
	56  8  XXH3-64 of bytes [0,56)

The header is synced before the first frame is written, so a damaged header with anything behind it is
corruption, and one with nothing behind it is a crash during the roll.
*/
const (
	segHeaderSize = 64
	segMagic      = 0x534a5355 // "USJS"
	segVersion    = 1
	segPrefix     = "seg-"
	segSuffix     = ".usj"
	idxSuffix     = ".idx"
)

func segName(number uint64) string { return fmt.Sprintf("%s%020d%s", segPrefix, number, segSuffix) }
func idxName(number uint64) string { return fmt.Sprintf("%s%020d%s", segPrefix, number, idxSuffix) }

// parseName is the inverse of segName and idxName.
func parseName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, segPrefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32) // pieces of a View keep it in 32 bits
	return n, err == nil && n > 0
}

func encodeSegHeader(id [16]byte, number uint64) []byte {
	b := make([]byte, segHeaderSize)
	le := binary.LittleEndian
	le.PutUint32(b, segMagic)
	le.PutUint32(b[4:], segVersion)
	copy(b[8:], id[:])
	le.PutUint64(b[24:], number)
	le.PutUint64(b[56:], xxh3.Hash(b[:56]))
	return b
}

func checkSegHeader(b []byte, id [16]byte, number uint64) error {
	le := binary.LittleEndian
	op := "journal: " + segName(number) + " header"
	switch {
	case len(b) < segHeaderSize || le.Uint32(b) != segMagic || le.Uint64(b[56:]) != xxh3.Hash(b[:56]):
		return fault.New(fault.Corruption, op, "damaged at offset 0")
	case le.Uint32(b[4:]) != segVersion:
		return fault.New(fault.Unsupported, op, "version %d, this build reads %d", le.Uint32(b[4:]), segVersion)
	case [16]byte(b[8:24]) != id:
		return fault.New(fault.Corruption, op, "belongs to journal %x", b[8:24])
	case le.Uint64(b[24:]) != number:
		return fault.New(fault.Corruption, op, "says that it is segment %d", le.Uint64(b[24:]))
	}
	return nil
}

// segment is a sealed segment as it is kept in memory: what its sidecar's summary says. Its entries stay on disk.
type segment struct {
	number    uint64
	bytes     int64
	baseEpoch uint64 // entries count epochs from it
	entries   int
	sum       summary
}
