package layer

import (
	"encoding/binary"
)

/*
A record of an index block describes a span, or up to 64 of its versions:

	flags        bit 0 more: the next record has older versions of the same span
	             bit 1 same: the same sectors as the record before; then neither gap nor sectors follow
	             bit 2 one entry; then no count follows
	             bit 3 no gap: it begins where the record before ended
	             bits 4 to 6: sectors, as 2^(n-1); 0: sectors follow
	             bit 7 together: the first entry's data lie with those of the others; since format 2
	[gap]        uvarint; of the first record of a block: the sector
	[sectors]    uvarint
	[count]      uvarint
	entries, newest first:
	  flags      bits 0 and 1 kind, bit 2 epoch follows, bit 3 sums follow (always for data), bit 4 open
	  [epoch]    uvarint, if it is not that of the entry before, or of the block's base for the first
	  position   of the first entry and behind an epoch: zigzag varint of position - base position; else uvarint of how far below
	             the entry before
	  [sums]     8 bytes for every cell

The data lie in the order of the entries in two streams, so no place of any is stored: that of a span's first entry among the newest,
unless the record says together, all others among the older ones. In format 1 all lie in one.
*/
const (
	recMore  = 1 << 0
	recSame  = 1 << 1
	recOne   = 1 << 2
	recNoGap = 1 << 3

	recTogether = 1 << 7

	entEpoch = 1 << 2
	entSums  = 1 << 3
	entOpen  = 1 << 4
)

// cursor goes through the records of an index block that was checked when it was loaded, so it checks nothing.
type cursor struct {
	ix       *indexBlock
	off      int             // of what is decoded next
	raw      [streams]uint32 // of the next Data entry's data
	left     int             // entries of this record not decoded yet
	start    uint64
	end      uint64
	more     bool
	same     bool
	together bool    // data of the first entry are among the older ones
	ver      Version // of the entry before
	first    bool    // no entry of this record was decoded yet
}

// decoded is an entry as the index tells it.
type decoded struct {
	version Version
	kind    Kind
	open    bool
	raw     uint32
	sums    uint32
}

func uvarint(b []byte, off *int) uint64 {
	if v := b[*off]; v < 0x80 {
		*off++
		return uint64(v)
	}
	v, n := binary.Uvarint(b[*off:])
	*off += n
	return v
}

func varint(b []byte, off *int) int64 {
	v := uvarint(b, off)
	return int64(v>>1) ^ -int64(v&1)
}

// record decodes the head of the next record; false at the end of the block.
func (c *cursor) record() bool {
	for c.left > 0 {
		c.entry()
	}
	b := c.ix.bytes
	if c.off >= len(b) {
		return false
	}
	flags := b[c.off]
	c.off++
	c.more, c.same = flags&recMore != 0, flags&recSame != 0
	c.together = c.ix.together || c.same || flags&recTogether != 0
	if !c.same {
		c.start = c.end
		if flags&recNoGap == 0 {
			c.start += uvarint(b, &c.off)
		}
		if n := flags >> 4 & 7; n != 0 {
			c.end = c.start + 1<<(n-1)
		} else {
			c.end = c.start + uvarint(b, &c.off)
		}
	}
	c.left, c.first = 1, true
	if flags&recOne == 0 {
		c.left = int(uvarint(b, &c.off))
	}
	return true
}

// entry decodes the next entry of the record.
func (c *cursor) entry() decoded {
	b := c.ix.bytes
	flags := b[c.off]
	c.off++
	c.left--
	from := c.stream()
	d := decoded{kind: Kind(flags & 3), open: flags&entOpen != 0, raw: c.raw[from]}
	base := c.ix.base
	if c.first {
		c.ver.Epoch = base.Epoch
	}
	if flags&entEpoch != 0 {
		c.ver.Epoch = uvarint(b, &c.off)
	}
	if c.first || flags&entEpoch != 0 {
		c.ver.Position = base.Position + uint64(varint(b, &c.off))
	} else {
		c.ver.Position -= uvarint(b, &c.off)
	}
	c.first = false
	d.version = c.ver
	if flags&entSums != 0 {
		d.sums = uint32(c.off)
		c.off += 8 * cells(c.start, c.end-c.start)
	}
	if d.kind == Data {
		c.raw[from] += uint32((c.end - c.start) * SectorSize)
	}
	return d
}

// stream is where the data of the next entry are.
func (c *cursor) stream() int {
	if c.first && !c.together {
		return newest
	}
	return older
}

// recordWriter encodes the records of one index block.
type recordWriter struct {
	bytes []byte
	base  Version
	end   uint64 // of the record before
	empty bool
}

// begin encodes the head of a record.
func (w *recordWriter) begin(sector, sectors uint64, count int, same, more, together bool) {
	var flags byte
	gap := sector - w.end
	together = together || same
	same = same && !w.empty
	if more {
		flags |= recMore
	}
	if count == 1 {
		flags |= recOne
	}
	size := sectorCode(sectors)
	switch {
	case same:
		flags |= recSame
	case gap == 0 && !w.empty:
		flags |= recNoGap | size<<4
	default:
		flags |= size << 4
	}
	if together && !same {
		flags |= recTogether
	}
	w.bytes = append(w.bytes, flags)
	if !same {
		if flags&recNoGap == 0 {
			w.bytes = binary.AppendUvarint(w.bytes, gap)
		}
		if size == 0 {
			w.bytes = binary.AppendUvarint(w.bytes, sectors)
		}
	}
	if count != 1 {
		w.bytes = binary.AppendUvarint(w.bytes, uint64(count))
	}
	w.end, w.empty = sector+sectors, false
}

func sectorCode(sectors uint64) byte {
	for n := range 7 {
		if sectors == 1<<n {
			return byte(n + 1)
		}
	}
	return 0
}

// entry encodes one entry; before is the newer one of the same record, nil for the first.
func (w *recordWriter) entry(e *pendingEntry, before *Version) {
	flags := byte(e.kind)
	if e.summed {
		flags |= entSums
	}
	if e.open {
		flags |= entOpen
	}
	epoch := w.base.Epoch
	if before != nil {
		epoch = before.Epoch
	}
	if e.version.Epoch != epoch {
		flags |= entEpoch
	}
	w.bytes = append(w.bytes, flags)
	if flags&entEpoch != 0 {
		w.bytes = binary.AppendUvarint(w.bytes, e.version.Epoch)
	}
	if before == nil || flags&entEpoch != 0 {
		w.bytes = binary.AppendVarint(w.bytes, int64(e.version.Position-w.base.Position))
	} else {
		w.bytes = binary.AppendUvarint(w.bytes, before.Position-e.version.Position)
	}
	if e.summed {
		for _, s := range e.sums {
			w.bytes = binary.LittleEndian.AppendUint64(w.bytes, s)
		}
	}
}
