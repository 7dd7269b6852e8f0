package layer

import (
	"sort"
	"unsafe"
)

/*
An index block, raw:

	base      epoch, position uvarint: what versions are told against
	offset    uvarint: of the first data block, which the others follow
	blocks    uvarint: how many
	newest    uvarint: how many of them, the first, hold newest versions; since format 2
	          each block: raw sectors << 1 | compressed, and if so the stored bytes, uvarint
	records   to the end

It is checked entry by entry when it is loaded, so that looking up needs no checks; what is kept besides its bytes is a
table of its data blocks and every 16th entry's record, to search in.
*/
type indexBlock struct {
	bytes    []byte
	base     Version
	disk     uint16
	blocks   []dataPlace
	front    int    // how many of blocks hold newest versions
	rawOlder uint32 // where the others begin
	rawEnd   uint32
	together bool  // format 1: all data lie among the older ones
	dataAt   int64 // where the data blocks begin in the file
	begin    int   // where records begin
	restarts []restart
}

// dataPlace is where a data block is. There are many.
type dataPlace struct {
	off    uint32 // from where the data blocks begin
	raw    uint32 // place of its first byte among the data of the index block
	stored uint32 // bytes in the file << 1 | compressed
}

// place is where the i-th data block lies in the file.
func (ix *indexBlock) place(i int) (from, to int64) {
	p := &ix.blocks[i]
	from = ix.dataAt + int64(p.off)
	return from, from + int64(p.stored>>1)
}

// run is where blocks i to j-1 lie.
func (ix *indexBlock) run(i, j int) (from int64, n int) {
	from, _ = ix.place(i)
	_, to := ix.place(j - 1)
	return from, int(to - from)
}

func (ix *indexBlock) compressed(i int) bool { return ix.blocks[i].stored&1 != 0 }

// restart is a record that decoding can begin at.
type restart struct {
	start, end uint64
	off        uint32 // of its first entry
	raw        [streams]uint32
	count      uint8
	more       bool
	together   bool
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
	_, end := ix.place(len(ix.blocks) - 1)
	return end
}

// stream is which one a data block belongs to, and where that ends in the file.
func (ix *indexBlock) stream(i int) (which int, end int64) {
	if i < ix.front {
		_, end = ix.place(ix.front - 1)
		return newest, end
	}
	return older, ix.dataEnd()
}

// start is a cursor before the first record.
func (ix *indexBlock) start() cursor {
	return cursor{ix: ix, off: ix.begin, raw: [streams]uint32{older: ix.rawOlder}}
}

func (ix *indexBlock) at(r *restart) cursor {
	return cursor{ix: ix, off: int(r.off), raw: r.raw, left: int(r.count), start: r.start, end: r.end, more: r.more, together: r.together, first: true}
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
