package layer

import (
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/fault"
)

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
	block    [streams]int // data block that the next data begin in
}

func (p *indexParser) uvarint() uint64 {
	b := p.ix.bytes
	if p.off < len(b) && b[p.off] < 0x80 {
		p.off++
		return uint64(b[p.off-1])
	}
	v, n := binary.Uvarint(b[min(p.off, len(b)):])
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

// parseIndex takes the raw bytes of an index block of a format over. Data must lie before dataEnd.
func parseIndex(b []byte, format uint32, t *topEntry, nb neighbours, overhead int, dataEnd int64) (*indexBlock, error) {
	p := &indexParser{ix: &indexBlock{bytes: b, disk: t.disk, together: format < version2}, overhead: overhead, dataEnd: dataEnd}
	p.ix.base = Version{p.uvarint(), p.uvarint()}
	if !p.places() || !p.records(t, nb) {
		return nil, fault.New(fault.Corruption, "layer: index", "the index block at %d contradicts itself", t.off)
	}
	return p.ix, nil
}

// places reads the table of data blocks.
func (p *indexParser) places() bool {
	off, n, first := p.uvarint(), p.uvarint(), uint64(0)
	if !p.ix.together {
		first = p.uvarint()
	}
	if p.bad || off < headerSize || off > uint64(p.dataEnd) || n > uint64(len(p.ix.bytes)-p.off) || first > n {
		return false
	}
	p.ix.blocks, p.ix.dataAt, p.ix.front = make([]dataPlace, n), int64(off), int(first)
	at, raw := int64(off), uint32(0)
	for i := range p.ix.blocks {
		v := p.uvarint()
		size := v >> 1 * SectorSize
		if size == 0 || v>>1 > maxBlock/SectorSize || raw > maxIndexData {
			return false
		}
		stored := size + uint64(p.overhead)
		if v&1 != 0 {
			s := p.uvarint()
			if s == 0 || s > stored {
				return false
			}
			stored = s
		}
		p.ix.blocks[i] = dataPlace{off: uint32(at - int64(off)), raw: raw, stored: uint32(stored<<1 | v&1)} // less than 3 GiB in all
		at, raw = at+int64(stored), raw+uint32(size)
	}
	p.ix.rawEnd, p.ix.rawOlder = raw, raw
	if int(first) < len(p.ix.blocks) {
		p.ix.rawOlder = p.ix.blocks[first].raw
	}
	return !p.bad && at <= p.dataEnd
}

// records walks over all records and entries, checks them and sets restarts.
func (p *indexParser) records(t *topEntry, nb neighbours) bool {
	b := p.ix.bytes
	p.ix.begin = p.off
	c := p.ix.start()
	var last Version // of the entry before
	entries := restartEntries
	p.ix.restarts = make([]restart, 0, 2+(len(b)-p.off)/256)
	for p.off < len(b) {
		more, end := c.more, c.end
		if !p.head(&c) || c.end <= c.start || c.end > t.end {
			return false
		}
		switch {
		case len(p.ix.restarts) == 0:
			if c.same || c.start != t.first || t.continued && c.end != nb.chainEnd {
				return false
			}
		case c.same != more || !c.same && c.start < end:
			return false
		}
		if entries >= restartEntries || c.more && !c.same { // a long list is searched from its beginning
			p.ix.restarts = append(p.ix.restarts, restart{start: c.start, end: c.end, off: uint32(p.off), raw: c.raw,
				count: uint8(c.left), more: c.more, together: c.together})
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
	return !p.bad && len(p.ix.restarts) > 0 && c.end == t.end && c.more == nb.goesOn && c.raw == [streams]uint32{p.ix.rawOlder, p.ix.rawEnd}
}

// head is cursor.record with checks.
func (p *indexParser) head(c *cursor) bool {
	flags := p.byte()
	c.more, c.same = flags&recMore != 0, flags&recSame != 0
	if p.ix.together && flags&recTogether != 0 || c.same && flags&^(recMore|recSame|recOne) != 0 {
		return false
	}
	c.together = p.ix.together || c.same || flags&recTogether != 0
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

// entry is cursor.entry with checks.
func (p *indexParser) entry(c *cursor, t *topEntry) bool {
	flags := p.byte()
	relative, from := !c.first, c.stream()
	if c.first {
		c.ver.Epoch = p.ix.base.Epoch
	}
	if flags&entEpoch != 0 {
		c.ver.Epoch = p.uvarint()
		relative = false
	}
	if v := p.uvarint(); relative {
		c.ver.Position -= v
	} else {
		c.ver.Position = p.ix.base.Position + (v>>1 ^ -(v & 1))
	}
	c.first = false
	sectors, raw := c.end-c.start, c.raw[from]
	if flags&entSums != 0 {
		if sectors > maxIndexRaw*CellSectors {
			return false
		}
		p.off += 8 * cells(c.start, sectors)
	}
	if p.bad || flags>>5 != 0 || p.off > len(p.ix.bytes) || c.ver.Less(t.oldest) || t.newest.Less(c.ver) {
		return false
	}
	switch Kind(flags & 3) {
	case Data:
		c.raw[from] += uint32(sectors * SectorSize)
		return flags&(entSums|entOpen) == entSums && p.data(from, c.start, raw, sectors)
	case Zero:
		return flags&(entSums|entOpen) == 0
	case Lost:
		return flags&(entSums|entOpen) != entSums|entOpen
	}
	return false
}

// data checks that a run of data lies in the data blocks of its stream and is cut by them between cells only.
func (p *indexParser) data(from int, sector uint64, raw uint32, sectors uint64) bool {
	end, limit := uint64(raw)+sectors*SectorSize, p.ix.rawEnd
	if from == newest {
		limit = p.ix.rawOlder
	}
	if sectors > maxIndexData/SectorSize || end > uint64(limit) {
		return false
	}
	at := &p.block[from]
	for *at+1 < len(p.ix.blocks) && uint64(p.ix.blocks[*at+1].raw) < end {
		*at++
		cut := p.ix.blocks[*at].raw
		if cut > raw && (sector+uint64(cut-raw)/SectorSize)%CellSectors != 0 {
			return false
		}
	}
	return true
}
