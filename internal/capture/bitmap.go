package capture

import (
	"math/bits"
	"sync/atomic"
)

// Bitmap is a view of one disk's bits in shared memory. Its block numbers start at 0. Each word changes atomically, so
// goroutines may set and clear different blocks at once. It is gone when its Capture is closed.
type Bitmap struct {
	words  []uint64
	blocks uint64
	shift  uint8
}

// BlockSize is the number of disk bytes that one bit stands for.
func (b Bitmap) BlockSize() uint64 { return 1 << b.shift }

// Blocks is the number of blocks of the disk; the last may be partial.
func (b Bitmap) Blocks() uint64 { return b.blocks }

// NextSet finds the first run [start, end) of set blocks at or after from.
func (b Bitmap) NextSet(from uint64) (start, end uint64, ok bool) {
	start = b.next(from, 0)
	if start >= b.blocks {
		return 0, 0, false
	}
	return start, min(b.next(start, ^uint64(0)), b.blocks), true
}

// next finds the first block at or after from whose bit differs from flip's; b.blocks or more if there is none.
func (b Bitmap) next(from, flip uint64) uint64 {
	if from >= b.blocks {
		return b.blocks
	}
	skip := from & 63
	for i := from / 64; i < uint64(len(b.words)); i++ {
		w := (atomic.LoadUint64(&b.words[i]) ^ flip) >> skip << skip
		if w != 0 {
			return i*64 + uint64(bits.TrailingZeros64(w))
		}
		skip = 0
	}
	return b.blocks
}

// Set sets the blocks [start, end), as far as the disk has them.
func (b Bitmap) Set(start, end uint64) {
	b.each(start, end, func(w *uint64, mask uint64) { atomic.OrUint64(w, mask) })
}

// Clear clears the blocks [start, end), as far as the disk has them.
func (b Bitmap) Clear(start, end uint64) {
	b.each(start, end, func(w *uint64, mask uint64) { atomic.AndUint64(w, ^mask) })
}

// each calls f for the words of [start, end) with the mask of their bits.
func (b Bitmap) each(start, end uint64, f func(w *uint64, mask uint64)) {
	end = min(end, b.blocks)
	for start < end {
		stop := min((start|63)+1, end)
		mask := ^uint64(0) << (start & 63)
		if stop&63 != 0 {
			mask &= ^uint64(0) >> (64 - stop&63)
		}
		f(&b.words[start/64], mask)
		start = stop
	}
}

// Count is the number of set blocks.
func (b Bitmap) Count() uint64 {
	var n int
	for i := range b.words {
		n += bits.OnesCount64(atomic.LoadUint64(&b.words[i]))
	}
	return uint64(n)
}
