package capture

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Flip makes the other generation current and waits until no program still sets bits in the old one or is still
// reserving ring space for it. A write that the kernel did not show to the programs is in Drops when it returns, if the
// kernel counts it anywhere.
func (c *Capture) Flip() error {
	current := atomic.LoadUint64(&c.control.current) & 1
	atomic.StoreUint64(&c.control.current, 1-current)
	if err := gracePeriod(); err != nil {
		return err
	}
	if err := c.countMisses(); err != nil {
		return err
	}
	c.countLost()
	return c.auditAll()
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
	c.coarse = false
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
// the write while the program ran. The issue program has set its bits. Other programs' misses are covered by their
// twins, or the queue program; they are counted all the same.
func (c *Capture) countMisses() error {
	for name, program := range c.programs {
		stats, err := program.Stats()
		if err != nil {
			return kernelFault("count missed runs", err)
		}
		c.doubts.change(func(n *Doubts) { n.RecursionMisses[name] = stats.RecursionMisses })
		if known := atomic.LoadUint64(&c.control.misses); name == queueProgram && stats.RecursionMisses > known {
			c.missed(stats.RecursionMisses - known)
		}
	}
	return nil
}

// missed counts missed runs as drops. The bits come first, as they do of every drop: no issue program has set those of a
// disk without requests, and which blocks were meant is unknown.
func (c *Capture) missed(runs uint64) {
	c.dirtySilent()
	c.drop(runs)
	atomic.AddUint64(&c.control.misses, runs)
}

// lostFor is how long a write may take that nobody remembers: twice the SCSI command timeout.
const lostFor = 60 * time.Second

// countLost looks for writes to disks without requests that the bitmap programs saw completing and did not know. More
// of that kind may be under way, so for a while nothing is known of these disks.
func (c *Capture) countLost() {
	if lost := atomic.LoadUint64(&c.control.lost); lost != c.lost {
		c.lost, c.lostAt = lost, time.Now()
		c.doubts.change(func(n *Doubts) { n.Lost = lost })
	}
	if c.Mode() == ModeBitmap && len(c.silent) > 0 && !c.lostAt.IsZero() && time.Since(c.lostAt) < lostFor {
		c.dirtySilent()
		c.drop(1)
	}
}

func (c *Capture) dirtySilent() {
	for _, disk := range c.silent {
		c.dirtyWhole(disk)
	}
}

// dirtyWhole makes all of a disk dirty. The caller counts a drop afterwards.
func (c *Capture) dirtyWhole(disk uint16) {
	b := c.bitmap(regionGen0+int(atomic.LoadUint64(&c.control.current)&1), disk)
	b.Set(0, b.Blocks())
	c.coarse = true
}

func (c *Capture) drop(n uint64) { atomic.AddUint64(&c.control.drops, n) }

// Coarse says whether bits were set for whole disks because nobody knows what was written, since the last DirtyToDebt.
func (c *Capture) Coarse() bool { return c.coarse }

// DirtyBytes is how much of the disks DirtyToDebt would make debt now, debt that there is included.
func (c *Capture) DirtyBytes() uint64 {
	n := uint64(0)
	gen0, gen1, debt := c.region[regionGen0], c.region[regionGen1], c.region[regionDebt]
	for _, p := range c.plan.disks {
		set := 0
		for i := p.word; i < p.word+p.words; i++ {
			set += bits.OnesCount64(atomic.LoadUint64(&gen0[i]) | atomic.LoadUint64(&gen1[i]) | atomic.LoadUint64(&debt[i]))
		}
		n += uint64(set) << p.shift
	}
	return n
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
