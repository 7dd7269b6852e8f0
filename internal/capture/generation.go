package capture

import (
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Flip makes the other generation current and waits until no program still sets bits in the old one or is still
// reserving ring space for it. A write that the kernel did not show to the programs is in Drops when it returns.
func (c *Capture) Flip() error {
	current := atomic.LoadUint64(&c.control.current) & 1
	atomic.StoreUint64(&c.control.current, 1-current)
	if err := gracePeriod(); err != nil {
		return err
	}
	return c.countMisses()
}

// ClearIdle clears the generation that is not current. Only after a Flip that succeeded.
func (c *Capture) ClearIdle() {
	idle := c.region[1-atomic.LoadUint64(&c.control.current)&1]
	for i := range idle {
		if atomic.LoadUint64(&idle[i]) != 0 {
			atomic.StoreUint64(&idle[i], 0)
		}
	}
}

// DirtyToDebt ors both generations into the debt and clears the idle one. Only after a Flip that succeeded.
func (c *Capture) DirtyToDebt() {
	gen0, gen1, debt := c.region[regionGen0], c.region[regionGen1], c.region[regionDebt]
	for i := range debt {
		if dirty := atomic.LoadUint64(&gen0[i]) | atomic.LoadUint64(&gen1[i]); dirty != 0 {
			atomic.OrUint64(&debt[i], dirty)
		}
	}
	c.ClearIdle()
}

// LateToDebt moves the late bits into the debt and says whether there were any. To see that there are none and will
// be none, ask OutstandingDropped and Draining first: they end after the last late bit is set.
func (c *Capture) LateToDebt() bool {
	late, debt := c.region[regionLate], c.region[regionDebt]
	moved := false
	for i := range late {
		w := atomic.LoadUint64(&late[i])
		if w == 0 {
			continue
		}
		// In debt before out of late, for a process that dies here; and again after, for a completion that found its
		// late bit already set while another goroutine read the block and cleared its debt.
		atomic.OrUint64(&debt[i], w)
		atomic.AndUint64(&late[i], ^w)
		atomic.OrUint64(&debt[i], w)
		moved = true
	}
	return moved
}

// Drops counts the writes whose data is not in the ring since the capture was made, and the captured ones that the
// disk then refused.
func (c *Capture) Drops() uint64 { return atomic.LoadUint64(&c.control.drops) }

// countMisses makes a drop of every run of the queue program that the kernel skipped because an interrupt submitted
// the write while the program ran. The issue program has set its bits.
func (c *Capture) countMisses() error {
	stats, err := c.queue.Stats()
	if err != nil {
		return kernelFault("count missed runs", err)
	}
	if known := atomic.LoadUint64(&c.control.misses); stats.RecursionMisses > known {
		c.missed(stats.RecursionMisses - known)
	}
	return nil
}

// missed counts missed runs as drops. The bits come first, as they do of every drop: no issue program has set those of a
// disk without requests, and which blocks were meant is unknown.
func (c *Capture) missed(runs uint64) {
	current := int(atomic.LoadUint64(&c.control.current) & 1)
	for _, disk := range c.silent {
		b := c.bitmap(regionGen0+current, disk)
		b.Set(0, b.Blocks())
	}
	atomic.AddUint64(&c.control.drops, runs)
	atomic.AddUint64(&c.control.misses, runs)
}

// Meta reads a pinned cell. Cells are zero when the capture is made and survive the process.
func (c *Capture) Meta(cell int) uint64 { return atomic.LoadUint64(&c.meta[cell]) }

// SetMeta writes a pinned cell.
func (c *Capture) SetMeta(cell int, v uint64) { atomic.StoreUint64(&c.meta[cell], v) }

// Debt is the debt bitmap of a disk, by Disk.Index: the blocks whose content must be read from the disk.
// It is written by user space only and survives the process. A disk that is not captured has an empty one.
func (c *Capture) Debt(disk uint16) Bitmap { return c.bitmap(regionDebt, disk) }

func (c *Capture) bitmap(region int, disk uint16) Bitmap {
	p, ok := c.plan.disks[disk]
	if !ok {
		return Bitmap{}
	}
	return p.bitmap(c.region[region])
}

// WrittenSectors counts the sectors of all writes queued to a disk since the capture was made, dropped ones included
// and discards not, to audit against the kernel's own count of completed ones (blockdev.WriteSectors).
func (c *Capture) WrittenSectors(disk uint16) (uint64, error) {
	for _, d := range c.owner.Disks {
		if d.Index == disk {
			var e diskEntry
			err := c.disks.Lookup(deviceKey(d.dev()), &e)
			return e.Written, kernelFault("count sectors", err)
		}
	}
	return 0, fault.New(fault.NotFound, "capture: count sectors", "disk %d is not captured", disk)
}
