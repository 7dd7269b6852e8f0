package layer

import (
	"encoding/binary"
	"sort"
	"unsafe"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
An index block, raw:

	base      epoch, position uvarint: what versions are told against
	offset    uvarint: of the first data block, which the others follow
	blocks    uvarint: how many; each: raw sectors << 1 | compressed, and if so the stored bytes, uvarint
	records   to the end

It is checked entry by entry when it is loaded, so that looking up needs no checks; what is kept besides its bytes is a
table of its data blocks and every 16th entry's record, to search in.
*/
type indexBlock struct {
	bytes    []byte
	base     Version
	disk     uint16
	blocks   []dataPlace
	dataAt   int64 // where the data blocks begin in the file
	rawEnd   uint32
	begin    int // where records begin
	restarts []restart
}

// dataPlace is where a data block is.
type dataPlace struct {
	off        int64
	raw        uint32 // place of its first byte among the data of the index block
	stored     uint32
	compressed bool
}

// restart is a record that decoding can begin at.
type restart struct {
	start, end uint64
	off        uint32 // of its first entry
	raw        uint32
	count      uint8
	more       bool
}

const restartEntries = 16

func (ix *indexBlock) memory() int64 {
	return int64(cap(ix.bytes)) + int64(cap(ix.blocks))*int64(unsafe.Sizeof(dataPlace{})) +
		int64(cap(ix.restarts))*int64(unsafe.Sizeof(restart{})) + int64(unsafe.Sizeof(*ix))
}

// blockRaw is the run of raw bytes of the i-th data block.
func (ix *indexBlock) blockRaw(i int) (from, to uint32) {
	if i+1 < len(ix.blocks) {
		return ix.blocks[i].raw, ix.blocks[i+1].raw
	}
	return ix.blocks[i].raw, ix.rawEnd
}

// find is the data block that holds a raw byte.
func (ix *indexBlock) find(raw uint32) int {
	return sort.Search(len(ix.blocks), func(i int) bool { return ix.blocks[i].raw > raw }) - 1
}

// dataEnd is where the data blocks end in the file.
func (ix *indexBlock) dataEnd() int64 {
	if len(ix.blocks) == 0 {
		return ix.dataAt
	}
	last := ix.blocks[len(ix.blocks)-1]
	return last.off + int64(last.stored)
}

func (ix *indexBlock) at(r *restart) cursor {
	return cursor{ix: ix, off: int(r.off), raw: r.raw, left: int(r.count), start: r.start, end: r.end, more: r.more, first: true}
}

// newest is the version of the first entry of a restart's record.
func (ix *indexBlock) newest(r *restart) Version {
	c := ix.at(r)
	return c.entry().version
}

// seek is a cursor at the last restart from which on everything that covers a sector, at a version or before, is found.
func (ix *indexBlock) seek(sector uint64, at Version) cursor {
	rs := ix.restarts
	k := max(sort.Search(len(rs), func(i int) bool { return rs[i].start > sector })-1, 0)
	first := sort.Search(k, func(i int) bool { return rs[i].start >= rs[k].start })
	if first < k { // a long list of versions
		n := sort.Search(k-first+1, func(i int) bool { return !at.Less(ix.newest(&rs[first+i])) })
		k = first + max(n-1, 0)
	}
	return ix.at(&rs[k])
}

// neighbours is what the top index says of the blocks around one.
type neighbours struct {
	chainEnd uint64 // of a continued block: where the continued span ends
	goesOn   bool   // the next block continues this one's last span
}

// indexParser checks an index block.
type indexParser struct {
	ix       *indexBlock
	off      int
	bad      bool
	overhead int
	dataEnd  int64
	block    int // data block that the next data begin in
}

func (p *indexParser) uvarint() uint64 {
	v, n := binary.Uvarint(p.ix.bytes[min(p.off, len(p.ix.bytes)):])
	if n <= 0 {
		p.bad = true
		return 0
	}
	p.off += n
	return v
}

func (p *indexParser) byte() byte {
	if p.off >= len(p.ix.bytes) {
		p.bad = true
		return 0
	}
	p.off++
	return p.ix.bytes[p.off-1]
}

// parseIndex takes the raw bytes of an index block over. Data must lie before dataEnd.
func parseIndex(b []byte, t *topEntry, nb neighbours, overhead int, dataEnd int64) (*indexBlock, error) {
	p := &indexParser{ix: &indexBlock{bytes: b, disk: t.disk}, overhead: overhead, dataEnd: dataEnd}
	p.ix.base = Version{p.uvarint(), p.uvarint()}
	if !p.places() || !p.records(t, nb) {
		return nil, fault.New(fault.Corruption, "layer: index", "the index block at %d contradicts itself", t.off)
	}
	return p.ix, nil
}

// places reads the table of data blocks.
func (p *indexParser) places() bool {
	off, n := p.uvarint(), p.uvarint()
	if p.bad || off < headerSize || off > uint64(p.dataEnd) || n > uint64(len(p.ix.bytes)-p.off) {
		return false
	}
	p.ix.blocks, p.ix.dataAt = make([]dataPlace, n), int64(off)
	at, raw := int64(off), uint32(0)
	for i := range p.ix.blocks {
		v := p.uvarint()
		d := dataPlace{off: at, raw: raw, compressed: v&1 != 0}
		size := v >> 1 * SectorSize
		if size == 0 || v>>1 > maxBlock/SectorSize || raw > maxIndexData {
			return false
		}
		d.stored = uint32(size) + uint32(p.overhead)
		if d.compressed {
			s := p.uvarint()
			if s == 0 || s > uint64(d.stored) {
				return false
			}
			d.stored = uint32(s)
		}
		p.ix.blocks[i] = d
		at, raw = at+int64(d.stored), raw+uint32(size)
	}
	p.ix.rawEnd = raw
	return !p.bad && at <= p.dataEnd
}

// records walks over all records and entries, checks them and sets restarts.
func (p *indexParser) records(t *topEntry, nb neighbours) bool {
	b := p.ix.bytes
	c := cursor{ix: p.ix, off: p.off}
	p.ix.begin = p.off
	var last Version // of the entry before
	entries := restartEntries
	for p.off < len(b) {
		before := c
		if !p.head(&c) || c.end <= c.start || c.end > t.end {
			return false
		}
		switch {
		case len(p.ix.restarts) == 0:
			if c.same || c.start != t.first || t.continued && c.end != nb.chainEnd {
				return false
			}
		case c.same != before.more || !c.same && c.start < before.end:
			return false
		}
		if entries >= restartEntries || c.more && !c.same { // a long list is searched from its beginning
			p.ix.restarts = append(p.ix.restarts, restart{start: c.start, end: c.end, off: uint32(p.off), raw: c.raw,
				count: uint8(c.left), more: c.more})
			entries = 0
		}
		entries += c.left
		for n := c.left; n > 0; n-- {
			inOrder := c.same || !c.first
			if !p.entry(&c, t) || inOrder && !c.ver.Less(last) {
				return false
			}
			last = c.ver
		}
	}
	return !p.bad && len(p.ix.restarts) > 0 && c.end == t.end && c.more == nb.goesOn && c.raw == p.ix.rawEnd
}

// head is cursor.record with checks.
func (p *indexParser) head(c *cursor) bool {
	flags := p.byte()
	c.more, c.same = flags&recMore != 0, flags&recSame != 0
	if flags&0x80 != 0 || c.same && flags&^(recMore|recSame|recOne) != 0 {
		return false
	}
	if !c.same {
		var sectors uint64
		start := c.end
		if flags&recNoGap == 0 {
			gap := p.uvarint()
			if gap > maxSector {
				return false
			}
			start += gap
		}
		if n := flags >> 4 & 7; n != 0 {
			sectors = 1 << (n - 1)
		} else {
			sectors = p.uvarint()
		}
		if sectors > maxSector {
			return false
		}
		c.start, c.end = start, start+sectors
	}
	c.left, c.first = 1, true
	if flags&recOne == 0 {
		n := p.uvarint()
		if n == 0 || n > maxRecord {
			return false
		}
		c.left = int(n)
	}
	return !p.bad
}

// entry checks the next entry, then lets the cursor decode it.
func (p *indexParser) entry(c *cursor, t *topEntry) bool {
	at := p.off
	flags := p.byte()
	if flags>>5 != 0 {
		return false
	}
	if flags&entEpoch != 0 {
		p.uvarint()
	}
	p.uvarint()
	sectors := c.end - c.start
	if flags&entSums != 0 {
		if sectors > maxIndexRaw*CellSectors {
			return false
		}
		p.off += 8 * cells(c.start, sectors)
	}
	if p.bad || p.off > len(p.ix.bytes) {
		return false
	}
	c.off = at
	raw := c.raw
	d := c.entry()
	if d.version.Less(t.oldest) || t.newest.Less(d.version) {
		return false
	}
	switch d.kind {
	case Data:
		return flags&(entSums|entOpen) == entSums && p.data(c.start, raw, sectors)
	case Zero:
		return flags&(entSums|entOpen) == 0
	case Lost:
		return flags&(entSums|entOpen) != entSums|entOpen
	}
	return false
}

// data checks that a run of data lies in the data blocks and is cut by them between cells only.
func (p *indexParser) data(sector uint64, raw uint32, sectors uint64) bool {
	end := uint64(raw) + sectors*SectorSize
	if sectors > maxIndexData/SectorSize || end > uint64(p.ix.rawEnd) {
		return false
	}
	for p.block+1 < len(p.ix.blocks) && uint64(p.ix.blocks[p.block+1].raw) < end {
		p.block++
		cut := p.ix.blocks[p.block].raw
		if cut > raw && (sector+uint64(cut-raw)/SectorSize)%CellSectors != 0 {
			return false
		}
	}
	return true
}
