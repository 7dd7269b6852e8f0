package capture

import "sync/atomic"

// stream is where a capture's records come from.
type stream interface {
	Next(offset uint64, rec *Record) (bool, error)
	Producer() uint64
	Consumer() uint64
	Release(offset uint64)
	RingBytes() int
	unmap() error
}

// counted is the stream of a capture without payloads: it never holds a record, but every event takes sixteen
// bytes of it, so that positions count events, and between two of them there is room for the first of an epoch.
type counted struct {
	events   *uint64
	consumer uint64
}

const eventBytes = 16

func newCounted(events *uint64) *counted {
	return &counted{events: events, consumer: eventBytes * atomic.LoadUint64(events)}
}

func (c *counted) Next(uint64, *Record) (bool, error) { return false, nil }

func (c *counted) Producer() uint64 { return eventBytes * atomic.LoadUint64(c.events) }

func (c *counted) Consumer() uint64 { return atomic.LoadUint64(&c.consumer) }

func (c *counted) Release(offset uint64) {
	if offset > c.Consumer() {
		atomic.StoreUint64(&c.consumer, offset)
	}
}

// RingBytes: it is never full.
func (c *counted) RingBytes() int { return 1 << 62 }

func (c *counted) unmap() error { return nil }
