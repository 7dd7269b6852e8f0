package source

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Cut is a place in the stream: below it lies every write that had completed when it was taken, above it every write
// that began afterwards.
type Cut struct {
	taken chan error    // whether it was
	done  chan struct{} // closed when what follows is settled

	offset   uint64 // of the ring
	epoch    uint64
	position uint64
	err      error
}

const cutOp = "source: cut"

// Cut takes a cut of a complete epoch. It waits for nothing but Run's goroutine, and touches no disk.
func (s *Source) Cut(ctx context.Context) (*Cut, error) {
	c := &Cut{taken: make(chan error, 1), done: make(chan struct{})}
	select {
	case s.cuts <- c:
		if err := <-c.taken; err != nil {
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Conflict, cutOp, "there is no connection to the replication server")
	}
}

// Position waits until everything below the cut has been sent, and tells its epoch and the last write among it.
func (c *Cut) Position(ctx context.Context) (epoch, position uint64, err error) {
	select {
	case <-c.done:
		return c.epoch, c.position, c.err
	case <-ctx.Done():
		return 0, 0, fault.New(fault.Transient, cutOp, "what was written before it could not be sent in time")
	}
}

// takeCut answers a request. The producer is read before the drop counter: a write that was dropped and has completed is
// counted.
func (x *session) takeCut(c *Cut) {
	e := &x.s.ep
	producer := x.cap.Producer()
	if !x.announced || !e.done || x.tainted || x.cap.Drops() != e.drops {
		c.taken <- fault.New(fault.Conflict, cutOp, "nothing is recoverable now: a baseline is being read").
			WithHint("wait until replication is continuous")
		return
	}
	c.epoch, c.offset = e.number, producer
	x.s.pending = append(x.s.pending, c)
	c.taken <- nil
}

// reached settles the cuts below which everything in front of the ring offset lies, if that has been sent.
func (x *session) reached(offset uint64) {
	s := x.s
	for len(s.pending) > 0 && (s.pending[0].offset <= offset || x.lost(s.pending[0])) {
		c := s.pending[0]
		s.pending = s.pending[1:]
		if c.position = x.position; x.lost(c) {
			c.err = fault.New(fault.Conflict, cutOp, "writes were dropped, or tracking began anew, before it was sent")
		}
		close(c.done)
	}
}

// lost tells that a cut lies behind the end of its epoch.
func (x *session) lost(c *Cut) bool {
	e := &x.s.ep
	return c.epoch != e.number || x.tainted && x.gap < e.position(c.offset)
}

// abandon settles what nobody will send any more.
func (s *Source) abandon() {
	for _, c := range s.pending {
		c.err = fault.New(fault.Transient, cutOp, "replication was stopped before it was sent")
		close(c.done)
	}
	s.pending = nil
}
