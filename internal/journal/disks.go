package journal

import (
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// diskSet is the disks of a journal by index.
type diskSet map[uint16]wire.Disk

func newDiskSet(disks []wire.Disk) diskSet {
	s := make(diskSet, len(disks))
	for _, d := range disks {
		s[d.Index] = d
	}
	return s
}

// match compares indices and sizes. Device names are the kernel's and change between boots.
func (s diskSet) match(disks []wire.Disk) error {
	seen := map[uint16]bool{}
	for _, d := range disks {
		have, ok := s[d.Index]
		switch {
		case !ok:
			return fault.New(fault.Conflict, "disks", "disk %d (%s) is not in the journal", d.Index, d.Device)
		case have.Bytes != d.Bytes:
			return fault.New(fault.Conflict, "disks", "disk %d (%s) has %d bytes, the journal was made for %d", d.Index, d.Device, d.Bytes, have.Bytes)
		case seen[d.Index]:
			return fault.New(fault.Conflict, "disks", "disk %d is named twice", d.Index)
		}
		seen[d.Index] = true
	}
	if len(disks) != len(s) {
		return fault.New(fault.Conflict, "disks", "%d disks, the journal was made for %d", len(disks), len(s))
	}
	return nil
}

func (s diskSet) contain(h *wire.Header, extents []wire.Extent) error {
	for i := range extents {
		x := &extents[i]
		d, ok := s[x.Disk]
		if !ok {
			return refuse(fault.Invalid, h, "disk %d is unknown", x.Disk)
		}
		if x.Sector*wire.SectorSize+x.Bytes > d.Bytes {
			return refuse(fault.Invalid, h, "range %d+%d is past the end of disk %d", x.Sector*wire.SectorSize, x.Bytes, x.Disk)
		}
	}
	return nil
}

// MatchDisks tells whether an agent's disks are those that the journal was made for.
func (j *Journal) MatchDisks(disks []wire.Disk) error {
	return fault.Wrap("journal: match", j.disks.match(disks))
}
