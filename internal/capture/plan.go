package capture

// A disk has at most this many bits in a bitmap: 16 MiB of memory.
const maxBits = 1 << 27

const (
	minShift = 12
	maxShift = 24 // of a disk that was added and has little room

	leastGrowth = 1 << 13 // words that a disk may grow by at least: 2 GiB in blocks of 4 KiB
	spareWords  = 1 << 17 // for disks to come: 1 MiB in each region
	spareDisks  = 64      // entries of the disks map
)

// plan says where each disk's bits lie in a region. It is recorded with the owner, so a re-opened capture has the plan it
// was made with.
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

// place is where a disk's bits lie.
type place struct {
	Word  uint64 `json:"word"`
	Room  uint64 `json:"room"` // words, used or not
	Shift uint8  `json:"shift"`
}

// planFor lays disks out without room between them, as captures of version 2 and scans have them.
func planFor(disks []ownedDisk) plan {
	p := plan{disks: make(map[uint16]diskPlan, len(disks))}
	for _, d := range disks {
		at := place{Word: p.words, Shift: shiftOf(d.Bytes, minShift, maxBits)}
		dp := at.plan(d.Bytes)
		p.words += cacheLine(dp.words)
		p.disks[d.Index] = dp
	}
	return p
}

// lay gives every disk of a new capture its place, with room to grow by a quarter, and keeps room for more disks.
func (o *owner) lay() {
	o.Used = 0
	for i := range o.Disks {
		d := &o.Disks[i]
		shift := shiftOf(d.Bytes, minShift, maxBits)
		words := wordsOf(blocksOf(d.Bytes, shift))
		room := cacheLine(min(words+max(words/4, leastGrowth), wordsOf(maxBits)))
		d.place = place{Word: o.Used, Room: room, Shift: shift}
		o.Used += room
	}
	o.Words = o.Used + spareWords
}

// plan of the capture that the owner record describes.
func (o *owner) plan() plan {
	if o.Version < formatV3 {
		return planFor(o.Disks)
	}
	p := plan{disks: make(map[uint16]diskPlan, len(o.Disks)), words: o.Words}
	for i := range o.Disks {
		p.disks[o.Disks[i].Index] = o.Disks[i].plan(o.Disks[i].Bytes)
	}
	return p
}

// find gives a disk half of the spare room at most; false when there is too little.
func (o *owner) find(bytes uint64) (place, bool) {
	room := (o.Words - min(o.Words, o.Used)) / 2 &^ 7
	if room == 0 {
		return place{}, false
	}
	shift := shiftOf(bytes, minShift, min(maxBits, 64*room))
	if shift > maxShift {
		return place{}, false
	}
	words := wordsOf(blocksOf(bytes, shift))
	p := place{Word: o.Used, Room: cacheLine(min(words+max(words/4, leastGrowth), room)), Shift: shift}
	o.Used += p.Room
	return p, true
}

func (p place) plan(bytes uint64) diskPlan {
	blocks := blocksOf(bytes, p.Shift)
	return diskPlan{word: p.Word, words: wordsOf(blocks), blocks: blocks, shift: p.Shift}
}

// holds tells whether a disk of this size has its bits in the place.
func (p place) holds(bytes uint64) bool { return wordsOf(blocksOf(bytes, p.Shift)) <= p.Room }

// shiftOf is the smallest from least on with which a disk has no more than so many blocks.
func shiftOf(bytes uint64, least uint8, most uint64) uint8 {
	for blocksOf(bytes, least) > most {
		least++
	}
	return least
}

func blocksOf(bytes uint64, shift uint8) uint64 { return (bytes + 1<<shift - 1) >> shift }

func wordsOf(blocks uint64) uint64 { return (blocks + 63) / 64 }

// cacheLine rounds up: no two disks share one.
func cacheLine(words uint64) uint64 { return (words + 7) &^ 7 }

// bitmap is a disk's part of a region.
func (d diskPlan) bitmap(region []uint64) Bitmap {
	return Bitmap{words: region[d.word : d.word+d.words], blocks: d.blocks, shift: d.shift}
}
