package layer

import "github.com/zeebo/xxh3"

// Sum is the checksum of the part of a disk's content that lies in one cell. The place is part of it, so bytes of
// another place never pass for these.
func Sum(disk uint16, sector uint64, part []byte) uint64 {
	return xxh3.HashSeed(part, uint64(disk)<<48^sector)
}

// Sums appends the sums of data, one for each cell it touches.
func Sums(dst []uint64, disk uint16, sector uint64, data []byte) []uint64 {
	for len(data) > 0 {
		n := min(len(data), int(CellSectors-sector%CellSectors)*SectorSize)
		dst = append(dst, Sum(disk, sector, data[:n]))
		data, sector = data[n:], sector+uint64(n/SectorSize)
	}
	return dst
}

// Cells is how many cells a run of sectors touches.
func Cells(sector uint64, sectors uint32) int { return cells(sector, uint64(sectors)) }

func cells(sector, sectors uint64) int {
	if sectors == 0 {
		return 0
	}
	return int((sector+sectors-1)/CellSectors-sector/CellSectors) + 1
}

// part is what of a run of sectors lies in the i-th cell it touches.
func part(sector, sectors uint64, i int) (from, to uint64) {
	cell := (sector/CellSectors + uint64(i)) * CellSectors
	return max(sector, cell), min(sector+sectors, cell+CellSectors)
}
