// Package wire is the language between an agent and a replication server, and the unit in which the
// journal stores what it heard: the frame. The source builds frames, the sink verifies them and the
// journal appends them byte for byte, so a frame is encoded, compressed and summed exactly once.
//
// Import it to speak or store frames: replicate/source, replicate/sink, journal. It has no policy and does no I/O
// beyond the connection it is handed. The format is written down in docs/formats/frame.md.
package wire

import (
	"encoding/binary"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
A frame, little endian:

	 0  4  magic "UFRM"
	 4  1  format version (1; 2: sums follow the extent table)
	 5  1  type
	 6  2  flags                 bit 0: payload is one S2 block
	 8  4  extent table bytes    extents * 32 + sums * 8
	12  4  payload bytes         as stored
	16  4  raw bytes             payload after decompression
	20  4  extents
	24  8  epoch
	32  8  first position        Ack: frames made durable on this connection
	40  8  last position         Ack: durable position
	48  8  time                  unix ns; everything submitted up to it is at or below last position
	56  8  checksum              XXH3-64 over bytes [0,56), extent table, payload
	64     extent table, sums, payload

An extent, 32 bytes:

	 0  2  disk index
	 2  1  kind                  1 data, 2 zeroes, 3 discard (reads as zeroes)
	 3  1  flags                 bit 0: last extent of its bio; bit 1: FUA; bit 2: preflush
	 4  4  position - first position
	 8  8  first sector (512 bytes)
	16  8  length in bytes       of data extents also their length in the raw payload
	24  8  time                  unix ns

The header comes first and is not compressed so that a reader can index a segment without touching payloads.
The checksum is last in the header so that it covers one contiguous run before it.
*/

// Sizes and limits of the format.
const (
	HeaderSize   = 64
	ExtentSize   = 32
	SectorSize   = 512
	MaxRaw       = 4 << 20    // raw payload of one frame
	MaxExtents   = 1 << 16    // of one frame
	maxPayload   = 5 << 20    // S2 may grow incompressible input a little
	flagS2       = 1 << 0     // payload is one S2 block
	frameMagic   = 0x4d524655 // "UFRM"
	checksumOff  = 56
	minSavedPart = 16 // keep a compressed payload only if it saves 1/16
)

// The frame formats, newest first, a line of reason each; never renumbered, and read for ever. A frame is written in the
// oldest that can say it, so the conversation around the data is understood by builds of any age.
const (
	FormatV2 = 2 // the agent's sum of every cell: content is checked against the memory that it came from
	FormatV1 = 1 // first release
)

// Type tells what a frame says.
type Type uint8

// The frame types. Numbers are never reused. Types from Data on are stored in the journal.
const (
	TypeHello        Type = 1  // agent: JSON Hello
	TypeWelcome      Type = 2  // server: JSON Welcome
	TypeRefuse       Type = 3  // either: JSON Refusal, then the connection ends
	TypeAck          Type = 4  // server: frames made durable, durable position
	TypeRepair       Type = 5  // server: JSON Repair, from protocol 2 on
	TypeBase         Type = 6  // agent: JSON Base, from protocol 3 on
	TypeAsk          Type = 7  // agent: JSON Ask, from protocol 3 on
	TypeDigests      Type = 8  // server: JSON Digests, from protocol 3 on
	TypeData         Type = 16 // captured writes in order
	TypeBaseline     Type = 17 // blocks read from the disk, at the epoch's first position
	TypeEpochOpen    Type = 18 // JSON EpochOpen
	TypeBaselineDone Type = 19 // baseline complete; recoverable from last position on
	TypeMark         Type = 20 // watermark only
)

// Durable reports whether frames of this type are stored and acknowledged.
func (t Type) Durable() bool { return t >= TypeData && t <= TypeMark }

// Kind tells what an extent does to its range.
type Kind uint8

// The extent kinds.
const (
	KindData    Kind = 1
	KindZero    Kind = 2
	KindDiscard Kind = 3
)

// ExtentFlags of an extent.
type ExtentFlags uint8

// The extent flags.
const (
	EndOfBio ExtentFlags = 1 << 0
	FUA      ExtentFlags = 1 << 1
	Preflush ExtentFlags = 1 << 2
)

// Header is the fixed part of a frame.
type Header struct {
	Format       uint8
	Type         Type
	Flags        uint16
	ExtentBytes  uint32 // the sums included
	PayloadBytes uint32
	RawBytes     uint32
	Extents      uint32
	Epoch        uint64
	First, Last  uint64
	Time         int64 // unix ns
	Checksum     uint64
}

// Size is the frame's length in bytes.
func (h *Header) Size() int { return HeaderSize + int(h.ExtentBytes) + int(h.PayloadBytes) }

// When is Time as a time.Time in UTC.
func (h *Header) When() time.Time { return time.Unix(0, h.Time).UTC() }

// Extent is one contiguous range of one disk, written at Position.
type Extent struct {
	Disk     uint16
	Kind     Kind
	Flags    ExtentFlags
	Position uint64
	Sector   uint64
	Bytes    uint64
	Time     int64 // unix ns
}

// ParseHeader checks everything that can be checked without the rest of the frame.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, fault.New(fault.Corruption, "wire: header", "%d bytes, want %d", len(b), HeaderSize)
	}
	le := binary.LittleEndian
	if m := le.Uint32(b); m != frameMagic {
		return h, fault.New(fault.Corruption, "wire: header", "bad magic %08x", m)
	}
	if v := b[4]; v < FormatV1 || v > FormatV2 {
		return h, fault.New(fault.Unsupported, "wire: header", "frame format %d, this build reads %d to %d", v, FormatV1, FormatV2).
			WithHint("upgrade the older side")
	}
	h = Header{
		Format: b[4], Type: Type(b[5]), Flags: le.Uint16(b[6:]), ExtentBytes: le.Uint32(b[8:]), PayloadBytes: le.Uint32(b[12:]),
		RawBytes: le.Uint32(b[16:]), Extents: le.Uint32(b[20:]), Epoch: le.Uint64(b[24:]),
		First: le.Uint64(b[32:]), Last: le.Uint64(b[40:]), Time: int64(le.Uint64(b[48:])), Checksum: le.Uint64(b[checksumOff:]),
	}
	switch {
	case h.Flags&^flagS2 != 0:
		return h, fault.New(fault.Unsupported, "wire: header", "unknown flags %04x", h.Flags)
	case h.Extents > MaxExtents || !h.tableFits():
		return h, fault.New(fault.Corruption, "wire: header", "%d extents in %d bytes", h.Extents, h.ExtentBytes)
	case h.PayloadBytes > maxPayload || h.RawBytes > MaxRaw:
		return h, fault.New(fault.Corruption, "wire: header", "payload of %d bytes (%d raw) is over the limit", h.PayloadBytes, h.RawBytes)
	case h.Flags&flagS2 == 0 && h.PayloadBytes != h.RawBytes:
		return h, fault.New(fault.Corruption, "wire: header", "plain payload of %d bytes says %d raw", h.PayloadBytes, h.RawBytes)
	}
	return h, nil
}

// tableFits bounds what a reader allocates before it sees the table: there is no more than a sum for each sector.
func (h *Header) tableFits() bool {
	if !h.Summed() {
		return h.ExtentBytes == h.tableBytes()
	}
	return h.ExtentBytes >= h.tableBytes() && (h.ExtentBytes-h.tableBytes())%SumSize == 0 && h.sums() <= h.RawBytes/SectorSize
}

// Frame is a parsed frame. Bytes aliases the buffer it was parsed from.
type Frame struct {
	Header
	Bytes []byte // the whole frame as sent and stored
}

// Parse reads the frame at the start of b and verifies its checksum and the number of its sums. b may be longer than the
// frame.
func Parse(b []byte) (Frame, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Frame{}, err
	}
	if len(b) < h.Size() {
		return Frame{}, fault.New(fault.Corruption, "wire: frame", "%d bytes, header says %d", len(b), h.Size())
	}
	f := Frame{Header: h, Bytes: b[:h.Size():h.Size()]}
	if sum := checksum(f.Bytes); sum != h.Checksum {
		return Frame{}, fault.New(fault.Corruption, "wire: frame", "checksum %016x, header says %016x", sum, h.Checksum)
	}
	if err := f.checkSums(); err != nil {
		return Frame{}, err
	}
	return f, nil
}

func checksum(frame []byte) uint64 {
	var s xxh3.Hasher
	_, _ = s.Write(frame[:checksumOff])
	_, _ = s.Write(frame[HeaderSize:])
	return s.Sum64()
}

// ExtentTable decodes and checks the extent table into dst (reused when large enough).
func (f *Frame) ExtentTable(dst []Extent) ([]Extent, error) {
	return ParseExtents(&f.Header, f.Bytes[HeaderSize:HeaderSize+f.tableBytes()], dst)
}

// ParseExtents decodes the extent table of the frame with header h.
func ParseExtents(h *Header, table []byte, dst []Extent) ([]Extent, error) {
	dst = dst[:0]
	le := binary.LittleEndian
	raw := uint64(0)
	for i := range int(h.Extents) {
		b := table[i*ExtentSize : (i+1)*ExtentSize]
		e := Extent{
			Disk: le.Uint16(b), Kind: Kind(b[2]), Flags: ExtentFlags(b[3]), Position: h.First + uint64(le.Uint32(b[4:])),
			Sector: le.Uint64(b[8:]), Bytes: le.Uint64(b[16:]), Time: int64(le.Uint64(b[24:])),
		}
		end := e.Sector*SectorSize + e.Bytes
		switch {
		case e.Kind < KindData || e.Kind > KindDiscard:
			return nil, fault.New(fault.Corruption, "wire: extent", "unknown kind %d", e.Kind)
		case e.Sector > 1<<54 || e.Bytes > 1<<62 || end < e.Bytes || e.Bytes%SectorSize != 0:
			return nil, fault.New(fault.Corruption, "wire: extent", "range %d+%d is impossible", e.Sector, e.Bytes)
		case e.Position > h.Last || (i > 0 && e.Position < dst[i-1].Position):
			return nil, fault.New(fault.Corruption, "wire: extent", "position %d is out of order", e.Position)
		case e.Kind == KindData:
			if e.Bytes > MaxRaw {
				return nil, fault.New(fault.Corruption, "wire: extent", "data of %d bytes", e.Bytes)
			}
			raw += e.Bytes
		}
		dst = append(dst, e)
	}
	if carriesData(h.Type) && raw != uint64(h.RawBytes) {
		return nil, fault.New(fault.Corruption, "wire: extent", "extents hold %d bytes, payload %d", raw, h.RawBytes)
	}
	return dst, nil
}

func carriesData(t Type) bool { return t == TypeData || t == TypeBaseline }

// Payload returns the raw payload, decompressed into dst when it has to be. The result may alias the frame.
func (f *Frame) Payload(dst []byte) ([]byte, error) {
	p := f.Bytes[HeaderSize+int(f.ExtentBytes):]
	if f.Flags&flagS2 == 0 {
		return p, nil
	}
	if n, err := s2.DecodedLen(p); err != nil || n != int(f.RawBytes) {
		return nil, fault.New(fault.Corruption, "wire: payload", "compressed length does not fit: %v", err)
	}
	raw, err := s2.Decode(dst[:cap(dst)], p)
	if err != nil {
		return nil, fault.New(fault.Corruption, "wire: payload", "%w", err)
	}
	return raw, nil
}
