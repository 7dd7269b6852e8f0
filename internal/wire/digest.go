package wire

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Base asks the server to open the state that the epoch of the frame stands on, as it is durable now. The Asks that
// follow are about it. Everything that the agent sent of this epoch's baseline was acknowledged before, if it is asked
// about again.
type Base struct {
	Key []byte `json:"key"` // of the digests; KeySize random bytes
	// Latest asks for the newest recoverable state of the epoch instead. A server that does not know the field gives
	// digests without a Position.
	Latest bool `json:"latest,omitempty"`
}

// Ask wants the digests of ranges, piece by piece. The last piece of a range is what is left of it.
type Ask struct {
	ID     uint64  `json:"id"`
	Piece  uint64  `json:"piece"` // sectors
	Ranges []Range `json:"ranges"`
}

// Digests answers an Ask.
type Digests struct {
	ID      uint64 `json:"id"`
	Digests []byte `json:"digests"` // DigestSize each, in the order of the ranges
	// Position of the state that they are of, where the latest was asked for; 0 when it could not be opened, too.
	Position uint64 `json:"position,omitempty"`
}

// The limits of an Ask.
const (
	MaxAsks      = 256 // that wait for an answer on one connection
	MaxAskRanges = 64
	MaxPieces    = 4096
	MaxPiece     = 1 << 20  // bytes
	MaxAskBytes  = 16 << 20 // of all ranges
)

// Check sees that an Ask keeps the limits. Whether its ranges lie on a disk is not looked at.
func (a *Ask) Check() error {
	if a.Piece == 0 || a.Piece > MaxPiece/SectorSize || len(a.Ranges) > MaxAskRanges {
		return fault.New(fault.Invalid, "wire: ask", "%d ranges in pieces of %d sectors", len(a.Ranges), a.Piece)
	}
	left := uint64(MaxAskBytes / SectorSize)
	for _, g := range a.Ranges {
		if g.Sectors > left || g.Sector+g.Sectors < g.Sector {
			return fault.New(fault.Invalid, "wire: ask", "%d sectors at %d of disk %d", g.Sectors, g.Sector, g.Disk)
		}
		left -= g.Sectors
	}
	if n := a.Pieces(); n > MaxPieces {
		return fault.New(fault.Invalid, "wire: ask", "%d pieces", n)
	}
	return nil
}

// Pieces is how many digests answer the Ask.
func (a *Ask) Pieces() (n int) {
	for _, g := range a.Ranges {
		n += int((g.Sectors + a.Piece - 1) / a.Piece)
	}
	return n
}

// Sizes of digests and of their key.
const (
	DigestSize = 16
	KeySize    = 32
)

// Digest tells whether a piece of a disk is the same on both sides.
type Digest [DigestSize]byte

var (
	zeroDigest Digest // of content that is all zeroes
	unknown    = Digest(bytes.Repeat([]byte{0xff}, DigestSize))
)

// AppendUnknown appends the digest of a piece that cannot be told, which equals nothing.
func AppendUnknown(dst []byte) []byte { return append(dst, unknown[:]...) }

// AppendZero appends the digests of n pieces that are all zeroes.
func AppendZero(dst []byte, n int) []byte {
	dst = slices.Grow(dst, n*DigestSize)
	for range n {
		dst = append(dst, zeroDigest[:]...)
	}
	return dst
}

// Same compares the digests that both sides made of one piece; each has DigestSize bytes.
func Same(a, b []byte) bool { return bytes.Equal(a, b) && !bytes.Equal(a, unknown[:]) }

// Unknown tells of a digest whether it says nothing.
func Unknown(a []byte) bool { return bytes.Equal(a, unknown[:]) }

// Zero tells of a digest whether it is that of zeroes.
func Zero(a []byte) bool { return bytes.Equal(a, zeroDigest[:]) }

// Digester makes digests under one key. It is not safe for concurrent use.
type Digester struct {
	h   *blake3.Hasher
	out []byte
}

// NewDigester takes a key of KeySize bytes.
func NewDigester(key []byte) (*Digester, error) {
	h, err := blake3.NewKeyed(key)
	if err != nil {
		return nil, fault.New(fault.Invalid, "wire: digest", "%w", err)
	}
	return &Digester{h: h}, nil
}

// Append appends the digests of data, which lies at sector of a disk, piece by piece. The place is part of the digest:
// the right content at a wrong place does not pass.
func (d *Digester) Append(dst []byte, disk uint16, sector, piece uint64, data []byte) []byte {
	for len(data) > 0 {
		n := min(int(piece)*SectorSize, len(data))
		dst = d.append(dst, disk, sector, data[:n])
		data, sector = data[n:], sector+piece
	}
	return dst
}

func (d *Digester) append(dst []byte, disk uint16, sector uint64, data []byte) []byte {
	if allZero(data) {
		return append(dst, zeroDigest[:]...)
	}
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], uint64(disk))
	binary.LittleEndian.PutUint64(place[8:], sector)
	d.h.Reset()
	_, _ = d.h.Write(data)
	_, _ = d.h.Write(place[:]) // behind, so that the content is hashed where it lies
	d.out = d.h.Sum(d.out[:0])
	return append(dst, d.out[:DigestSize]...)
}

var zeroPage [64 << 10]byte

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeroPage))
		if !bytes.Equal(b[:n], zeroPage[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
