package nbd

import (
	"context"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// call is one request of a Client and what has come back for it. The caller may walk away at any time,
// after which its memory is not touched any more; the reply is still followed to its end.
type call struct {
	req  request
	done chan struct{} // closed when the reply is complete or the connection lost
	err  error         // valid once done is closed

	// Only the reader touches these, until the call has succeeded.
	got      coverage
	statuses map[uint32][]Status
	reported error // the first error chunk

	mu  sync.Mutex
	buf []byte // the caller's, for a read; nil once the caller has its answer or has walked away
}

// Status is an extent with the state a metadata context gives it.
type Status struct {
	Length int64
	Flags  uint32
}

// finish gives the caller its answer.
func (c *call) finish(err error) {
	c.abandon()
	c.err = err
	close(c.done)
}

// abandon lets go of the caller's memory.
func (c *call) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = nil
}

// deliver copies data that arrived for export offset off to the caller.
func (c *call) deliver(off uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf != nil {
		copy(c.buf[off-c.req.off:], data)
	}
}

// deliverZeros is deliver for a hole.
func (c *call) deliverZeros(off uint64, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf != nil {
		clear(c.buf[off-c.req.off:][:n])
	}
}

// do sends a request and waits for its reply. buf receives what a read returns, payload goes out with a write.
func (c *Client) do(ctx context.Context, req request, buf, payload []byte) (*call, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.dead:
		return nil, c.lostBecause()
	case <-ctx.Done():
		return nil, canceled(ctx)
	}
	call, err := c.register(req, buf)
	if err != nil {
		<-c.slots
		return nil, err
	}
	// From here on the slot is the reply's: the server still owes one for a request whose caller left.
	if err := c.write(ctx, call, payload); err != nil {
		call.abandon()
		return nil, err
	}
	select {
	case <-call.done:
		return call, call.err
	case <-ctx.Done():
		call.abandon()
		return nil, canceled(ctx)
	}
}

func canceled(ctx context.Context) error {
	return fault.New(fault.Transient, opRequest, "%w", context.Cause(ctx))
}

func (c *Client) register(req request, buf []byte) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return nil, c.lost
	}
	c.cookie++
	req.cookie = c.cookie
	call := &call{req: req, buf: buf, done: make(chan struct{})}
	c.calls[req.cookie] = call
	return call, nil
}

// forget undoes register for a request that was never sent.
func (c *Client) forget(call *call) {
	c.mu.Lock()
	_, waiting := c.calls[call.req.cookie]
	delete(c.calls, call.req.cookie)
	c.mu.Unlock()
	if waiting {
		<-c.slots
	}
}

// complete ends a call whose whole reply has arrived.
func (c *Client) complete(call *call, err error) {
	c.mu.Lock()
	_, waiting := c.calls[call.req.cookie]
	delete(c.calls, call.req.cookie)
	c.mu.Unlock()
	if waiting {
		<-c.slots
		call.finish(err)
	}
}

func (c *Client) pending(cookie uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[cookie]
}

// write sends one request whole. If ctx ends before the first byte, nothing is sent; if it ends in the
// middle, the connection is lost with it, since the server waits for the rest.
func (c *Client) write(ctx context.Context, call *call, payload []byte) error {
	select {
	case c.turn <- struct{}{}:
	case <-call.done: // the connection was lost
		return call.err
	case <-ctx.Done():
		c.forget(call)
		return canceled(ctx)
	}
	defer func() { <-c.turn }()

	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = c.nc.SetWriteDeadline(time.Unix(1, 0)) // a connection that refuses is closed already
	})
	err := c.send(call.req, payload)
	if !stop() {
		<-interrupted
		_ = c.nc.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		return nil
	}
	err = disconnected(opRequest, err)
	c.fail(err)
	if ctx.Err() != nil {
		return canceled(ctx)
	}
	return err
}

func (c *Client) send(req request, payload []byte) error {
	var b [requestSize]byte
	req.encode(&b)
	if _, err := c.nc.Write(b[:]); err != nil {
		return err
	}
	if len(payload) == 0 {
		return nil
	}
	_, err := c.nc.Write(payload)
	return err
}
