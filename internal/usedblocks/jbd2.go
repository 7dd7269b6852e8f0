package usedblocks

import "slices"

// The journal of ext3 and ext4. Nothing is replayed: of every copy of a bitmap that lies in it, however old, the set
// bits are used. So transactions need not be told apart. What is between tail and head must stay until it was read: a bitmap
// that changes again is not written in place but logged again, perhaps where was read before, and its older copy is overwritten.
// The tail on disk moves before that.

const (
	jbdMagic      = 0xc03b3998
	jbdDescriptor = 1

	jbd64Bit      = 0x2
	jbdSumV2      = 0x8
	jbdSumV3      = 0x10
	jbdFastCommit = 0x20
	jbdIncompat   = 0x1 | jbd64Bit | 0x4 | jbdSumV2 | jbdSumV3 | jbdFastCommit // revoke, async commit

	maxJournal   = 64 << 30 // bytes
	maxCopies    = 16 << 10 // bitmaps kept; what is more has all bits set
	maxSums      = 1024     // of one group's bitmap
	maxExtents   = 1 << 16  // of the journal's file
	maxExtentLen = 1 << 15
)

// jbd is a journal and where it lies.
type jbd struct {
	x        *ext
	pieces   []segment // of the file, in blocks
	blocks   int64     // of the file
	first    int64     // of the log
	last     int64     // past it
	features uint32
	tail     jbdTail
}

// jbdTail is where the journal's tail is, as its superblock says: a transaction and a block.
type jbdTail struct{ sequence, start uint32 }

func (x *ext) readJournal() error {
	if le.Uint32(x.super[0xe4:]) != 0 {
		return errDoubt("its journal is on another device")
	}
	j, err := x.openJournal(int64(le.Uint32(x.super[0xe0:])))
	if err != nil {
		return err
	}
	groups := map[int64]int64{} // by the block of their bitmap; a block of descriptors has -1 - its number
	for i := range x.tableBlocks() {
		groups[x.tableBlock(i, x.firstMeta())] = -1 - i
	}
	for g := range x.groups {
		groups[x.descriptor(g).blockBitmap] = g
	}
	copies, err := j.copies(groups)
	if err != nil {
		return err
	}
	if err := j.take(copies); err != nil {
		return err
	}
	before := j.tail
	if err := j.parse(); err != nil {
		return err
	}
	if x.moved = j.tail != before; x.moved {
		return errDoubt("its journal's tail moved meanwhile")
	}
	return nil
}

// openJournal reads the inode and the journal's superblock.
func (x *ext) openJournal(inode int64) (*jbd, error) {
	if inode < 1 || inode > x.inodes*x.groups {
		return nil, errDoubt("its journal is inode %d", inode)
	}
	d := x.descriptor((inode - 1) / x.inodes)
	if !d.trusted {
		return nil, errDoubt("the journal's inode cannot be found")
	}
	b := make([]byte, 128)
	if err := x.v.read(b, d.inodeTable*x.block+(inode-1)%x.inodes*x.inodeSize); err != nil {
		return nil, err
	}
	size := int64(le.Uint32(b[4:])) | int64(le.Uint32(b[0x6c:]))<<32
	if size <= 0 || size > maxJournal || size%x.block != 0 {
		return nil, errDoubt("a journal of %d bytes", size)
	}
	j := &jbd{x: x, blocks: size / x.block}
	var err error
	if le.Uint32(b[0x20:])&0x80000 != 0 {
		err = j.extents(b[0x28:0x64], 6)
	} else {
		err = j.indirect(b[0x28:0x64])
	}
	if err == nil {
		err = j.parse()
	}
	return j, err
}

// add appends a run of the file; runs come in order and leave no hole.
func (j *jbd) add(physical, n int64) error {
	at := int64(0)
	if k := len(j.pieces); k > 0 {
		at = j.pieces[k-1].logical + j.pieces[k-1].length
	}
	if physical <= 0 || n <= 0 || physical > j.x.blocks-n || len(j.pieces) >= maxExtents {
		return errDoubt("the journal lies at %d", physical)
	}
	if k := len(j.pieces); k > 0 && j.pieces[k-1].physical+j.pieces[k-1].length == physical {
		j.pieces[k-1].length += n
		return nil
	}
	j.pieces = append(j.pieces, segment{at, physical, n})
	return nil
}

func (j *jbd) mapped() int64 {
	if k := len(j.pieces); k > 0 {
		return j.pieces[k-1].logical + j.pieces[k-1].length
	}
	return 0
}

// extents walks an extent tree.
func (j *jbd) extents(b []byte, depth int) error {
	n := int(le.Uint16(b[2:]))
	level := int(le.Uint16(b[6:]))
	if le.Uint16(b) != 0xf30a || level >= depth || 12+12*n > len(b) {
		return errDoubt("the journal's extents are damaged")
	}
	for e := b[12 : 12+12*n]; len(e) > 0; e = e[12:] {
		if int64(le.Uint32(e)) != j.mapped() {
			return errDoubt("the journal has holes")
		}
		if level == 0 {
			length := int64(le.Uint16(e[4:]))
			if length > maxExtentLen {
				return errDoubt("the journal has parts that were never written")
			}
			if err := j.add(int64(le.Uint16(e[6:]))<<32|int64(le.Uint32(e[8:])), length); err != nil {
				return err
			}
			continue
		}
		at := int64(le.Uint16(e[8:]))<<32 | int64(le.Uint32(e[4:]))
		if at <= 0 || at >= j.x.blocks {
			return errDoubt("the journal's extents lie at %d", at)
		}
		inner := make([]byte, j.x.block)
		if err := j.x.v.read(inner, at*j.x.block); err != nil {
			return err
		}
		if int(le.Uint16(inner[6:])) != level-1 {
			return errDoubt("the journal's extents are damaged")
		}
		if err := j.extents(inner, level); err != nil {
			return err
		}
	}
	return nil
}

// indirect walks the block map of an ext3 file.
func (j *jbd) indirect(b []byte) error {
	for i := range 15 {
		if err := j.tree(int64(le.Uint32(b[4*i:])), max(0, i-11)); err != nil {
			return err
		}
	}
	return nil
}

func (j *jbd) tree(at int64, level int) error {
	if j.mapped() >= j.blocks {
		return nil
	}
	if level == 0 {
		return j.add(at, 1)
	}
	if at <= 0 || at >= j.x.blocks {
		return errDoubt("the journal's map lies at %d", at)
	}
	b := make([]byte, j.x.block)
	if err := j.x.v.read(b, at*j.x.block); err != nil {
		return err
	}
	for ; len(b) > 0; b = b[4:] {
		if err := j.tree(int64(le.Uint32(b)), level-1); err != nil {
			return err
		}
	}
	return nil
}

// parse reads the journal's superblock.
func (j *jbd) parse() error {
	if j.mapped() < j.blocks {
		return errDoubt("the journal's file ends early")
	}
	b := make([]byte, 1024)
	if err := j.x.v.read(b, j.pieces[0].physical*j.x.block); err != nil {
		return err
	}
	kind := be.Uint32(b[4:])
	if be.Uint32(b) != jbdMagic || kind != 3 && kind != 4 || int64(be.Uint32(b[0xc:])) != j.x.block {
		return errDoubt("the journal has no superblock")
	}
	j.tail = jbdTail{be.Uint32(b[0x18:]), be.Uint32(b[0x1c:])}
	j.first, j.last = int64(be.Uint32(b[0x14:])), int64(be.Uint32(b[0x10:]))
	if kind == 4 {
		j.features = be.Uint32(b[0x28:])
	}
	if j.features&^jbdIncompat != 0 {
		return errDoubt("the journal has features %x", j.features&^jbdIncompat)
	}
	if j.features&jbdFastCommit != 0 { // at the end; what it says is older than a full commit, or later than sync
		n := int64(be.Uint32(b[0x54:]))
		if n == 0 {
			n = 256
		}
		j.last -= n
	}
	if j.first < 1 || j.last <= j.first || j.last > j.blocks {
		return errDoubt("the journal's log is from %d to %d of %d", j.first, j.last, j.blocks)
	}
	return nil
}

// copyOf says that a block of the journal is a copy of a group's bitmap, or of a block of descriptors.
type copyOf struct {
	group, block int64 // the group is -1 - n for the n-th block of descriptors
	escaped      bool  // its first four bytes, which looked like the journal's own, were cleared
}

// copies lists them, from all descriptor blocks there are.
func (j *jbd) copies(groups map[int64]int64) (found []copyOf, err error) {
	per := max(maxRead/j.x.block, 1)
	buf := make([]byte, per*j.x.block)
	for _, p := range j.pieces {
		for at := int64(0); at < p.length; at += per {
			b := buf[:min(per, p.length-at)*j.x.block]
			if err := j.x.v.read(b, (p.physical+at)*j.x.block); err != nil {
				return nil, err
			}
			for i := int64(0); len(b) > 0; i++ {
				if be.Uint32(b) == jbdMagic && be.Uint32(b[4:]) == jbdDescriptor {
					found = j.tags(found, b[:j.x.block], p.logical+at+i, groups)
				}
				b = b[j.x.block:]
			}
		}
	}
	return found, nil
}

// tags reads one descriptor block, which lies at block at of the file.
func (j *jbd) tags(found []copyOf, b []byte, at int64, groups map[int64]int64) []copyOf {
	size, end := 8, len(b)
	switch {
	case j.features&jbdSumV3 != 0:
		size, end = 16, end-4
	case j.features&jbdSumV2 != 0:
		size, end = 10, end-4
	}
	if j.features&jbd64Bit != 0 && j.features&jbdSumV3 == 0 {
		size += 4
	}
	for off := 12; off+size <= end; {
		t := b[off:]
		target, flags := int64(be.Uint32(t)), uint32(be.Uint16(t[6:]))
		if j.features&jbdSumV3 != 0 {
			flags = be.Uint32(t[4:])
		}
		if j.features&jbd64Bit != 0 {
			target |= int64(be.Uint32(t[8:])) << 32
		}
		if at++; at >= j.last {
			at = j.first
		}
		if g, ok := groups[target]; ok {
			found = append(found, copyOf{g, at, flags&1 != 0})
		}
		off += size
		if flags&2 == 0 {
			off += 16 // a UUID
		}
		if flags&8 != 0 {
			break
		}
	}
	return found
}

// take notes what the copies have set, and what they tell of checksums.
func (j *jbd) take(copies []copyOf) error {
	b := make([]byte, j.x.block)
	for _, c := range copies {
		have, ok := j.x.taken[c.group]
		if ok && have == nil {
			continue
		}
		if err := j.x.v.read(b, j.at(c.block)*j.x.block); err != nil {
			return err
		}
		if c.escaped {
			be.PutUint32(b, jbdMagic)
		}
		if c.group < 0 {
			j.takeSums(-1-c.group, b)
			continue
		}
		if !ok && len(j.x.taken) >= maxCopies {
			j.x.taken[c.group] = nil // all bits
			continue
		}
		bits := b[:j.x.perGroup/j.x.cluster/8]
		if !ok {
			have = make([]byte, len(bits))
			j.x.taken[c.group] = have
		}
		for i := range bits {
			have[i] |= bits[i]
		}
		if j.x.bitmapSum(bits) == j.x.descriptor(c.group).sum {
			j.x.vouched[c.group] = true
		}
	}
	return nil
}

// takeSums remembers the sums of bitmaps in a copy of a block of descriptors.
func (j *jbd) takeSums(table int64, b []byte) {
	x := j.x
	per := x.block / x.descSize
	for i := range per {
		g := table*per + i
		if g >= x.groups {
			return
		}
		d := x.parseDescriptor(g, b[i*x.descSize:(i+1)*x.descSize])
		if list := x.sumsOf[g]; d.trusted && len(list) < maxSums && !slices.Contains(list, d.sum) {
			x.sumsOf[g] = append(list, d.sum)
		}
	}
}

// at is where a block of the file lies.
func (j *jbd) at(block int64) int64 {
	for _, p := range j.pieces {
		if block < p.logical+p.length {
			return p.physical + block - p.logical
		}
	}
	return 0
}
