package journal

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
)

/*
A timeline, timeline-<number>-<random>: where bios end, of a stretch of the journal whose segments are gone.

	 0  4  magic "UTLN"
	 4  4  version (1)
	 8 16  journal id
	24  8  number of the file
	32 32  salt of the file's key
	64  8  ends
	72  8  XXH3-64 of bytes [0,72)
	80     zstd of the ends, sealed; the number is authenticated with it

An end is three varints: epoch, position and time, each minus that of the end before; times may repeat.
*/
const (
	tlHeaderSize = 80
	tlMagic      = 0x4e4c5455 // "UTLN"
	tlVersion    = 1
	tlPurpose    = "understudy timeline"
	maxTimeline  = 64 << 20
	maxEnds      = 4 << 20
)

// Both are safe for concurrent use as they are used here, and too large to make each time.
var (
	timelineEncoder = sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) })
	timelineDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTimeline))
	})
)

// end of a bio.
type end struct {
	version layer.Version
	time    int64
}

// timelineRef is a timeline in the catalogue.
type timelineRef struct {
	Name   string `json:"name"`
	Number uint64 `json:"number"`
	Bytes  int64  `json:"bytes"`
	Ends   int    `json:"ends"`
	Spans  []span `json:"spans"`
}

func tlAAD(number uint64) []byte { return binary.LittleEndian.AppendUint64([]byte("timeline"), number) }

func encodeTimeline(d *directory, number uint64, ends []end) ([]byte, error) {
	salt := newSalt()
	c, err := d.key.File(salt, tlPurpose)
	if err != nil {
		return nil, err
	}
	var raw []byte
	var last end
	for _, e := range ends {
		raw = binary.AppendUvarint(raw, e.version.Epoch-last.version.Epoch)
		raw = binary.AppendUvarint(raw, e.version.Position-last.version.Position)
		raw = binary.AppendUvarint(raw, uint64(e.time-last.time))
		last = e
	}
	enc, err := timelineEncoder()
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: timeline", "%w", err)
	}
	b := make([]byte, tlHeaderSize)
	b = c.Seal(b, enc.EncodeAll(raw, nil), tlAAD(number))
	le := binary.LittleEndian
	le.PutUint32(b, tlMagic)
	le.PutUint32(b[4:], tlVersion)
	copy(b[8:], d.id[:])
	le.PutUint64(b[24:], number)
	copy(b[32:], salt[:])
	le.PutUint64(b[64:], uint64(len(ends)))
	le.PutUint64(b[72:], xxh3.Hash(b[:72]))
	return b, nil
}

func parseTimeline(d *directory, number uint64, b []byte) ([]end, error) {
	const op = "journal: timeline"
	le := binary.LittleEndian
	switch {
	case len(b) < tlHeaderSize || le.Uint32(b) != tlMagic || le.Uint64(b[72:]) != xxh3.Hash(b[:72]):
		return nil, fault.New(fault.Corruption, op, "damaged at offset 0")
	case le.Uint32(b[4:]) != tlVersion:
		return nil, fault.New(fault.Unsupported, op, "version %d, this build reads %d", le.Uint32(b[4:]), tlVersion)
	case [16]byte(b[8:24]) != d.id || le.Uint64(b[24:]) != number || le.Uint64(b[64:]) > maxEnds:
		return nil, fault.New(fault.Corruption, op, "is another file's")
	}
	c, err := d.key.File([encryption.SaltSize]byte(b[32:64]), tlPurpose)
	if err != nil {
		return nil, err
	}
	packed, err := c.Open(nil, b[tlHeaderSize:], tlAAD(number))
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	dec, err := timelineDecoder()
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	raw, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err)
	}
	return parseEnds(raw, int(le.Uint64(b[64:])))
}

func parseEnds(raw []byte, n int) ([]end, error) {
	ends := make([]end, 0, n)
	var last end
	for range n {
		var d [3]uint64
		for i := range d {
			v, size := binary.Uvarint(raw)
			if size <= 0 {
				return nil, fault.New(fault.Corruption, "journal: timeline", "ends too early")
			}
			d[i], raw = v, raw[size:]
		}
		last = end{version: layer.Version{Epoch: last.version.Epoch + d[0], Position: last.version.Position + d[1]}, time: last.time + int64(d[2])}
		ends = append(ends, last)
	}
	return ends, nil
}

// endsOf lists the ends of bios among entries, in order.
func endsOf(index []entry, baseEpoch uint64) []end {
	var ends []end
	for i := range index {
		if e := &index[i]; e.endsBio() {
			ends = append(ends, end{version: e.version(baseEpoch), time: e.time})
		}
	}
	return ends
}

// timeline reads one, or finds it among those that were read last.
func (j *Journal) timeline(ctx context.Context, ref *timelineRef) ([]end, error) {
	return j.idx.get(endsKey{timeline: true, number: ref.Number}, func() ([]end, error) {
		b, err := blob.Get(ctx, j.blobs, ref.Name, ref.Bytes)
		if err != nil {
			return nil, missing(ref.Name, err)
		}
		ends, err := parseTimeline(&j.directory, ref.Number, b)
		return ends, fault.Wrap("journal: "+ref.Name, err)
	})
}
