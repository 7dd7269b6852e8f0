package source

import "time"

// clock turns the kernel's monotonic stamps into wall time.
type clock struct {
	read   func() (mono uint64, wall time.Time)
	offset int64
	set    bool
}

// now samples both clocks, so stamps follow steps of the wall clock within a cycle.
func (c *clock) now() int64 {
	mono, wall := c.read()
	c.offset, c.set = wall.UnixNano()-int64(mono), true
	return wall.UnixNano()
}

// wall is the unix time in ns of a monotonic stamp.
func (c *clock) wall(mono uint64) int64 {
	if !c.set {
		c.now()
	}
	return int64(mono) + c.offset
}
