package wire

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
Sums follow the extent table in format 2: for every data extent, in table order, one XXH3-64 per cell of the disk that
it touches, of the extent's bytes in that cell. Cells are 8 sectors and aligned on the disk, not on the extent, so that
a reader years later, who meets pieces of a block from several writes, can check each piece that is still whole.
The seed is the place, so that bytes at the wrong place fail as wrong bytes do.
*/
const (
	CellSectors = 8 // 4 KiB: what file systems write
	CellBytes   = CellSectors * SectorSize
	SumSize     = 8
)

// Cells counts the cells that a range touches; each has one sum.
func Cells(sector, bytes uint64) int {
	if bytes == 0 {
		return 0
	}
	return int((sector%CellSectors + (bytes+SectorSize-1)/SectorSize + CellSectors - 1) / CellSectors)
}

// AppendSums appends the sums of data, which lies at sector of a disk.
func AppendSums(dst []uint64, disk uint16, sector uint64, data []byte) []uint64 {
	for len(data) > 0 {
		n := min(int(CellSectors-sector%CellSectors)*SectorSize, len(data))
		dst = append(dst, sum(disk, sector, data[:n]))
		data, sector = data[n:], sector+uint64(n)/SectorSize
	}
	return dst
}

// SumsOf computes the sums of a frame's extents from its raw payload. The frame must have passed ExtentTable, which
// sees that the two fit each other.
func SumsOf(dst []uint64, extents []Extent, raw []byte) []uint64 {
	for i := range extents {
		if e := &extents[i]; e.Kind == KindData {
			dst = AppendSums(dst, e.Disk, e.Sector, raw[:e.Bytes])
			raw = raw[e.Bytes:]
		}
	}
	return dst
}

// Summed tells whether the frame carries the sums that the agent made of its memory.
func (h *Header) Summed() bool { return h.Format >= FormatV2 }

// tableBytes is the extent table without the sums behind it.
func (h *Header) tableBytes() uint32 { return h.Extents * ExtentSize }

// sums is how many of them the header makes room for.
func (h *Header) sums() uint32 { return (h.ExtentBytes - h.tableBytes()) / SumSize }

// Sums appends the frame's sums to dst. A frame of format 1 carries none: then they are computed from the payload, and
// say no more than the frame's own checksum did.
func (f *Frame) Sums(dst []uint64) ([]uint64, error) {
	if !f.Summed() {
		if !carriesData(f.Type) {
			return dst, nil
		}
		extents, err := f.ExtentTable(nil)
		if err != nil {
			return dst, err
		}
		raw, err := f.Payload(nil)
		if err != nil {
			return dst, err
		}
		return SumsOf(dst, extents, raw), nil
	}
	b := f.Bytes[HeaderSize+f.tableBytes() : HeaderSize+f.ExtentBytes]
	for ; len(b) >= SumSize; b = b[SumSize:] {
		dst = append(dst, binary.LittleEndian.Uint64(b))
	}
	return dst, nil
}

// checkSums sees that there are as many sums as the extents ask for.
func (f *Frame) checkSums() error {
	if !f.Summed() {
		return nil
	}
	le := binary.LittleEndian
	want := 0
	for b := f.Bytes[HeaderSize : HeaderSize+f.tableBytes()]; len(b) > 0; b = b[ExtentSize:] {
		bytes := le.Uint64(b[16:])
		if Kind(b[2]) != KindData {
			continue
		}
		if bytes > MaxRaw {
			return fault.New(fault.Corruption, "wire: extent", "data of %d bytes", bytes)
		}
		want += Cells(le.Uint64(b[8:]), bytes)
	}
	if have := int(f.sums()); have != want {
		return fault.New(fault.Corruption, "wire: frame", "%d sums, its extents touch %d cells", have, want)
	}
	return nil
}

// Prover sees that frames hold what their sums say. It is reused from frame to frame, by one goroutine.
type Prover struct {
	extents []Extent
	raw     []byte
}

// Prove decompresses the frame's content and compares it with the sums that the agent made of its memory. The frame's own
// checksum was made later, so it says nothing of what happened in between.
func (p *Prover) Prove(f *Frame) (err error) {
	if !f.Summed() || !carriesData(f.Type) {
		return nil
	}
	if p.extents, err = f.ExtentTable(p.extents); err != nil {
		return err
	}
	raw, err := f.Payload(p.raw)
	if err != nil {
		return err
	}
	if f.Flags&flagS2 != 0 {
		p.raw = raw
	}
	sums := f.Bytes[HeaderSize+f.tableBytes() : HeaderSize+f.ExtentBytes]
	for i := range p.extents {
		e := &p.extents[i]
		if e.Kind != KindData {
			continue
		}
		data := raw[:e.Bytes]
		raw = raw[e.Bytes:]
		for sector := e.Sector; len(data) > 0; sums = sums[SumSize:] {
			n := min(int(CellSectors-sector%CellSectors)*SectorSize, len(data))
			if have, want := sum(e.Disk, sector, data[:n]), binary.LittleEndian.Uint64(sums); have != want {
				return fault.New(fault.Corruption, "wire: frame", "disk %d, sector %d: the content has sum %016x, its source made %016x of it", e.Disk, sector, have, want).
					WithHint("the source server's memory, or the agent, is at fault: test the memory if this happens again")
			}
			data, sector = data[n:], sector+uint64(n)/SectorSize
		}
	}
	return nil
}

func sum(disk uint16, sector uint64, data []byte) uint64 {
	return xxh3.HashSeed(data, uint64(disk)<<48^sector)
}
