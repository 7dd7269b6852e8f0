package capture

import "sync/atomic"

// BeginDrain asks for draining: from now on every completion is marked late, until EndDrain has answered. The
// caller is about to discard records whose writes may still be in flight.
func (c *Capture) BeginDrain() { atomic.AddUint64(&c.control.drainWanted, 1) }
