package capture

import (
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/fault"
)

// droppedBio mirrors struct dropped_bio.
type droppedBio struct {
	Word   uint64
	Sector uint64
	Bytes  uint64
	Left   [2]uint64
	Shift  uint32
	Done   uint32
}

// OutstandingDropped counts the dropped bios that have not completed yet.
func (c *Capture) OutstandingDropped() uint64 { return atomic.LoadUint64(&c.control.outstanding) }

// LateDropped marks late the blocks of every dropped bio that counts as outstanding, and says how many it found. It is for
// bios whose completion went uncounted: they stay outstanding for ever, and their blocks may have been read too early.
func (c *Capture) LateDropped() (uint64, error) {
	var key uint64
	var b droppedBio
	n := uint64(0)
	late := c.region[regionLate]
	for entries := c.dropped.Iterate(); ; {
		if !entries.Next(&key, &b) {
			return n, kernelFault("list dropped writes", entries.Err())
		}
		if b.Done != 0 || b.Bytes == 0 {
			continue
		}
		n++
		bits := Bitmap{words: late[min(b.Word, uint64(len(late))):], blocks: 1 << 40, shift: uint8(b.Shift)}
		first, last := b.Sector<<9>>b.Shift, (b.Sector<<9+b.Bytes-1)>>b.Shift
		if last/64 >= uint64(len(bits.words)) {
			return n, fault.New(fault.Bug, "capture: list dropped writes", "sector %d is outside the bitmaps", b.Sector)
		}
		bits.Set(first, last+1)
	}
}
