package wire

import (
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Builder collects extents and their data into one frame. Data is copied at Add, so that it may alias memory
// that is about to be reused. A Builder is reused after Reset; it is not safe for concurrent use.
type Builder struct {
	typ         Type
	epoch       uint64
	first, last uint64
	time        int64
	extents     []Extent
	sums        []uint64
	raw         []byte
}

// Reset starts a frame of the given type.
func (b *Builder) Reset(t Type, epoch uint64) {
	*b = Builder{typ: t, epoch: epoch, extents: b.extents[:0], sums: b.sums[:0], raw: b.raw[:0]}
}

// Empty reports whether nothing was added since Reset.
func (b *Builder) Empty() bool { return len(b.extents) == 0 }

// RawBytes is the size of the payload so far.
func (b *Builder) RawBytes() int { return len(b.raw) }

// Extents is the number of extents so far.
func (b *Builder) Extents() int { return len(b.extents) }

// Fits reports whether an extent of n data bytes at position still fits this frame.
func (b *Builder) Fits(position uint64, n int) bool {
	return len(b.raw)+n <= MaxRaw && len(b.extents) < MaxExtents &&
		(b.Empty() || position-b.first < 1<<32)
}

// Add appends an extent; data belongs to KindData only and must be e.Bytes long. The sums are made of data where it lies,
// before the copy: from here on nothing can change it unseen.
// The caller adds in position order and asks Fits first.
func (b *Builder) Add(e Extent, data []byte) {
	if b.Empty() {
		b.first = e.Position
	}
	b.last = e.Position
	b.time = max(b.time, e.Time)
	b.extents = append(b.extents, e)
	b.sums = AppendSums(b.sums, e.Disk, e.Sector, data)
	b.raw = append(b.raw, data...)
}

// Span sets first, last and time for frames whose positions are not those of their extents
// (epoch open, baseline done, mark, and a data frame whose watermark is later than its last write).
func (b *Builder) Span(first, last uint64, time int64) {
	b.first, b.last, b.time = first, last, time
}

// DropSums makes Finish write format 1, for a peer that speaks protocol 1.
func (b *Builder) DropSums() { b.sums = b.sums[:0] }

// Finish encodes the frame, appended to dst: in format 2 if there is content to sum, else in format 1.
func (b *Builder) Finish(dst []byte) []byte {
	h := Header{
		Format: FormatV1, Type: b.typ, ExtentBytes: uint32(len(b.extents)*ExtentSize + len(b.sums)*SumSize), RawBytes: uint32(len(b.raw)),
		Extents: uint32(len(b.extents)), Epoch: b.epoch, First: b.first, Last: b.last, Time: b.time,
	}
	if len(b.sums) > 0 {
		h.Format = FormatV2
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	for i := range b.extents {
		dst = appendExtent(dst, &b.extents[i], b.first)
	}
	for _, sum := range b.sums {
		dst = binary.LittleEndian.AppendUint64(dst, sum)
	}
	dst, h.Flags = appendPayload(dst, b.raw)
	h.PayloadBytes = uint32(len(dst) - start - HeaderSize - int(h.ExtentBytes))
	seal(dst[start:], &h)
	return dst
}

func appendExtent(dst []byte, e *Extent, first uint64) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, e.Disk)
	dst = append(dst, byte(e.Kind), byte(e.Flags))
	dst = le.AppendUint32(dst, uint32(e.Position-first))
	dst = le.AppendUint64(dst, e.Sector)
	dst = le.AppendUint64(dst, e.Bytes)
	return le.AppendUint64(dst, uint64(e.Time))
}

func appendPayload(dst, raw []byte) ([]byte, uint16) {
	if len(raw) == 0 {
		return dst, 0
	}
	start := len(dst)
	need := s2.MaxEncodedLen(len(raw))
	dst = slices.Grow(dst, need)
	n := len(s2.Encode(dst[start:start+need], raw))
	if n <= len(raw)-len(raw)/minSavedPart {
		return dst[:start+n], flagS2
	}
	return append(dst[:start], raw...), 0
}

func seal(frame []byte, h *Header) {
	le := binary.LittleEndian
	le.PutUint32(frame, frameMagic)
	frame[4], frame[5] = h.Format, byte(h.Type)
	le.PutUint16(frame[6:], h.Flags)
	le.PutUint32(frame[8:], h.ExtentBytes)
	le.PutUint32(frame[12:], h.PayloadBytes)
	le.PutUint32(frame[16:], h.RawBytes)
	le.PutUint32(frame[20:], h.Extents)
	le.PutUint64(frame[24:], h.Epoch)
	le.PutUint64(frame[32:], h.First)
	le.PutUint64(frame[40:], h.Last)
	le.PutUint64(frame[48:], uint64(h.Time))
	le.PutUint64(frame[checksumOff:], checksum(frame))
}

// Control encodes a frame without extents: Ack, Mark, BaselineDone.
func Control(t Type, epoch, first, last uint64, time int64) []byte {
	var b Builder
	b.Reset(t, epoch)
	b.Span(first, last, time)
	return b.Finish(nil)
}

// Message encodes a frame whose payload is v as JSON: Hello, Welcome, Refuse, EpochOpen.
func Message(t Type, epoch, first, last uint64, time int64, v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fault.New(fault.Bug, "wire: message", "%w", err)
	}
	if len(raw) > MaxRaw {
		return nil, fault.New(fault.Invalid, "wire: message", "%d bytes is over the limit of %d", len(raw), MaxRaw)
	}
	var b Builder
	b.Reset(t, epoch)
	b.Span(first, last, time)
	b.raw = raw
	return b.Finish(nil), nil
}

// Unmarshal decodes the JSON payload of a message frame.
func (f *Frame) Unmarshal(v any) error {
	raw, err := f.Payload(nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fault.New(fault.Corruption, "wire: message", "%w", err)
	}
	return nil
}
