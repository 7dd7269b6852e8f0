package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
A segment, seg-<20 digits>.usj: this header, then records, one after the other, each a durable wire frame enciphered.

	 0  4  magic "USJS"
	 4  4  version (2)
	 8 16  journal id
	24  8  segment number, from 1
	32 32  salt of the segment's key
	64 24  zero
	88  8  XXH3-64 of bytes [0,88)

Version 1 had no salt (32 to 56 zero, the checksum at 56) and frames as they came, in the clear; it is read, never written.

The header is synced before the first frame is written, so a damaged header with anything behind it is
corruption, and one with nothing behind it is a crash during the roll.
*/
const (
	segHeaderV1   = 64
	segHeaderSize = 96
	segMagic      = 0x534a5355 // "USJS"
	segVersion    = 2
	segPrefix     = "seg-"
	segSuffix     = ".usj"
	idxSuffix     = ".idx"
	segPurpose    = "understudy segment"
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

func encodeSegHeader(id [16]byte, number uint64, salt [32]byte) []byte {
	b := make([]byte, segHeaderSize)
	le := binary.LittleEndian
	le.PutUint32(b, segMagic)
	le.PutUint32(b[4:], segVersion)
	copy(b[8:], id[:])
	le.PutUint64(b[24:], number)
	copy(b[32:], salt[:])
	le.PutUint64(b[88:], xxh3.Hash(b[:88]))
	return b
}

// segHeader is a verified header. A version 1 segment has no salt.
type segHeader struct {
	version uint32
	salt    [32]byte
}

// size is where the first frame begins.
func (h *segHeader) size() int64 {
	if h.version == 1 {
		return segHeaderV1
	}
	return segHeaderSize
}

// parseSegHeader takes the first bytes of a file, which may be shorter than a header.
func parseSegHeader(b []byte, id [16]byte, number uint64) (h segHeader, err error) {
	le := binary.LittleEndian
	op := "journal: " + segName(number) + " header"
	damaged := fault.New(fault.Corruption, op, "damaged at offset 0")
	if len(b) < segHeaderV1 || le.Uint32(b) != segMagic {
		return h, damaged
	}
	switch h.version = le.Uint32(b[4:]); h.version {
	case 1:
		if le.Uint64(b[56:]) != xxh3.Hash(b[:56]) {
			return h, damaged
		}
	case segVersion:
		if len(b) < segHeaderSize || le.Uint64(b[88:]) != xxh3.Hash(b[:88]) {
			return h, damaged
		}
		copy(h.salt[:], b[32:64])
	case 0:
		return h, damaged
	default:
		if onlyVersionDamaged(b) {
			return h, damaged
		}
		return h, fault.New(fault.Unsupported, op, "version %d, this build reads up to %d", h.version, segVersion)
	}
	switch {
	case [16]byte(b[8:24]) != id:
		return h, fault.New(fault.Corruption, op, "belongs to journal %x", b[8:24])
	case le.Uint64(b[24:]) != number:
		return h, fault.New(fault.Corruption, op, "says that it is segment %d", le.Uint64(b[24:]))
	}
	return h, nil
}

// onlyVersionDamaged tells a header of ours, in which nothing but the version is not as it was, from one of a later build.
func onlyVersionDamaged(b []byte) bool {
	if len(b) < segHeaderSize {
		return false
	}
	ours := slices.Clone(b[:88])
	binary.LittleEndian.PutUint32(ours[4:], segVersion)
	return binary.LittleEndian.Uint64(b[88:]) == xxh3.Hash(ours)
}

// segFile is an open segment from which frames can be read.
type segFile struct {
	vfs.File
	number uint64
	start  int64                  // of the first frame
	cipher *encryption.FileCipher // nil in version 1
}

// asSegment reads the header of an open file, which stays the caller's when it fails.
func (d *directory) asSegment(f vfs.File, number uint64) (*segFile, error) {
	size, err := f.Size()
	if err != nil {
		return nil, vfs.Fault("journal: "+segName(number), err)
	}
	head := make([]byte, min(size, segHeaderSize))
	if err := vfs.ReadFull(f, head, 0); err != nil {
		return nil, vfs.Fault("journal: "+segName(number), err)
	}
	h, err := parseSegHeader(head, d.id, number)
	if err != nil {
		return nil, err
	}
	s := &segFile{File: f, number: number, start: h.size()}
	if h.version > 1 {
		if s.cipher, err = d.key.File(h.salt, segPurpose); err != nil {
			return nil, fault.Wrap("journal: "+segName(number), err)
		}
	}
	return s, nil
}

// openSegment opens a segment for reading.
func (d *directory) openSegment(number uint64) (*segFile, error) {
	f, err := d.fs.Open(d.path(segName(number)))
	if err != nil {
		return nil, vfs.Fault("journal: "+segName(number), err)
	}
	s, err := d.asSegment(f, number)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// segment is a sealed segment as it is kept in memory: what its sidecar's summary says. Its entries stay on disk.
type segment struct {
	number    uint64
	bytes     int64
	baseEpoch uint64
	entries   int
	sum       summary
	began     time.Time // when its first frame came, or the journal was opened
}
