package capture

// Flip makes the other generation current and waits until no program still sets bits in the old one or is still
// reserving ring space for it.
func (c *Capture) Flip() error { return nil }

// ClearIdle clears the generation that is not current.
func (c *Capture) ClearIdle() {}

// DirtyToDebt ors both generations into the debt and clears the idle one.
func (c *Capture) DirtyToDebt() {}

// LateToDebt moves the late bits into the debt and says whether there were any.
func (c *Capture) LateToDebt() bool { return false }

// OutstandingDropped counts the dropped bios that have not completed yet.
func (c *Capture) OutstandingDropped() uint64 { return 0 }

// Draining says that every completion is being marked late: true from when a capture is made until EndDrain, and
// again after the table of outstanding dropped bios has overflowed.
func (c *Capture) Draining() bool { return false }

// EndDrain ends draining; the caller has seen that no write from before can still be in flight.
func (c *Capture) EndDrain() {}

// MetaCells is the number of cells of Meta.
const MetaCells = 64

// Meta reads a pinned cell. Cells are zero when the capture is made and survive the process.
func (c *Capture) Meta(cell int) uint64 { return 0 }

// SetMeta writes a pinned cell.
func (c *Capture) SetMeta(cell int, v uint64) {}

// Debt is the debt bitmap of a disk, by Disk.Index: the blocks whose content must be read from the disk.
// It is written by user space only and survives the process.
func (c *Capture) Debt(disk uint16) Bitmap { return Bitmap{} }
