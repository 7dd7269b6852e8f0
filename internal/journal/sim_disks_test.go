package journal

import (
	"maps"
	"slices"

	"github.com/understudy-dr/understudy/internal/wire"
)

// Disks of the source come, grow, go and come back, as docs/design/2026-11-23-disks.md says. Disk 0 stays.

const (
	simDiskIndexes = 6
	simDiskSectors = 64 // no disk gets larger
)

// plugged is the disks that the source has, as large as they are: what may be written and is captured.
func (s *source) plugged() []wire.Disk {
	var list []wire.Disk
	for _, index := range slices.Sorted(maps.Keys(s.disks)) {
		list = append(list, wire.Disk{Index: index, Device: simDevice(index), Bytes: uint64(len(s.disks[index]))})
	}
	return list
}

func simDevice(index uint16) string {
	for _, d := range simDisks {
		if d.Index == index {
			return d.Device
		}
	}
	return "/dev/vd" + string(rune('a'+index))
}

// follow makes a table of what the journal has and what the source has. What the journal lacks joins.
func (s *source) follow(has []wire.Disk) {
	shown := sizesOf(has)
	s.table = table{}
	for _, d := range s.plugged() {
		old := shown[d.Index]
		if old > 0 {
			s.table.Disks = append(s.table.Disks, wire.Disk{Index: d.Index, Device: d.Device, Bytes: old})
		}
		if old < d.Bytes {
			s.table.Joining = append(s.table.Joining, d)
		}
	}
}

// change opens an epoch with other disks: what joined is in, or one comes, grows or goes. What was owed is owed still, and nothing else
// but what is new.
func (s *source) change() {
	debt := maps.Clone(s.debt)
	has := s.table.Disks
	switch k := s.rng.IntN(6); {
	case len(s.table.Joining) > 0 && (len(s.join) == 0 && !s.joins() || s.rng.IntN(8) == 0): // now and then before it owes nothing
		has = s.plugged()
	case k < 2:
		s.grow(debt)
	case k < 3:
		has = s.unplug(has)
	default:
		s.plug(debt)
	}
	s.follow(has)
	s.time += int64(s.rng.IntN(2))
	s.open(s.pos, debt)
}

// joins tells whether something of what joins is not known to be in the journal.
func (s *source) joins() bool {
	for k := range s.reading {
		if s.beyond(k) {
			return true
		}
	}
	return slices.ContainsFunc(s.late, func(r inFlight) bool { return slices.ContainsFunc(r.blocks, s.beyond) })
}

// plug adds a disk, which may have been there before and been written elsewhere.
func (s *source) plug(debt map[block]bool) {
	index := uint16(s.rng.IntN(simDiskIndexes))
	if s.disks[index] != nil {
		return
	}
	size := max(s.was[index], (1+s.rng.IntN(20))*wire.SectorSize)
	s.disks[index] = s.noise(size)
	s.owe(debt, index, 0)
}

func (s *source) grow(debt map[block]bool) {
	all := s.plugged()
	d := all[s.rng.IntN(len(all))]
	old := len(s.disks[d.Index])
	size := min(old+(1+s.rng.IntN(10))*wire.SectorSize, simDiskSectors*wire.SectorSize)
	s.disks[d.Index] = append(s.disks[d.Index], s.noise(size-old)...)
	s.owe(debt, d.Index, old)
}

func (s *source) unplug(has []wire.Disk) []wire.Disk {
	all := s.plugged()
	index := all[s.rng.IntN(len(all))].Index
	if index == 0 {
		return has
	}
	s.was[index] = max(s.was[index], len(s.disks[index]))
	delete(s.disks, index)
	return slices.DeleteFunc(slices.Clone(has), func(d wire.Disk) bool { return d.Index == index })
}

// owe adds a disk from a byte on.
func (s *source) owe(debt map[block]bool, index uint16, from int) {
	for at := from; at < len(s.disks[index]); at += wire.SectorSize {
		debt[block{index, uint64(at / wire.SectorSize)}] = true
	}
}

// own puts a block into the debt that it belongs to, if its disk is there.
func (s *source) own(k block) {
	switch {
	case k.sector*wire.SectorSize >= uint64(len(s.disks[k.disk])):
	case s.beyond(k):
		s.join[k] = true
	default:
		s.debt[k] = true
	}
}

// beyond tells whether a block is none of what the epoch's points show.
func (s *source) beyond(k block) bool {
	return s.table.joins(&wire.Extent{Disk: k.disk, Sector: k.sector})
}

// recall forgets what is on its way: it is owed again.
func (s *source) recall() {
	for _, r := range s.late {
		for _, k := range r.blocks {
			s.reading[k] = true
		}
	}
	s.late = nil
}
