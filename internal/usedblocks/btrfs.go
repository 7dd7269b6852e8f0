package usedblocks

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"slices"
	"time"
)

/*
Btrfs on one device. A superblock names trees that are never changed in place. Allocated space is cut into chunks, which
the chunk tree maps to the device; what of a chunk is in use, the extent tree tells. While it is read the file system may
go on and use old blocks again: a block that is not what its parent says makes the reading begin anew.
*/
type btrfs struct {
	s      *search
	v      volume
	super  []byte
	node   int64
	chunks []chunk
	budget int64
	logged bool // what was synced file by file since the last commit lies in a tree of its own
}

// chunk maps a run of logical addresses to copies on the device.
type chunk struct {
	logical, length int64
	physical        []int64
	used            []Range // logical
}

const (
	btrfsMagic  = "_BHRfS_M"
	btrfsSuper  = 64 << 10
	btrfsHeader = 101
	btrfsDepth  = 8
	btrfsTries  = 5
	maxChunks   = 1 << 20

	// mixed backref, default subvolume, lzo, zstd, big metadata, extended iref, skinny metadata, no holes, metadata uuid
	btrfsIncompat = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400
	// free space tree, its validity, verity, block group tree
	btrfsReadOnly = 0x1 | 0x2 | 0x4 | 0x8

	keyRoot     = 132
	keyExtent   = 168
	keyMetadata = 169
	keyChunk    = 228

	profileDup = 0x20
)

func isBtrfs(v volume) bool {
	var b [8]byte
	return v.read(b[:], btrfsSuper+64) == nil && string(b[:]) == btrfsMagic
}

func btrfsFree(s *search, v volume, _ int) (free []Range, err error) {
	if !s.committed("btrfs", v) {
		return nil, errElsewhere()
	}
	for tries := 0; tries < btrfsTries; tries++ {
		b := &btrfs{s: s, v: v, budget: v.size() / 4096} // no node is smaller, and none is met twice
		if free, err = b.find(); err == nil || s.ctx.Err() != nil {
			break
		}
		if b.logged && s.pause() { // the next commit ends the log tree
			tries--
		}
	}
	return free, err
}

// pause waits for a moment, and says whether there is time for another look.
func (s *search) pause() bool {
	t := time.NewTimer(s.o.Poll)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
	case <-t.C:
	}
	return s.ctx.Err() == nil && time.Now().Before(s.deadline)
}

func (b *btrfs) find() ([]Range, error) {
	if err := b.parse(); err != nil {
		return nil, err
	}
	chunkRoot := address{int64(le.Uint64(b.super[88:])), le.Uint64(b.super[164:])}
	if err := b.walk(chunkRoot, int(b.super[199]), b.takeChunk); err != nil {
		return nil, err
	}
	slices.SortFunc(b.chunks, func(a, c chunk) int { return cmp.Compare(a.logical, c.logical) })
	b.chunks = slices.CompactFunc(b.chunks, func(a, c chunk) bool { return a.logical == c.logical })
	for i := 1; i < len(b.chunks); i++ {
		if b.chunks[i].logical < b.chunks[i-1].logical+b.chunks[i-1].length {
			return nil, errDoubt("chunks overlap")
		}
	}
	extents, level, err := b.extentRoot()
	if err != nil {
		return nil, err
	}
	if err := b.walk(extents, level, b.takeExtent); err != nil {
		return nil, err
	}
	return b.free(), nil
}

func (b *btrfs) parse() error {
	b.super = make([]byte, 4096)
	s := b.super
	if err := b.v.read(s, btrfsSuper); err != nil {
		return err
	}
	b.node = int64(le.Uint32(s[148:]))
	switch {
	case le.Uint16(s[196:]) != 0:
		return errDoubt("checksums of kind %d", le.Uint16(s[196:]))
	case !sums(crc32.Checksum(s[32:], castagnoli), le.Uint32(s)):
		return errDoubt("the superblock's checksum is wrong")
	case le.Uint64(s[136:]) != 1:
		return errDoubt("%d devices", le.Uint64(s[136:]))
	case le.Uint64(s[188:])&^btrfsIncompat != 0 || le.Uint64(s[180:])&^btrfsReadOnly != 0:
		return errDoubt("features %x and %x are not known", le.Uint64(s[188:])&^btrfsIncompat, le.Uint64(s[180:])&^btrfsReadOnly)
	case !power(b.node, 4096, 65536):
		return errDoubt("nodes of %d bytes", b.node)
	case le.Uint64(s[56:])&^0x3 != 0: // seeding, metadata dump
		return errDoubt("flags %x", le.Uint64(s[56:]))
	}
	if b.logged = le.Uint64(s[96:]) != 0; b.logged {
		return errDoubt("its log was not replayed")
	}
	return b.systemChunks(s)
}

// systemChunks is where the chunk tree itself lies.
func (b *btrfs) systemChunks(s []byte) error {
	n := le.Uint32(s[160:])
	if n > 2048 {
		return errDoubt("%d bytes of system chunks", n)
	}
	for a := s[811 : 811+n]; len(a) > 0; {
		if len(a) < 17+48 || a[8] != keyChunk {
			return errDoubt("system chunks are damaged")
		}
		stripes := int(le.Uint16(a[17+44:]))
		if len(a) < 17+48+32*stripes {
			return errDoubt("system chunks are damaged")
		}
		if err := b.addChunk(int64(le.Uint64(a[9:])), a[17:17+48+32*stripes]); err != nil {
			return err
		}
		a = a[17+48+32*stripes:]
	}
	return nil
}

func (b *btrfs) addChunk(logical int64, item []byte) error {
	if len(item) < 48 || len(b.chunks) >= maxChunks {
		return errDoubt("a chunk item of %d bytes", len(item))
	}
	c := chunk{logical: logical, length: int64(le.Uint64(item))}
	kind, stripes := le.Uint64(item[24:]), int(le.Uint16(item[44:]))
	if kind&^(0x7|profileDup) != 0 || stripes < 1 || stripes > 2 || (stripes == 2) != (kind&profileDup != 0) || len(item) < 48+32*stripes {
		return errDoubt("a chunk of kind %x in %d stripes", kind, stripes)
	}
	for i := range stripes {
		at := int64(le.Uint64(item[48+32*i+8:]))
		if id := le.Uint64(item[48+32*i:]); id != le.Uint64(b.super[201:]) {
			return errDoubt("a chunk on device %d", id)
		}
		if at < 0 || c.length <= 0 || at > b.v.size() || c.length > b.v.size()-at || logical < 0 || logical > 1<<60 {
			return errDoubt("a chunk of %d bytes at %d", c.length, at)
		}
		c.physical = append(c.physical, at)
	}
	b.chunks = append(b.chunks, c)
	return nil
}

// address is what a parent says of a node.
type address struct {
	logical    int64
	generation uint64
}

// key of an item.
type key struct {
	object, offset uint64
	kind           byte
}

func (b *btrfs) chunkOf(logical int64) *chunk {
	for i := range b.chunks { // few before the chunk tree was read, sorted after
		if c := &b.chunks[i]; logical >= c.logical && logical < c.logical+c.length {
			return c
		}
	}
	return nil
}

// read reads and proves one node.
func (b *btrfs) read(a address, level int) ([]byte, error) {
	c := b.chunkOf(a.logical)
	if b.budget--; b.budget < 0 || c == nil || a.logical+b.node > c.logical+c.length {
		return nil, errDoubt("a node at %d", a.logical)
	}
	n := make([]byte, b.node)
	var err error
	for _, at := range c.physical {
		if err = b.v.read(n, at+a.logical-c.logical); err != nil {
			continue
		}
		if sums(crc32.Checksum(n[32:], castagnoli), le.Uint32(n)) && int64(le.Uint64(n[48:])) == a.logical && le.Uint64(n[80:]) == a.generation &&
			int(n[100]) == level && bytes.Equal(n[32:48], b.fsid()) {
			return n, nil
		}
		err = errDoubt("the node at %d is damaged, or gone", a.logical)
	}
	return nil, err
}

// fsid is in every node.
func (b *btrfs) fsid() []byte {
	if le.Uint64(b.super[188:])&0x400 != 0 {
		return b.super[571:587]
	}
	return b.super[32:48]
}

// walk calls take for every item of a tree, in order.
func (b *btrfs) walk(a address, level int, take func(k key, item []byte) error) error {
	if level < 0 || level >= btrfsDepth {
		return errDoubt("a tree of %d levels", level)
	}
	if err := b.s.ctx.Err(); err != nil {
		return err
	}
	n, err := b.read(a, level)
	if err != nil {
		return err
	}
	items := int(le.Uint32(n[96:]))
	size := 25
	if level > 0 {
		size = 33
	}
	if items > (len(n)-btrfsHeader)/size {
		return errDoubt("a node of %d items", items)
	}
	for i := range items {
		e := n[btrfsHeader+i*size:]
		if level > 0 {
			if err := b.walk(address{int64(le.Uint64(e[17:])), le.Uint64(e[25:])}, level-1, take); err != nil {
				return err
			}
			continue
		}
		at, length := int64(le.Uint32(e[17:])), int64(le.Uint32(e[21:]))
		if at+length > int64(len(n)-btrfsHeader) {
			return errDoubt("an item at %d", at)
		}
		k := key{le.Uint64(e), le.Uint64(e[9:]), e[8]}
		if err := take(k, n[btrfsHeader+at:btrfsHeader+at+length]); err != nil {
			return err
		}
	}
	return nil
}

func (b *btrfs) takeChunk(k key, item []byte) error {
	if k.kind != keyChunk {
		return nil
	}
	return b.addChunk(int64(k.offset), item)
}

// extentRoot finds the extent tree in the root tree.
func (b *btrfs) extentRoot() (root address, level int, err error) {
	found := false
	roots := address{int64(le.Uint64(b.super[80:])), le.Uint64(b.super[72:])}
	err = b.walk(roots, int(b.super[198]), func(k key, item []byte) error {
		if k.object == 2 && k.kind == keyRoot && len(item) >= 239 {
			root, level, found = address{int64(le.Uint64(item[176:])), le.Uint64(item[160:])}, int(item[238]), true
		}
		return nil
	})
	if err == nil && !found {
		err = errDoubt("there is no extent tree")
	}
	return root, level, err
}

func (b *btrfs) takeExtent(k key, _ []byte) error {
	length := int64(k.offset)
	switch k.kind {
	case keyMetadata:
		length = b.node
	case keyExtent:
	default:
		return nil
	}
	at := int64(k.object)
	i, found := slices.BinarySearchFunc(b.chunks, at, func(c chunk, at int64) int { return cmp.Compare(c.logical, at) })
	if !found {
		i--
	}
	if i < 0 || at < 0 || length <= 0 || length > 1<<50 || at+length > b.chunks[i].logical+b.chunks[i].length {
		return errDoubt("an extent of %d bytes at %d", length, at)
	}
	c := &b.chunks[i]
	if n := len(c.used); n > 0 && at-c.used[n-1].end() < b.s.o.MinFree && at >= c.used[n-1].Offset {
		c.used[n-1].Length = max(c.used[n-1].end(), at+length) - c.used[n-1].Offset // too short to be worth naming
		return nil
	}
	c.used = append(c.used, Range{at, length})
	return nil
}

// free is what no chunk covers and what is not in use in one that does. Superblocks and the first MiB are used.
func (b *btrfs) free() []Range {
	used := []Range{{0, 1 << 20}, {64 << 20, 4096}, {256 << 30, 4096}}
	for _, c := range b.chunks {
		for _, at := range c.physical {
			for _, u := range c.used {
				used = append(used, Range{u.Offset - c.logical + at, u.Length})
			}
		}
	}
	return without([]Range{{0, min(b.v.size(), int64(le.Uint64(b.super[112:])))}}, used)
}
