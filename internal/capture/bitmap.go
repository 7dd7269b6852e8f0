package capture

// Bitmap is a view of one disk's bits in shared memory. Its block numbers start at 0. Single words are atomic.
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
func (b Bitmap) NextSet(from uint64) (start, end uint64, ok bool) { return 0, 0, false }

// Set sets the blocks [start, end).
func (b Bitmap) Set(start, end uint64) {}

// Clear clears the blocks [start, end).
func (b Bitmap) Clear(start, end uint64) {}

// Count is the number of set blocks.
func (b Bitmap) Count() uint64 { return 0 }
