package usedblocks

// Place is where on its disk a file system lies, in the terms in which the kernel knows devices.
type Place struct {
	Offset int64  // of the partition that it fills; 0 is the disk itself
	Volume string // the id of the logical volume that it fills, without dashes; then there is no offset
}

// placeOf tells where a volume lies; false for what is no device of this machine's kernel: a partition of a volume, say, as
// guests make it.
func placeOf(v volume) (Place, bool) {
	switch v := v.(type) {
	case *disk:
		return Place{}, true
	case *part:
		_, ok := v.of.(*disk)
		return Place{Offset: v.from}, ok
	case *logical:
		return Place{Volume: v.id}, v.id != ""
	}
	return Place{}, false
}

// committed tells whether sync(2) has committed what a file system had in memory. It is asked before any of its metadata is
// read: who mounts it later changes it later.
func (s *search) committed(kind string, v volume) bool {
	if s.o.Mounted == nil {
		return true
	}
	at, ok := placeOf(v)
	return ok && s.o.Mounted(kind, at)
}

// errElsewhere says that nobody knows what changes are still to come.
func errElsewhere() error {
	return errDoubt("it is not mounted here: a guest or another machine may have changes in memory")
}
