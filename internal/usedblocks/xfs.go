package usedblocks

import (
	"bytes"
	"hash/crc32"
	"math"
)

/*
XFS, version 5. Free are the records of each allocation group's tree of free extents by block number. The tree in place is
believed when the log proves of each of its blocks that it holds all that was logged before the first look. Blocks of the tree may
be read at different moments: each record was true at one of them, after that.

That the log's tail has passed the first look does not prove it. A block that is changed again before it is written back is logged
again, whole, and moves the tail on as if it were in place: the blocks of a tree in use are changed all the time.
*/
type xfs struct {
	v         volume
	super     [512]byte
	block     int64
	sector    int64
	blocks    int64
	agBlocks  int64
	agCount   int64
	agShift   uint
	uuid      []byte // in every block
	logStart  int64  // byte
	logBlocks int64  // sectors of 512 bytes
}

const (
	xfsTreeHead = 56
	xfsMaxDepth = 9
	xfsMaxAGs   = 1 << 20

	// ftype, sparse inodes, meta uuid, big time, 64 bit extent counters, exchange range, parent pointers
	xfsIncompat = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
	// free inode tree, reverse map, reflink, inode counts
	xfsReadOnly = 0x1 | 0x2 | 0x4 | 0x8
)

func isXFS(v volume) bool {
	var b [4]byte
	return v.read(b[:], 0) == nil && string(b[:]) == "XFSB"
}

// xfsFree looks at each group until its tree proves to be in place. XFS writes back what it has logged within half a minute or so.
func xfsFree(s *search, v volume, _ int) (free []Range, err error) {
	x := &xfs{v: v}
	if err := x.parse(); err != nil {
		return nil, err
	}
	if !s.committed("xfs", v) { // a log that says it was unmounted may be that of one just mounted
		return nil, errElsewhere()
	}
	left := make([]int64, x.agCount)
	for ag := range left {
		left[ag] = int64(ag)
	}
	var log *xfsLog
	for {
		if log == nil {
			log, err = x.look()
		}
		if err == nil {
			var more []Range
			more, left, err = x.groups(s, log, left)
			free = append(free, more...)
		}
		if err != nil {
			log = nil // a later first look will do as well
		}
		if len(left) == 0 || !s.pause() {
			break
		}
	}
	switch {
	case int64(len(left)) < x.agCount:
		return free, nil // what is left is used
	case err == nil:
		err = errDoubt("its log was not written back in time")
	}
	return nil, err
}

// groups reads the groups that are left, and returns what is free in those whose trees are in place, and the others.
func (x *xfs) groups(s *search, log *xfsLog, left []int64) (free []Range, doubtful []int64, err error) {
	trees := make(map[int64]*xfsTree, len(left))
	for _, ag := range left {
		if err := s.ctx.Err(); err != nil {
			return nil, left, err
		}
		if t, err := x.group(ag); err == nil {
			trees[ag] = t
		}
	}
	if err := log.again(); err != nil {
		return nil, left, err
	}
	for _, ag := range left {
		if t := trees[ag]; t != nil && log.proves(t) {
			free = append(free, t.free...)
		} else {
			doubtful = append(doubtful, ag)
		}
	}
	return free, doubtful, nil
}

// proves tells whether what was read of a tree is what it was at the first look, or later. Of a block that was changed since, and is
// not yet in place so, nobody knows whether it was part of the tree at the first look: it may be left over from an earlier one. The
// group's header is always part of it.
func (l *xfsLog) proves(t *xfsTree) bool {
	for _, r := range t.read {
		c := l.changed[r.sector]
		want := c.before
		if c.after != 0 && !r.header {
			want = max(want, c.after)
		}
		if r.lsn < want || r.lsn.cycle() > l.last.cycle() {
			return false
		}
	}
	return true
}

func (x *xfs) parse() error {
	b := x.super[:]
	if err := x.v.read(b, 0); err != nil {
		return err
	}
	version := be.Uint16(b[100:])
	x.block, x.sector = int64(be.Uint32(b[4:])), int64(be.Uint16(b[102:]))
	switch {
	case version&0xf != 5:
		return errDoubt("version %d", version&0xf)
	case be.Uint32(b[216:])&^xfsIncompat != 0 || be.Uint32(b[212:])&^xfsReadOnly != 0 || be.Uint32(b[220:])&^1 != 0:
		return errDoubt("features %x, %x and %x are not known", be.Uint32(b[216:])&^xfsIncompat, be.Uint32(b[212:])&^xfsReadOnly, be.Uint32(b[220:]))
	case !power(x.block, 1024, 65536) || !power(x.sector, 512, 32768) || x.sector > x.block:
		return errDoubt("blocks of %d bytes, sectors of %d", x.block, x.sector)
	}
	whole := make([]byte, x.sector)
	if err := x.v.read(whole, 0); err != nil {
		return err
	}
	if !xfsSum(whole, 224) {
		return errDoubt("the superblock's checksum is wrong")
	}
	x.uuid = b[32:48]
	if be.Uint32(b[216:])&4 != 0 {
		x.uuid = b[248:264]
	}
	x.blocks, x.agBlocks = int64(be.Uint64(b[8:])), int64(be.Uint32(b[84:]))
	x.agCount, x.agShift = int64(be.Uint32(b[88:])), uint(b[124])
	if x.blocks <= 0 || x.blocks > x.v.size()/x.block || x.agBlocks <= 0 || x.agCount <= 0 || x.agCount > xfsMaxAGs ||
		(x.blocks+x.agBlocks-1)/x.agBlocks != x.agCount || x.agShift > 31 || x.agBlocks > 1<<x.agShift {
		return errDoubt("%d blocks in %d groups of %d", x.blocks, x.agCount, x.agBlocks)
	}
	return x.findLog()
}

func (x *xfs) findLog() error {
	at, n := int64(be.Uint64(x.super[48:])), int64(be.Uint32(x.super[96:]))
	if at == 0 {
		return errDoubt("its log is on another device")
	}
	group, inside := at>>x.agShift, at&(1<<x.agShift-1)
	if at < 0 || group >= x.agCount || inside+n > x.agBlocks || group*x.agBlocks+inside+n > x.blocks || n <= 0 {
		return errDoubt("its log lies at %d", at)
	}
	x.logStart, x.logBlocks = (group*x.agBlocks+inside)*x.block, n*x.block/512
	return nil
}

func power(n, least, most int64) bool { return n >= least && n <= most && n&(n-1) == 0 }

// xfsSum checks the CRC32C of a block, whose own place counts as zeroes.
func xfsSum(b []byte, at int) bool {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return sums(crc32.Update(sum, castagnoli, b[at+4:]), le.Uint32(b[at:]))
}

// group reads the free extents of one allocation group. A tree that is rewritten meanwhile is read again, now and then.
func (x *xfs) group(ag int64) (t *xfsTree, err error) {
	for range 3 {
		if t, err = x.tryGroup(ag); err == nil {
			return t, nil
		}
	}
	return nil, err
}

func (x *xfs) tryGroup(ag int64) (*xfsTree, error) {
	begin := ag * x.agBlocks
	b := make([]byte, x.sector)
	at := begin*x.block + x.sector
	if err := x.v.read(b, at); err != nil {
		return nil, err
	}
	length := int64(be.Uint32(b[12:]))
	if string(b[:4]) != "XAGF" || int64(be.Uint32(b[8:])) != ag || !bytes.Equal(b[64:80], x.uuid) || !xfsSum(b, 216) ||
		length > x.agBlocks || begin+length > x.blocks {
		return nil, errDoubt("the header of group %d is damaged", ag)
	}
	t := &xfsTree{x: x, ag: ag, length: length, left: length}
	t.saw(at, be.Uint64(b[208:]), true)
	return t, t.walk(int64(be.Uint32(b[16:])), int(be.Uint32(b[28:]))-1)
}

// xfsTree is one tree of free extents.
type xfsTree struct {
	x      *xfs
	ag     int64
	length int64 // of the group, in blocks
	left   int64 // blocks that may still be visited
	free   []Range
	read   []xfsRead
}

// xfsRead is a block of a tree, or the group's header.
type xfsRead struct {
	sector int64 // of 512 bytes, on the volume
	lsn    xlogAt
	header bool
}

func (t *xfsTree) saw(at int64, lsn uint64, header bool) {
	if lsn == math.MaxUint64 { // it was never logged
		lsn = 0
	}
	t.read = append(t.read, xfsRead{at / xlogSector, xlogAt(lsn), header})
}

func (t *xfsTree) walk(at int64, level int) error {
	x := t.x
	if t.left--; t.left < 0 || level < 0 || level > xfsMaxDepth || at <= 0 || at >= t.length {
		return errDoubt("the tree of group %d is damaged", t.ag)
	}
	b := make([]byte, x.block)
	if err := x.v.read(b, (t.ag*x.agBlocks+at)*x.block); err != nil {
		return err
	}
	n := int64(be.Uint16(b[6:]))
	if string(b[:4]) != "AB3B" || int(be.Uint16(b[4:])) != level || int64(be.Uint32(b[48:])) != t.ag || !bytes.Equal(b[32:48], x.uuid) ||
		int64(be.Uint64(b[16:])) != (t.ag*x.agBlocks+at)*(x.block/512) || !xfsSum(b, 52) {
		return errDoubt("block %d of the tree of group %d is damaged", at, t.ag)
	}
	t.saw((t.ag*x.agBlocks+at)*x.block, be.Uint64(b[24:]), false)
	if level == 0 {
		return t.leaf(b[xfsTreeHead:], n)
	}
	most := (x.block - xfsTreeHead) / 12
	if n > most {
		return errDoubt("block %d of the tree of group %d has %d children", at, t.ag, n)
	}
	for children := b[xfsTreeHead+8*most:][:4*n]; len(children) > 0; children = children[4:] {
		if err := t.walk(int64(be.Uint32(children)), level-1); err != nil {
			return err
		}
	}
	return nil
}

func (t *xfsTree) leaf(b []byte, n int64) error {
	if n > int64(len(b))/8 {
		return errDoubt("a leaf of group %d has %d records", t.ag, n)
	}
	for b = b[:8*n]; len(b) > 0; b = b[8:] {
		start, count := int64(be.Uint32(b)), int64(be.Uint32(b[4:]))
		if start+count > t.length {
			return errDoubt("a free extent of group %d at %d", t.ag, start)
		}
		t.free = append(t.free, Range{(t.ag*t.x.agBlocks + start) * t.x.block, count * t.x.block})
	}
	return nil
}
