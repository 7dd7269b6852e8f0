package capture

// A disk has at most this many bits in a bitmap: 16 MiB of memory.
const maxBits = 1 << 27

const minShift = 12

// plan says where each disk's bits lie in a region. It follows from the disks alone, so a re-opened capture has the
// plan it was made with.
type plan struct {
	disks map[uint16]diskPlan
	words uint64 // of one region
}

type diskPlan struct {
	word   uint64 // where the disk's bits begin
	words  uint64
	blocks uint64
	shift  uint8
}

func planFor(disks []ownedDisk) plan {
	p := plan{disks: make(map[uint16]diskPlan, len(disks))}
	for _, d := range disks {
		dp := diskPlan{word: p.words, shift: minShift}
		for blocksOf(d.Bytes, dp.shift) > maxBits {
			dp.shift++
		}
		dp.blocks = blocksOf(d.Bytes, dp.shift)
		dp.words = (dp.blocks + 63) / 64
		p.words += (dp.words + 7) &^ 7 // no two disks share a cache line
		p.disks[d.Index] = dp
	}
	return p
}

func blocksOf(bytes uint64, shift uint8) uint64 { return (bytes + 1<<shift - 1) >> shift }

// bitmap is a disk's part of a region.
func (d diskPlan) bitmap(region []uint64) Bitmap {
	return Bitmap{words: region[d.word : d.word+d.words], blocks: d.blocks, shift: d.shift}
}
