package capture

import "sync/atomic"

// BeginDrain asks for draining: from now on every completion is marked late, until EndDrain has answered. The
// caller is about to discard records whose writes may still be in flight.
func (c *Capture) BeginDrain() { atomic.AddUint64(&c.control.drainWanted, 1) }

// Draining says that every completion is being marked late: true from when a capture is made until EndDrain, and
// again after the table of outstanding dropped bios has overflowed. It is never true with a disk that takes no
// requests, of which nothing tells when a write completes: the marks of the others alone are of no use, so they end.
// Without payloads every completion is an event of its own, and draining means nothing.
func (c *Capture) Draining() bool {
	wanted := atomic.LoadUint64(&c.control.drainWanted)
	c.drainSeen.Store(wanted)
	if len(c.silent) > 0 && c.Mode() == ModePayload {
		c.EndDrain()
	}
	return wanted != atomic.LoadUint64(&c.control.drainEnded)
}

// EndDrain ends the draining that the last call of Draining saw: the caller has since seen that no write from before
// can still be in flight. If draining was asked for anew in between, it goes on.
func (c *Capture) EndDrain() { atomic.StoreUint64(&c.control.drainEnded, c.drainSeen.Load()) }
