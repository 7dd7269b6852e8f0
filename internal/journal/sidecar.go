package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
The sidecar of a sealed segment, seg-<20 digits>.idx, written atomically after the segment is synced:

	 0  4  magic "UIDX"
	 4  4  version (2)
	 8 16  journal id
	24  8  segment number
	32  8  bytes of the segment
	40  4  bytes of the sealed summary
	44  4  entries
	48  8  base epoch
	56  8  bytes of the sealed entries
	64 32  salt of the sidecar's key
	96  8  bytes of the sealed sums
	104 16 zero
	120 8  XXH3-64 of bytes [0,120)
	128    summary (JSON), entries of 40 bytes as one S2 block, then the sums of the data of all entries, 8 bytes for
	       each cell, 0 where the frame had none; each of the three sealed, its name and the segment number
	       authenticated with it

Opening a journal reads summaries only; entries are read when a View or an instant needs them. Everything in it can be
made again from the segment, so a damaged sidecar, or one of version 1, costs time, not data.
*/
const (
	idxHeaderSize = 128
	idxMagic      = 0x58444955 // "UIDX"
	idxVersion    = 2
	idxPurpose    = "understudy index"
	maxSummary    = 64 << 20
	maxEntries    = maxIndex + maxFrameEntries // more cannot come from one segment
)

// summary is what opening needs to know of a sealed segment.
type summary struct {
	Frames  int     `json:"frames"`
	Highest uint64  `json:"highest"` // these three: of the whole journal up to this segment's end
	Data    uint64  `json:"data"`
	Bio     uint64  `json:"bio"`
	Epochs  []epoch `json:"epochs"` // current at some frame of this segment, as they were at its end
	Spans   []span  `json:"spans"`
	Tables  []table `json:"tables,omitempty"` // all up to this segment's end but the first, which is in journal.json
}

// span bounds the ends of bios of one epoch in one segment.
type span struct {
	Epoch     uint64 `json:"epoch"`
	First     uint64 `json:"first"`
	Last      uint64 `json:"last"`
	FirstTime int64  `json:"firstTime"`
	LastTime  int64  `json:"lastTime"`
}

// addSpan widens the newest span, or begins the one of a newer epoch.
func addSpan(spans []span, epoch uint64, e *entry) []span {
	if n := len(spans); n > 0 && spans[n-1].Epoch == epoch {
		spans[n-1].Last, spans[n-1].LastTime = e.pos, e.time
		return spans
	}
	return append(spans, span{Epoch: epoch, First: e.pos, Last: e.pos, FirstTime: e.time, LastTime: e.time})
}

func idxAAD(part string, number uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte(part), number)
}

func encodeSidecar(d *directory, s *segment, index []entry, sums []uint64) ([]byte, error) {
	sum, err := json.Marshal(s.sum)
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: seal", "%w", err)
	}
	salt := newSalt()
	c, err := d.key.File(salt, idxPurpose)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 0, len(index)*entrySize)
	for i := range index {
		raw = index[i].append(raw)
	}
	packed := s2.Encode(nil, raw)
	b := make([]byte, idxHeaderSize, idxHeaderSize+len(sum)+len(packed)+2*c.Overhead())
	b = c.Seal(b, sum, idxAAD("summary", s.number))
	entries := len(b)
	b = c.Seal(b, packed, idxAAD("entries", s.number))
	sealed := len(b)
	le := binary.LittleEndian
	raw = raw[:0]
	for _, sum := range sums {
		raw = le.AppendUint64(raw, sum)
	}
	b = c.Seal(b, raw, idxAAD("sums", s.number))
	le.PutUint32(b, idxMagic)
	le.PutUint32(b[4:], idxVersion)
	copy(b[8:], d.id[:])
	le.PutUint64(b[24:], s.number)
	le.PutUint64(b[32:], uint64(s.bytes))
	le.PutUint32(b[40:], uint32(entries-idxHeaderSize))
	le.PutUint32(b[44:], uint32(len(index)))
	le.PutUint64(b[48:], s.baseEpoch)
	le.PutUint64(b[56:], uint64(sealed-entries))
	copy(b[64:], salt[:])
	le.PutUint64(b[96:], uint64(len(b)-sealed))
	le.PutUint64(b[120:], xxh3.Hash(b[:120]))
	return b, nil
}

// idxHeader is a verified sidecar header.
type idxHeader struct {
	number, bytes, baseEpoch uint64
	summary, entries         uint32
	sealed, sums             uint64 // bytes
	salt                     [encryption.SaltSize]byte
}

func parseIdxHeader(b []byte, id [16]byte, number uint64) (idxHeader, error) {
	le := binary.LittleEndian
	op := "journal: " + idxName(number)
	if len(b) >= 8 && le.Uint32(b) == idxMagic && le.Uint32(b[4:]) == 1 {
		return idxHeader{}, errOldSidecar
	}
	if len(b) < idxHeaderSize || le.Uint32(b) != idxMagic || le.Uint64(b[120:]) != xxh3.Hash(b[:120]) {
		return idxHeader{}, fault.New(fault.Corruption, op, "damaged at offset 0")
	}
	if v := le.Uint32(b[4:]); v != idxVersion {
		return idxHeader{}, fault.New(fault.Unsupported, op, "version %d, this build reads %d", v, idxVersion)
	}
	h := idxHeader{
		number: le.Uint64(b[24:]), bytes: le.Uint64(b[32:]), summary: le.Uint32(b[40:]), entries: le.Uint32(b[44:]),
		baseEpoch: le.Uint64(b[48:]), sealed: le.Uint64(b[56:]), sums: le.Uint64(b[96:]), salt: [encryption.SaltSize]byte(b[64:96]),
	}
	switch {
	case [16]byte(b[8:24]) != id || h.number != number:
		return idxHeader{}, fault.New(fault.Corruption, op, "belongs to segment %d of journal %x", h.number, b[8:24])
	case h.summary > maxSummary || h.entries > maxEntries || h.sealed > 2*maxEntries*entrySize || h.sums > 2*maxSegmentBytes || h.bytes > 2*maxSegmentBytes:
		return idxHeader{}, fault.New(fault.Corruption, op, "sizes make no sense")
	}
	return h, nil
}

// errOldSidecar counts as damage: what it held is made again from its segment.
var errOldSidecar = fault.New(fault.Corruption, "journal: index", "of version 1")

func (h *idxHeader) parseSummary(c *encryption.FileCipher, b []byte) (*segment, error) {
	op := "journal: " + idxName(h.number)
	plain, err := c.Open(nil, b, idxAAD("summary", h.number))
	if err != nil {
		return nil, fault.New(fault.Corruption, op, "summary damaged at offset %d", idxHeaderSize)
	}
	s := &segment{number: h.number, bytes: int64(h.bytes), baseEpoch: h.baseEpoch, entries: int(h.entries)}
	if err := json.Unmarshal(plain, &s.sum); err != nil {
		return nil, fault.New(fault.Corruption, op, "summary: %w", err)
	}
	return s, nil
}

func (h *idxHeader) parseEntries(c *encryption.FileCipher, b []byte) ([]entry, error) {
	damaged := fault.New(fault.Corruption, "journal: "+idxName(h.number), "entries damaged at offset %d", idxHeaderSize+h.summary)
	packed, err := c.Open(nil, b, idxAAD("entries", h.number))
	if err != nil {
		return nil, damaged
	}
	if n, err := s2.DecodedLen(packed); err != nil || n != int(h.entries)*entrySize {
		return nil, damaged
	}
	raw, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, damaged
	}
	index := make([]entry, h.entries)
	for i := range index {
		index[i] = parseEntry(raw[i*entrySize:])
	}
	return index, nil
}

// openSidecar opens a sidecar and verifies its header.
func (d *directory) openSidecar(number uint64) (vfs.File, idxHeader, *encryption.FileCipher, error) {
	f, err := d.fs.Open(d.path(idxName(number)))
	if err != nil {
		return nil, idxHeader{}, nil, vfs.Fault("journal: "+idxName(number), err)
	}
	h, c, err := d.sidecarHeader(f, number)
	if err != nil {
		return nil, h, nil, errors.Join(err, f.Close())
	}
	return f, h, c, nil
}

func (d *directory) sidecarHeader(f vfs.File, number uint64) (h idxHeader, c *encryption.FileCipher, err error) {
	op := "journal: " + idxName(number)
	size, err := f.Size()
	if err != nil {
		return h, nil, vfs.Fault(op, err)
	}
	head := make([]byte, min(size, idxHeaderSize))
	if err := vfs.ReadFull(f, head, 0); err != nil {
		return h, nil, vfs.Fault(op, err)
	}
	if h, err = parseIdxHeader(head, d.id, number); err != nil {
		return h, nil, err
	}
	if size != idxHeaderSize+int64(h.summary)+int64(h.sealed)+int64(h.sums) {
		return h, nil, fault.New(fault.Corruption, op, "%d bytes do not fit its header", size)
	}
	c, err = d.key.File(h.salt, idxPurpose)
	return h, c, err
}

// readSums reads the sums of a sidecar.
func (d *directory) readSums(number uint64) (_ []uint64, err error) {
	f, h, c, err := d.openSidecar(number)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, h.sums)
	if err := vfs.ReadFull(f, b, idxHeaderSize+int64(h.summary)+int64(h.sealed)); err != nil {
		return nil, vfs.Fault("journal: "+idxName(number), err)
	}
	raw, err := c.Open(nil, b, idxAAD("sums", number))
	if err != nil || len(raw)%8 != 0 {
		return nil, fault.New(fault.Corruption, "journal: "+idxName(number), "sums damaged")
	}
	sums := make([]uint64, len(raw)/8)
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	return sums, nil
}

// readSidecar reads the summary of a segment's sidecar and, if asked, its entries.
func (d *directory) readSidecar(number uint64, withEntries bool) (_ *segment, _ []entry, err error) {
	f, h, c, err := d.openSidecar(number)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, h.summary)
	if err := vfs.ReadFull(f, b, idxHeaderSize); err != nil {
		return nil, nil, vfs.Fault("journal: "+idxName(number), err)
	}
	s, err := h.parseSummary(c, b)
	if err != nil || !withEntries {
		return s, nil, err
	}
	b = make([]byte, h.sealed)
	if err := vfs.ReadFull(f, b, idxHeaderSize+int64(h.summary)); err != nil {
		return nil, nil, vfs.Fault("journal: "+idxName(number), err)
	}
	index, err := h.parseEntries(c, b)
	return s, index, err
}
