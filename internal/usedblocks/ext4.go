package usedblocks

import (
	"hash/crc32"
	"slices"
)

/*
ext2, ext3 and ext4. Blocks are free by the bitmaps in place and by every copy of them in the journal. A group whose
bitmap was never written holds only its own metadata. Without checksums of group descriptors nothing is believed: a
superblock alone may be left over.
*/
type ext struct {
	v           volume
	super       [1024]byte
	block       int64 // bytes
	cluster     int64 // blocks in one
	blocks      int64
	first       int64 // data block
	perGroup    int64 // blocks
	groups      int64
	descSize    int64
	inodeSize   int64
	inodes      int64 // in a group
	incompat    uint32
	seed        uint32 // of checksums
	metaSums    bool   // metadata_csum
	descriptors []byte
	taken       map[int64][]byte   // bits that the journal has set, by group
	sumsOf      map[int64][]uint32 // of bitmaps, that the journal has seen
	vouched     map[int64]bool     // the journal has the bitmap that the descriptor in place tells of
	doubted     int64              // groups whose bitmap is not what it should be
	committed   bool               // what is in memory
	moved       bool               // the journal's tail did, while the journal was read
}

const (
	extMagic = 0xef53

	extRecover  = 0x4
	extMetaBG   = 0x10
	ext64Bit    = 0x80
	extCsumSeed = 0x2000
	// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, large_dir, inline_data, encrypt, casefold
	extIncompat = 0x2 | extRecover | extMetaBG | 0x40 | ext64Bit | 0x100 | 0x200 | 0x400 | extCsumSeed | 0x4000 | 0x8000 | 0x10000 | 0x20000

	extGDTSum   = 0x10
	extBigalloc = 0x200
	extSums     = 0x400
	// sparse_super, large_file, btree_dir, huge_file, dir_nlink, extra_isize, quota, readonly, project, verity, orphan_present
	extReadOnly = 0x1 | 0x2 | 0x4 | 0x8 | extGDTSum | 0x20 | 0x40 | 0x100 | extBigalloc | extSums | 0x1000 | 0x2000 | 0x8000 | 0x10000

	extHasJournal = 0x4   // compat
	extFastCommit = 0x400 // compat

	extMaxGroups = 1 << 22 // 512 TiB
	extTries     = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rawCRC is the checksum as the kernel's crc32c computes it: without the final complement.
func rawCRC(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

func isExt(v volume) bool {
	var b [2]byte
	return v.read(b[:], 1024+0x38) == nil && le.Uint16(b[:]) == extMagic
}

// extFree looks again while a bitmap and what tells of its checksum are of different moments: each look believes what it
// proves, the last one counts. A look during which the journal's tail moved proves nothing.
func extFree(s *search, v volume, _ int) (free []Range, err error) {
	for tries := 1; ; tries++ {
		x := &ext{v: v, taken: map[int64][]byte{}, sumsOf: map[int64][]uint32{}, vouched: map[int64]bool{}}
		x.committed = s.committed("ext4", v)
		free, err = x.find()
		again := x.moved || err == nil && x.doubted > 0 && tries < extTries
		if !again || !s.pause() {
			return free, err
		}
	}
}

func (x *ext) find() ([]Range, error) {
	if err := x.parse(); err != nil {
		return nil, err
	}
	if x.incompat&extRecover != 0 && !x.committed { // the flag is set before anything is changed, and cleared after all
		return nil, errElsewhere()
	}
	// Where the bitmaps are does not change; the journal is read before what lies in place.
	if err := x.readDescriptors(); err != nil {
		return nil, err
	}
	if le.Uint32(x.super[0x5c:])&extHasJournal != 0 {
		if err := x.readJournal(); err != nil {
			return nil, err
		}
	}
	if err := x.readDescriptors(); err != nil {
		return nil, err
	}
	return x.free()
}

func (x *ext) parse() error {
	b := x.super[:]
	if err := x.v.read(b, 1024); err != nil {
		return err
	}
	incompat, readonly := le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	switch {
	case le.Uint32(b[0x4c:]) < 1:
		return errDoubt("a revision without features")
	case incompat&^extIncompat != 0 || readonly&^extReadOnly != 0:
		return errDoubt("features %x and %x are not known", incompat&^extIncompat, readonly&^extReadOnly)
	case le.Uint32(b[0x5c:])&extHasJournal == 0:
		return errDoubt("it has no journal: after a crash its bitmaps prove nothing")
	case le.Uint32(b[0x5c:])&extFastCommit != 0:
		return errDoubt("fast commits tell of blocks that no bitmap does")
	case readonly&(extGDTSum|extSums) == 0:
		return errDoubt("its group descriptors have no checksums")
	case le.Uint16(b[0x3a:])&2 != 0:
		return errDoubt("it has errors")
	case le.Uint16(b[0x3a:])&1 == 0: // mounted with noload, say: then nothing is written ahead
		return errDoubt("it is written without its journal, or was not unmounted cleanly")
	}
	x.incompat, x.metaSums = incompat, readonly&extSums != 0
	x.seed = rawCRC(^uint32(0), b[0x68:0x78])
	if incompat&extCsumSeed != 0 {
		x.seed = le.Uint32(b[0x270:])
	}
	if x.metaSums && (b[0x175] != 1 || !sums(rawCRC(^uint32(0), b[:0x3fc]), le.Uint32(b[0x3fc:]))) {
		return errDoubt("the superblock's checksum is wrong")
	}
	return x.geometry(readonly)
}

func (x *ext) geometry(readonly uint32) error {
	b := x.super[:]
	log, logCluster := le.Uint32(b[0x18:]), le.Uint32(b[0x1c:])
	if log > 6 || logCluster > 20 || logCluster < log || (readonly&extBigalloc == 0 && logCluster != log) {
		return errDoubt("blocks of 2^%d KiB in clusters of 2^%d KiB", log, logCluster)
	}
	x.block, x.cluster = 1024<<log, 1<<(logCluster-log)
	x.blocks = int64(le.Uint32(b[0x4:]))
	if x.incompat&ext64Bit != 0 {
		x.blocks |= int64(le.Uint32(b[0x150:])) << 32
	}
	x.first, x.perGroup = int64(le.Uint32(b[0x14:])), int64(le.Uint32(b[0x20:]))
	x.inodes, x.inodeSize = int64(le.Uint32(b[0x28:])), int64(le.Uint16(b[0x58:]))
	clusters := int64(le.Uint32(b[0x24:]))
	x.descSize = 32
	if x.incompat&ext64Bit != 0 {
		x.descSize = int64(le.Uint16(b[0xfe:]))
	}
	switch {
	case x.blocks <= 0 || x.blocks > x.v.size()/x.block || x.first < 0 || x.first > 1 || x.first >= x.blocks:
		return errDoubt("%d blocks of %d bytes on %d bytes", x.blocks, x.block, x.v.size())
	case clusters <= 0 || clusters > x.block*8 || clusters%8 != 0 || clusters*x.cluster != x.perGroup:
		return errDoubt("groups of %d clusters", clusters)
	case x.descSize < 32 || x.descSize > x.block || x.descSize&(x.descSize-1) != 0 || x.incompat&ext64Bit != 0 && x.descSize < 64:
		return errDoubt("descriptors of %d bytes", x.descSize)
	case x.inodeSize < 128 || x.inodeSize > x.block || x.inodes <= 0 || x.inodes > x.block*8:
		return errDoubt("%d inodes of %d bytes", x.inodes, x.inodeSize)
	}
	x.groups = (x.blocks - x.first + x.perGroup - 1) / x.perGroup
	if x.groups > extMaxGroups {
		return errDoubt("%d groups", x.groups)
	}
	return nil
}

// tableBlocks is how many blocks the descriptors take.
func (x *ext) tableBlocks() int64 { return (x.groups*x.descSize + x.block - 1) / x.block }

func (x *ext) readDescriptors() error {
	n := x.tableBlocks()
	x.descriptors = make([]byte, n*x.block)
	meta := x.firstMeta()
	if err := x.v.read(x.descriptors[:meta*x.block], (x.first+1)*x.block); err != nil {
		return err
	}
	for i := meta; i < n; i++ {
		at := x.tableBlock(i, meta)
		if err := x.v.read(x.descriptors[i*x.block:(i+1)*x.block], at*x.block); err != nil {
			return err
		}
	}
	return nil
}

// firstMeta is the first block of descriptors that lies in the groups it describes.
func (x *ext) firstMeta() int64 {
	if x.incompat&extMetaBG == 0 {
		return x.tableBlocks()
	}
	return min(x.tableBlocks(), int64(le.Uint32(x.super[0x104:])))
}

// tableBlock is where a block of descriptors lies.
func (x *ext) tableBlock(i, meta int64) int64 {
	if i < meta {
		return x.first + 1 + i
	}
	group := i * (x.block / x.descSize)
	at := x.first + group*x.perGroup
	if x.hasSuper(group) {
		at++
	}
	return at
}

// hasSuper tells whether a group begins with a copy of the superblock.
func (x *ext) hasSuper(group int64) bool {
	if le.Uint32(x.super[0x5c:])&0x200 != 0 { // sparse_super2
		return group == 0 || group == int64(le.Uint32(x.super[0x24c:])) || group == int64(le.Uint32(x.super[0x250:]))
	}
	if group <= 1 || le.Uint32(x.super[0x64:])&1 == 0 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// descriptor is what one group says of itself.
type descriptor struct {
	blockBitmap, inodeBitmap, inodeTable int64
	sum                                  uint32 // of the block bitmap, as far as it is stored
	uninit, trusted                      bool
}

func (x *ext) descriptor(group int64) descriptor {
	return x.parseDescriptor(group, x.descriptors[group*x.descSize:(group+1)*x.descSize])
}

func (x *ext) parseDescriptor(group int64, b []byte) descriptor {
	wide := func(low, high int) int64 {
		n := int64(le.Uint32(b[low:]))
		if x.descSize >= 64 {
			n |= int64(le.Uint32(b[high:])) << 32
		}
		return n
	}
	d := descriptor{
		blockBitmap: wide(0, 0x20), inodeBitmap: wide(4, 0x24), inodeTable: wide(8, 0x28), sum: uint32(le.Uint16(b[0x18:])),
		uninit: le.Uint16(b[0x12:])&2 != 0,
	}
	if x.descSize >= 64 {
		d.sum |= uint32(le.Uint16(b[0x38:])) << 16
	}
	inside := func(at, n int64) bool { return at > x.first && at <= x.blocks-n }
	d.trusted = sums(x.descriptorSum(group, b), le.Uint16(b[0x1e:])) &&
		inside(d.blockBitmap, 1) && inside(d.inodeBitmap, 1) && inside(d.inodeTable, x.tableLength())
	return d
}

// tableLength is how many blocks a group's inodes take.
func (x *ext) tableLength() int64 { return (x.inodes*x.inodeSize + x.block - 1) / x.block }

func (x *ext) descriptorSum(group int64, b []byte) uint16 {
	var number [4]byte
	le.PutUint32(number[:], uint32(group))
	if x.metaSums {
		sum := rawCRC(rawCRC(x.seed, number[:]), b[:0x1e])
		sum = rawCRC(sum, []byte{0, 0})
		if x.descSize > 32 {
			sum = rawCRC(sum, b[0x20:])
		}
		return uint16(sum)
	}
	sum := crc16(crc16(crc16(^uint16(0), x.super[0x68:0x78]), number[:]), b[:0x1e])
	if x.descSize > 32 {
		sum = crc16(sum, b[0x20:])
	}
	return sum
}

// crc16 is CRC-16/ARC, as the kernel's crc16.
func crc16(sum uint16, b []byte) uint16 {
	for _, c := range b {
		sum ^= uint16(c)
		for range 8 {
			if low := sum & 1; low != 0 {
				sum = sum>>1 ^ 0xa001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

// free walks the groups.
func (x *ext) free() ([]Range, error) {
	var free, used []Range
	bits := make([]byte, x.perGroup/x.cluster/8)
	for g := range x.groups {
		d := x.descriptor(g)
		if !d.trusted {
			return nil, errDoubt("the descriptor of group %d is damaged", g) // its tables may lie in any group
		}
		used = append(used, Range{d.blockBitmap * x.block, x.block}, Range{d.inodeBitmap * x.block, x.block},
			Range{d.inodeTable * x.block, x.tableLength() * x.block})
		clear(bits)
		switch {
		case d.uninit:
			begin := x.first + g*x.perGroup // backups of the superblock and of all descriptors, at most
			used = append(used, Range{begin * x.block, (2 + x.tableBlocks() + int64(le.Uint16(x.super[0xce:]))) * x.block})
		default:
			if err := x.v.read(bits, d.blockBitmap*x.block); err != nil {
				return nil, err
			}
			if !x.trusted(g, bits, d.sum) {
				x.doubted++
				continue
			}
		}
		if more, ok := x.taken[g]; ok {
			if more == nil {
				continue
			}
			for i := range bits {
				bits[i] |= more[i]
			}
		}
		free = x.clear(free, g, bits)
	}
	return without(free, used), nil
}

// trusted tells whether a bitmap in place is what it should be. It and its descriptor are written back at different
// moments, so a sum that the journal has seen will do, and so will a copy in the journal that fits the descriptor: all
// of its bits are taken.
func (x *ext) trusted(group int64, bits []byte, want uint32) bool {
	if !x.metaSums {
		return true
	}
	sum := x.bitmapSum(bits)
	return sums(sum, want) || x.vouched[group] || slices.Contains(x.sumsOf[group], sum)
}

func (x *ext) bitmapSum(bits []byte) uint32 {
	sum := rawCRC(x.seed, bits)
	if x.descSize < 64 {
		sum &= 0xffff
	}
	return sum
}

// clear appends the runs of clear bits of a group.
func (x *ext) clear(free []Range, group int64, bits []byte) []Range {
	begin := x.first + group*x.perGroup
	clusters := (min(x.perGroup, x.blocks-begin)) / x.cluster
	for i := int64(0); i < clusters; {
		if bits[i>>3] == 0xff {
			i = i&^7 + 8
			continue
		}
		if bits[i>>3]>>(i&7)&1 != 0 {
			i++
			continue
		}
		from := i
		for i < clusters && (bits[i>>3]>>(i&7)&1 == 0) {
			i++
		}
		free = append(free, Range{(begin + from*x.cluster) * x.block, (i - from) * x.cluster * x.block})
	}
	return free
}
