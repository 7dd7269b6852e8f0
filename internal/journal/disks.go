package journal

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// table is the disks of a stretch of epochs, which an EpochOpen began. docs/design/2026-11-23-disks.md is the argument.
type table struct {
	Epoch   uint64      `json:"epoch"` // from this one on; 0: that the journal was made for
	Disks   []wire.Disk `json:"disks"` // by index
	Joining []wire.Disk `json:"joining,omitempty"`
}

// maxTables bounds what the changes of a server's disks may take.
const maxTables = 4096

func sortDisks(disks []wire.Disk) ([]wire.Disk, error) {
	sorted := slices.SortedFunc(slices.Values(disks), func(a, b wire.Disk) int { return int(a.Index) - int(b.Index) })
	for i, d := range sorted {
		if d.Bytes == 0 || d.Bytes > 1<<56 || d.Bytes%wire.SectorSize != 0 {
			return nil, fault.New(fault.Invalid, "disks", "disk %d has %d bytes", d.Index, d.Bytes)
		}
		if i > 0 && sorted[i-1].Index == d.Index {
			return nil, fault.New(fault.Invalid, "disks", "two disks with index %d", d.Index)
		}
	}
	return sorted, nil
}

// diskSizes is disks by index.
type diskSizes map[uint16]uint64

func sizesOf(disks []wire.Disk) diskSizes {
	s := make(diskSizes, len(disks))
	for _, d := range disks {
		s[d.Index] = d.Bytes
	}
	return s
}

// limits are how far extents may reach, joining disks included.
func (t *table) limits() diskSizes {
	s := sizesOf(t.Disks)
	for _, d := range t.Joining {
		s[d.Index] = max(s[d.Index], d.Bytes)
	}
	return s
}

// joins tells whether a range is none of what the epoch's points show.
func (t *table) joins(x *wire.Extent) bool {
	shown := uint64(0)
	for _, d := range t.Disks {
		if d.Index == x.Disk {
			shown = d.Bytes
		}
	}
	return x.Sector*wire.SectorSize >= shown
}

// match tells whether an agent that knows of no change names the disks of the table. Device names are the kernel's and
// change between boots.
func (t *table) match(disks []wire.Disk) error {
	if len(t.Joining) > 0 {
		return fault.New(fault.Conflict, "disks", "disk %d (%s) was being added", t.Joining[0].Index, t.Joining[0].Device).
			WithHint("upgrade the agent")
	}
	sizes, seen := sizesOf(t.Disks), map[uint16]bool{}
	for _, d := range disks {
		have, ok := sizes[d.Index]
		switch {
		case !ok:
			return fault.New(fault.Conflict, "disks", "disk %d (%s) is not in the journal", d.Index, d.Device)
		case have != d.Bytes:
			return fault.New(fault.Conflict, "disks", "disk %d (%s) has %d bytes, the journal was made for %d", d.Index, d.Device, d.Bytes, have)
		case seen[d.Index]:
			return fault.New(fault.Conflict, "disks", "disk %d is named twice", d.Index)
		}
		seen[d.Index] = true
	}
	if len(disks) != len(sizes) {
		return fault.New(fault.Conflict, "disks", "%d disks, the journal was made for %d", len(disks), len(sizes))
	}
	return nil
}

// tables is what a journal's disks have been, oldest first. It is only appended to, and never empty.
type tables []table

func (t tables) last() *table { return &t[len(t)-1] }

// of is the disks of an epoch.
func (t tables) of(epoch uint64) *table {
	for i := len(t) - 1; i > 0; i-- {
		if t[i].Epoch <= epoch {
			return &t[i]
		}
	}
	return &t[0]
}

// ever is the greatest size at which each disk has been part of an epoch.
func (t tables) ever() diskSizes {
	s := diskSizes{}
	for i := range t {
		for _, d := range t[i].Disks {
			s[d.Index] = max(s[d.Index], d.Bytes)
		}
	}
	return s
}

// extent is how far anything that is stored of each disk may reach.
func (t tables) extent() []wire.Disk {
	var list []wire.Disk
	s := diskSizes{}
	for i := range t {
		for index, bytes := range t[i].limits() {
			s[index] = max(s[index], bytes)
		}
	}
	for index, bytes := range s {
		list = append(list, wire.Disk{Index: index, Bytes: bytes})
	}
	slices.SortFunc(list, func(a, b wire.Disk) int { return int(a.Index) - int(b.Index) })
	return list
}

// takes tells whether the journal can go on with these disks: any may be missing or new, none may have shrunk.
func (t tables) takes(disks []wire.Disk) error {
	if len(disks) == 0 {
		return fault.New(fault.Conflict, "disks", "there are none")
	}
	ever := t.ever()
	for _, d := range disks {
		if have := ever[d.Index]; d.Bytes < have {
			return fault.New(fault.Conflict, "disks", "disk %d (%s) shrank from %d to %d bytes", d.Index, d.Device, have, d.Bytes).
				WithHint("make it as large as it was, or leave it out, or stop replication and start it again, which deletes what was replicated and copies all disks anew")
		}
	}
	return nil
}

// begin checks the disks of a new epoch, and adds them if they are others than those before. The receiver stays as it was.
func (t tables) begin(epoch uint64, open *wire.EpochOpen) (tables, error) {
	next := table{Epoch: epoch}
	var err error
	if next.Disks, err = sortDisks(open.Disks); err == nil {
		next.Joining, err = sortDisks(open.Joining)
	}
	if err == nil {
		err = t.takes(next.Disks)
	}
	if err == nil && len(next.Joining) > 0 {
		err = t.takes(next.Joining)
	}
	if err != nil {
		return nil, err
	}
	for i, sizes := 0, sizesOf(next.Disks); i < len(next.Joining); i++ {
		if d := next.Joining[i]; d.Bytes <= sizes[d.Index] {
			return nil, fault.New(fault.Invalid, "disks", "disk %d joins with %d bytes and has %d", d.Index, d.Bytes, sizes[d.Index])
		}
	}
	if now := t.last(); slices.Equal(now.Disks, next.Disks) && slices.Equal(now.Joining, next.Joining) {
		return t, nil
	}
	if len(t) >= maxTables {
		return nil, fault.New(fault.OutOfSpace, "disks", "they have changed %d times", len(t)).
			WithHint("stop replication and start it again, which deletes what was replicated and copies all disks anew")
	}
	return append(t[:len(t):len(t)], next), nil
}

func (s diskSizes) contain(h *wire.Header, extents []wire.Extent) error {
	for i := range extents {
		x := &extents[i]
		bytes, ok := s[x.Disk]
		if !ok {
			return refuse(fault.Invalid, h, "disk %d is unknown", x.Disk)
		}
		if x.Sector*wire.SectorSize+x.Bytes > bytes {
			return refuse(fault.Invalid, h, "range %d+%d is past the end of disk %d", x.Sector*wire.SectorSize, x.Bytes, x.Disk)
		}
	}
	return nil
}

// disksAt is the disks of a point.
func (j *Journal) disksAt(p Point) *table {
	now := j.snapshot()
	return now.fold.tables.of(p.Epoch)
}

// MatchDisks tells whether an agent's disks are those of the newest epoch: for agents that know of no change.
func (j *Journal) MatchDisks(disks []wire.Disk) error {
	p := j.snapshot()
	return fault.Wrap("journal: match", p.fold.tables.last().match(disks))
}

// TakesDisks tells whether the journal can go on with these disks.
func (j *Journal) TakesDisks(disks []wire.Disk) error {
	p := j.snapshot()
	return fault.Wrap("journal: match", p.fold.tables.takes(disks))
}
