package usedblocks

// signatures of content that is not looked into. They matter where the superblock of an earlier file system survived
// beside them. Negative offsets count from the end.
var signatures = []struct {
	offset int64
	magic  string
}{
	{0, "LUKS\xba\xbe"}, {0x4000, "SKUL\xba\xbe"},
	{0, "\xfc\x4e\x2b\xa9"}, {4096, "\xfc\x4e\x2b\xa9"}, {-8192, "\xfc\x4e\x2b\xa9"}, {-65536, "\xfc\x4e\x2b\xa9"}, // md
	{-1024, "Intel Raid ISM Cfg Sig. "}, {-8192, "Intel Raid ISM Cfg Sig. "}, {-512, "\xde\x11\xde\x11"}, // arrays of firmware; the last is DDF
	{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"}, // bcache
	{0, "bluestore block device"}, {32, "ORCLDISK"}, {0, "dmvdo001"},
	{3, "NTFS    "}, {3, "EXFAT   "}, {3, "-FVE-FS-"}, {82, "FAT32   "}, {54, "FAT1"},
	{1024, "\x10\x20\xf5\xf2"}, {32 << 10, "JFS1"}, {64<<10 + 52, "ReIsEr"}, {32769, "CD001"},
	{128 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"}, {128 << 10, "\x00\x00\x00\x00\x00\xba\xb1\x0c"}, // ZFS
	{4096, "\xc6\x85\x73\xf6\x66\xce\x90\xa9"}, {4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9"}, // bcachefs
}

func isForeign(v volume) bool {
	for _, s := range signatures {
		off := s.offset
		switch {
		case off == -65536:
			off += v.size() &^ 65535
		case off == -8192:
			off = (v.size() - 8192) &^ 4095
		case off < 0:
			off += v.size()
		}
		b := make([]byte, len(s.magic))
		if v.read(b, off) == nil && string(b) == s.magic {
			return true
		}
	}
	return false
}

func foreignFree(*search, volume, int) ([]Range, error) {
	return nil, errDoubt("is of a kind that is not looked into")
}
