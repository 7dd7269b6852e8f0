// Package layer keeps the history of disks in immutable files sorted by place: each says, of runs of sectors, which
// versions are known and what they hold. It writes, looks up, reads, merges and verifies such files, and knows nothing of
// journals, catalogues or where files are stored. Only internal/journal should import it.
package layer

import "cmp"

// SectorSize is the unit of all places.
const SectorSize = 512

// CellSectors is the unit of sums: there is one for every cell of a disk, counted from sector 0, that data touches.
const CellSectors = 8

const (
	cellBytes = CellSectors * SectorSize
	maxSector = 1 << 53 // 2^62 bytes: everything below can be added up without a thought
)

// Version says when something was written; the greater of two wins.
type Version struct {
	Epoch    uint64 `json:"epoch"`
	Position uint64 `json:"position"`
}

// Compare orders versions.
func (v Version) Compare(o Version) int {
	if c := cmp.Compare(v.Epoch, o.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(v.Position, o.Position)
}

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	return v.Epoch < o.Epoch || v.Epoch == o.Epoch && v.Position < o.Position
}

// next is the smallest version above v.
func (v Version) next() Version {
	v.Position++
	if v.Position == 0 {
		v.Epoch++
	}
	return v
}

// Kind is what a version says of a run of sectors.
type Kind uint8

// The kinds. The numbers are stored.
const (
	Data Kind = 1 // these bytes
	Zero Kind = 2 // zeroes
	Lost Kind = 3 // there was something, and it is damaged
)

// Key is a place: what layers are sorted by.
type Key struct {
	Disk   uint16 `json:"disk"`
	Sector uint64 `json:"sector"`
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Disk, o.Disk); c != 0 {
		return c
	}
	return cmp.Compare(k.Sector, o.Sector)
}

// Range is a place and version of damage. With Since, everything from that version to Version may be lost.
type Range struct {
	Disk    uint16  `json:"disk"`
	Sector  uint64  `json:"sector"`
	Sectors uint64  `json:"sectors"`
	Version Version `json:"version"`
	Since   Version `json:"since,omitzero"`
}
