package journal

import (
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
An index entry, 40 bytes, little endian, in arrival order:

	 0  8  position
	 8  8  time          unix ns, never decreasing within an epoch
	16  8  sector
	24  4  sectors       0: a bio without data (flush)
	28  4  offset of the frame in the segment
	32  2  offset of the data in the raw payload, in sectors
	34  2  disk
	36  2  epoch - base epoch of the segment
	38  1  kind          as on the wire
	39  1  flags         bit 0: ends its bio; bit 1: baseline

An extent of more than 2^31 sectors (only a discard or zeroes can be) becomes several entries.
*/
const (
	entrySize  = 40
	maxSectors = 1 << 31

	// No bio is so long that it is split, so these bound the memory that a hostile agent can take.
	maxFrameEntries = 4 * wire.MaxExtents
	maxIndex        = 1 << 18 // a segment that has so many entries ends

	entryEnd      = 1 << 0
	entryBaseline = 1 << 1
)

type entry struct {
	pos     uint64
	time    int64
	sector  uint64
	sectors uint32
	frame   uint32
	raw     uint16
	disk    uint16
	epoch   uint16
	kind    wire.Kind
	flags   uint8
}

// version of what it says, in a segment of that base epoch.
func (e *entry) version(baseEpoch uint64) layer.Version {
	return layer.Version{Epoch: baseEpoch + uint64(e.epoch), Position: e.pos}
}

// cells that its data touches, each with a sum.
func (e *entry) cells() int {
	if e.kind != wire.KindData {
		return 0
	}
	return wire.Cells(e.sector, uint64(e.sectors)*wire.SectorSize)
}

func countSums(index []entry) int {
	n := 0
	for i := range index {
		n += index[i].cells()
	}
	return n
}

func (e *entry) endsBio() bool { return e.flags&entryEnd != 0 }

func (e *entry) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, e.pos)
	b = le.AppendUint64(b, uint64(e.time))
	b = le.AppendUint64(b, e.sector)
	b = le.AppendUint32(b, e.sectors)
	b = le.AppendUint32(b, e.frame)
	b = le.AppendUint16(b, e.raw)
	b = le.AppendUint16(b, e.disk)
	b = le.AppendUint16(b, e.epoch)
	return append(b, byte(e.kind), e.flags)
}

func parseEntry(b []byte) entry {
	le := binary.LittleEndian
	return entry{
		pos: le.Uint64(b), time: int64(le.Uint64(b[8:])), sector: le.Uint64(b[16:]), sectors: le.Uint32(b[24:]),
		frame: le.Uint32(b[28:]), raw: le.Uint16(b[32:]), disk: le.Uint16(b[34:]), epoch: le.Uint16(b[36:]),
		kind: wire.Kind(b[38]), flags: b[39],
	}
}

// countEntries is at least what appendEntries will append.
func countEntries(extents []wire.Extent) uint64 {
	n := uint64(len(extents))
	for i := range extents {
		n += extents[i].Bytes / (maxSectors * wire.SectorSize)
	}
	return n
}

// appendEntries indexes the extents of one frame. clock is the epoch's running maximum of time before them.
func appendEntries(dst []entry, h *wire.Header, extents []wire.Extent, frame uint32, epoch uint16, clock int64) []entry {
	raw := uint64(0)
	for i := range extents {
		x := &extents[i]
		clock = max(clock, x.Time)
		e := entry{
			pos: x.Position, time: clock, sector: x.Sector, frame: frame, raw: uint16(raw / wire.SectorSize),
			disk: x.Disk, epoch: epoch, kind: x.Kind,
		}
		if h.Type == wire.TypeBaseline {
			e.flags = entryBaseline
		}
		if x.Kind == wire.KindData {
			raw += x.Bytes
		}
		left := x.Bytes / wire.SectorSize
		for ; left > maxSectors; left -= maxSectors {
			e.sectors = maxSectors
			dst = append(dst, e)
			e.sector += maxSectors
		}
		e.sectors = uint32(left)
		if h.Type == wire.TypeData && x.Flags&wire.EndOfBio != 0 {
			e.flags |= entryEnd
		}
		dst = append(dst, e)
	}
	return dst
}
