package usedblocks

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

const (
	maxPartitions = 1024
	mbrSignature  = 0xaa55
)

var le, be = binary.LittleEndian, binary.BigEndian

// gptSector is the sector size that a GUID partition table's header shows by its place; 0 when there is none.
func gptSector(v volume) int64 {
	for _, sector := range []int64{512, 4096} {
		var sig [8]byte
		if v.read(sig[:], sector) == nil && string(sig[:]) == "EFI PART" {
			return sector
		}
	}
	return 0
}

func isGPT(v volume) bool { return gptSector(v) != 0 }

// gptFree looks into the partitions. What lies between them counts as used.
func gptFree(s *search, v volume, depth int) ([]Range, error) {
	sector := gptSector(v)
	head := make([]byte, 512)
	if err := v.read(head, sector); err != nil {
		return nil, err
	}
	parts, err := gptParts(v, head, sector)
	if err != nil {
		return nil, err
	}
	return s.parts(v, parts, depth)
}

func gptParts(v volume, head []byte, sector int64) ([]Range, error) {
	length := le.Uint32(head[12:])
	if length < 92 || length > 512 {
		return nil, errDoubt("a header of %d bytes", length)
	}
	sum := le.Uint32(head[16:])
	plain := slices.Clone(head[:length])
	clear(plain[16:20])
	if !sums(crc32.ChecksumIEEE(plain), sum) {
		return nil, errDoubt("the header's checksum is wrong")
	}
	at, n, size := le.Uint64(head[72:]), le.Uint32(head[80:]), le.Uint32(head[84:])
	if alternate := le.Uint64(head[32:]); alternate >= uint64(v.size()/sector) { // of a striped array, one of whose members this is
		return nil, errDoubt("the table's copy lies at %d, past the disk's end", alternate)
	}
	if n > maxPartitions || size < 128 || size > 4096 || at > uint64(v.size()/sector) {
		return nil, errDoubt("%d entries of %d bytes at %d", n, size, at)
	}
	table := make([]byte, int(n)*int(size))
	if err := v.read(table, int64(at)*sector); err != nil {
		return nil, err
	}
	if !sums(crc32.ChecksumIEEE(table), le.Uint32(head[88:])) {
		return nil, errDoubt("the table's checksum is wrong")
	}
	var parts []Range
	for ; len(table) > 0; table = table[size:] {
		if [16]byte(table[:16]) == ([16]byte{}) {
			continue
		}
		first, last := le.Uint64(table[32:]), le.Uint64(table[40:])
		if last < first || last >= uint64(v.size()/sector) {
			return nil, errDoubt("a partition from %d to %d", first, last)
		}
		parts = append(parts, Range{int64(first) * sector, int64(last-first+1) * sector})
	}
	return parts, nil
}

func isMBR(v volume) bool {
	var b [512]byte
	return v.read(b[:], 0) == nil && le.Uint16(b[510:]) == mbrSignature && looksLikeTable(b[:], v.size()) && !isGPT(v)
}

// mbrFree looks into primary and logical partitions.
func mbrFree(s *search, v volume, depth int) ([]Range, error) {
	var b [512]byte
	if err := v.read(b[:], 0); err != nil {
		return nil, err
	}
	var parts []Range
	for i := range 4 {
		kind, r := mbrEntry(b[:], i, 0)
		switch {
		case kind == 0 || r.Length == 0:
		case kind == 0xee:
			return nil, errDoubt("protects a partition table that is not there")
		case kind == 0x05 || kind == 0x0f || kind == 0x85:
			inner, err := extended(v, r)
			if err != nil {
				return nil, err
			}
			parts = append(parts, inner...)
		default:
			parts = append(parts, r)
		}
	}
	return s.parts(v, parts, depth)
}

// looksLikeTable tells a partition table from the boot sector of a file system.
func looksLikeTable(b []byte, size int64) bool {
	any := false
	for i := range 4 {
		e := b[446+16*i:]
		kind, r := mbrEntry(b, i, 0)
		if e[0]&0x7f != 0 || kind != 0 && (r.Offset == 0 || r.end() > size) {
			return false
		}
		any = any || kind != 0
	}
	return any
}

func mbrEntry(b []byte, i int, base int64) (kind byte, r Range) {
	e := b[446+16*i:]
	return e[4], Range{(base + int64(le.Uint32(e[8:]))) * 512, int64(le.Uint32(e[12:])) * 512}
}

// extended follows the chain of logical partitions.
func extended(v volume, whole Range) (parts []Range, err error) {
	for at := whole.Offset; ; {
		var b [512]byte
		if err := v.read(b[:], at); err != nil {
			return nil, err
		}
		if le.Uint16(b[510:]) != mbrSignature || len(parts) > maxPartitions {
			return nil, errDoubt("the chain of logical partitions is broken")
		}
		if kind, r := mbrEntry(b[:], 0, at/512); kind != 0 {
			parts = append(parts, r)
		}
		kind, next := mbrEntry(b[:], 1, whole.Offset/512)
		if kind == 0 {
			return parts, nil
		}
		if next.Offset <= at || next.Offset >= whole.end() {
			return nil, errDoubt("the chain of logical partitions goes back")
		}
		at = next.Offset
	}
}

// parts looks into each. Partitions that overlap, or do not lie on the disk, tell nothing.
func (s *search) parts(v volume, parts []Range, depth int) (free []Range, err error) {
	slices.SortFunc(parts, func(a, b Range) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	for i, r := range parts {
		if r.Offset <= 0 || r.Length <= 0 || r.Length > v.size() || r.Offset > v.size()-r.Length || i > 0 && r.Offset < parts[i-1].end() {
			return nil, errDoubt("a partition at %d of %d bytes overlaps another, or the disk's end", r.Offset, r.Length)
		}
	}
	for _, r := range parts {
		p := &part{of: v, from: r.Offset, length: r.Length}
		free = append(free, s.inside(p, depth, p.place)...)
	}
	return free, nil
}
