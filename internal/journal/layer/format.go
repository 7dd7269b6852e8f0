package layer

import (
	"encoding"
	"encoding/binary"
	"encoding/hex"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
A layer file; docs/formats/layer.md has the reasons. All integers are little endian.

	header       72  magic "ULYR", version, journal id, layer number, salt, checksum
	data blocks      sealed, in the order of the index blocks; of each, newest versions first
	index blocks     sealed; each describes the data blocks and spans of a run of places on one disk
	top index        sealed; 72 bytes for each index block
	footer       64  magic "ULYE", version, layer number, where the top index before it is, counts, where index blocks end, checksum
	top index        again, so that no single damage costs the whole file
	footer       64

	sealed = nonce, AES-256-GCM of the block, tag; authenticated with it: journal id, layer number, offset, kind of block
*/
const (
	headerMagic = 0x52594c55 // "ULYR"
	footerMagic = 0x45594c55 // "ULYE"
	headerSize  = 72
	footerSize  = 64
	topSize     = 72
)

// The versions of the format, newest first. A number is never used again, and every one must open for ever.
const (
	version2 = 2 // the newest versions of an index block's spans lie together, so that reading a disk as it is now skips what it was before
	version1 = 1 // the first

	newestVersion = version2
)

// Bounds. A reader refuses what is beyond them, a writer stays far below.
const (
	maxBlock     = 64 << 10 // raw bytes of a data block
	pieceBlock   = 8 << 10  // of one that does not compress
	indexBytes   = 32 << 10 // raw bytes of records at which an index block is ended
	maxIndexRaw  = 1 << 20
	maxIndexData = 1 << 30 // raw bytes of data that one index block describes
	maxHeld      = 8 << 20 // bytes of older versions, waiting in memory for the newest ones' end, at which an index block is ended
	maxRecord    = 64      // entries in one record
	maxOverhead  = 1 << 10 // what a cipher may add to a block
)

type blockKind byte

const (
	dataBlock  blockKind = 1
	indexBlk   blockKind = 2
	topBlock   blockKind = 3
	aadSize              = 16 + 8 + 8 + 1
	saltLength           = 32
)

// appendAAD is the place of a block, which is authenticated with it so that blocks cannot be exchanged.
func appendAAD(dst []byte, journal *[16]byte, number uint64, off int64, k blockKind) []byte {
	dst = append(dst, journal[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(off))
	return append(dst, byte(k))
}

// Salt is what the key of one file is derived with.
type Salt [saltLength]byte

var (
	_ encoding.TextMarshaler   = Salt{}
	_ encoding.TextUnmarshaler = (*Salt)(nil)
)

// MarshalText gives hexadecimal digits.
func (s Salt) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText takes hexadecimal digits.
func (s *Salt) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(s[:], b[:min(len(b), 2*saltLength)]); err != nil || n != saltLength || len(b) != 2*saltLength {
		return fault.New(fault.Invalid, "layer: salt", "not %d hexadecimal digits", 2*saltLength)
	}
	return nil
}

// Header is what a file says of itself before anything is decrypted.
type Header struct {
	Version uint32
	Journal [16]byte
	Number  uint64
	Salt    Salt
}

func (h *Header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], headerMagic)
	le.PutUint32(b[4:], h.Version)
	copy(b[8:], h.Journal[:])
	le.PutUint64(b[24:], h.Number)
	copy(b[32:], h.Salt[:])
	le.PutUint64(b[64:], xxh3.Hash(b[:64]))
	return b
}

func (h *Header) decode(b []byte) error {
	le := binary.LittleEndian
	if le.Uint32(b) != headerMagic || le.Uint64(b[64:]) != xxh3.Hash(b[:64]) {
		return fault.New(fault.Corruption, "layer: header", "no header of a layer, or a damaged one")
	}
	*h = Header{Version: le.Uint32(b[4:]), Journal: [16]byte(b[8:]), Number: le.Uint64(b[24:]), Salt: Salt(b[32:64])}
	return checkVersion(h.Version)
}

func checkVersion(v uint32) error {
	if v == 0 || v > newestVersion {
		return fault.New(fault.Unsupported, "layer: open", "the file has format %d, this build knows up to %d", v, newestVersion).
			WithHint("upgrade this replication server")
	}
	return nil
}

// footer is where reading begins.
type footer struct {
	version  uint32
	number   uint64
	topOff   uint64
	topLen   uint64
	spans    uint64
	entries  uint64
	indexEnd uint64
}

func (f *footer) encode() []byte {
	b := make([]byte, 0, footerSize)
	le := binary.LittleEndian
	b = le.AppendUint32(b, footerMagic)
	b = le.AppendUint32(b, newestVersion)
	for _, v := range []uint64{f.number, f.topOff, f.topLen, f.spans, f.entries, f.indexEnd} {
		b = le.AppendUint64(b, v)
	}
	return le.AppendUint64(b, xxh3.Hash(b))
}

func (f *footer) decode(b []byte) error {
	le := binary.LittleEndian
	if le.Uint32(b) != footerMagic || le.Uint64(b[56:]) != xxh3.Hash(b[:56]) {
		return fault.New(fault.Corruption, "layer: footer", "no footer of a layer, or a damaged one")
	}
	for i, p := range []*uint64{&f.number, &f.topOff, &f.topLen, &f.spans, &f.entries, &f.indexEnd} {
		*p = le.Uint64(b[8+8*i:])
	}
	f.version = le.Uint32(b[4:])
	return checkVersion(f.version)
}

// describes reports whether the footer at a place fits a file: one of two, each right behind its top index.
func (f *footer) describes(size, at int64) bool {
	if f.topLen > uint64(size) || f.indexEnd > uint64(size) || f.indexEnd < headerSize {
		return false
	}
	end, n := int64(f.indexEnd), int64(f.topLen)
	return end+2*(n+footerSize) == size && int64(f.topOff)+n == at && (at == end+n || at == size-footerSize)
}

// topEntry is what the top index knows of an index block.
type topEntry struct {
	first, end uint64 // places of its spans; end is exclusive
	oldest     Version
	newest     Version
	off        int64
	stored     uint32 // bytes in the file
	raw        uint32
	disk       uint16
	compressed bool
	continued  bool // begins with older versions of the span that the block before ended with
}

func (t *topEntry) append(b []byte) []byte {
	le := binary.LittleEndian
	var flags uint16
	if t.compressed {
		flags |= 1
	}
	if t.continued {
		flags |= 2
	}
	b = le.AppendUint16(b, t.disk)
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, t.stored)
	for _, v := range []uint64{t.first, t.end, t.oldest.Epoch, t.oldest.Position, t.newest.Epoch, t.newest.Position, uint64(t.off)} {
		b = le.AppendUint64(b, v)
	}
	return le.AppendUint64(b, uint64(t.raw))
}

func (t *topEntry) decode(b []byte) bool {
	le := binary.LittleEndian
	flags := le.Uint16(b[2:])
	*t = topEntry{
		disk: le.Uint16(b), compressed: flags&1 != 0, continued: flags&2 != 0, stored: le.Uint32(b[4:]),
		first: le.Uint64(b[8:]), end: le.Uint64(b[16:]),
		oldest: Version{le.Uint64(b[24:]), le.Uint64(b[32:])}, newest: Version{le.Uint64(b[40:]), le.Uint64(b[48:])},
		off: int64(le.Uint64(b[56:])), raw: le.Uint32(b[64:]),
	}
	return flags < 4 && le.Uint32(b[68:]) == 0 && t.first < t.end && t.end <= maxSector && !t.newest.Less(t.oldest) &&
		t.raw <= maxIndexRaw && t.stored <= maxIndexRaw+maxOverhead
}

// decodeTop checks that index blocks are in order and lie one behind the other up to their end.
func decodeTop(b []byte, indexEnd int64) ([]topEntry, error) {
	bad := fault.New(fault.Corruption, "layer: open", "the top index contradicts itself")
	if len(b)%topSize != 0 {
		return nil, bad
	}
	top := make([]topEntry, len(b)/topSize)
	at := int64(-1)
	for i := range top {
		t := &top[i]
		if !t.decode(b[i*topSize:]) || at >= 0 && t.off != at || t.off < headerSize || t.off > indexEnd {
			return nil, bad
		}
		at = t.off + int64(t.stored)
		if i == 0 {
			if t.continued {
				return nil, bad
			}
			continue
		}
		p := &top[i-1]
		if t.continued && (t.disk != p.disk || t.first >= p.end || p.end > t.end) ||
			!t.continued && t.disk == p.disk && t.first < p.end || t.disk < p.disk {
			return nil, bad
		}
	}
	if at >= 0 && at != indexEnd {
		return nil, bad
	}
	return top, nil
}
