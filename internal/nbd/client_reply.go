package nbd

import (
	"bufio"
	"errors"
	"io"

	"github.com/understudy-dr/understudy/internal/fault"
)

func newReplyReader(nc io.Reader) *bufio.Reader { return bufio.NewReaderSize(nc, 256<<10) }

// readReplies hands replies to their calls until the connection ends, and says why it did. It trusts the
// server with nothing: lengths are checked against what was asked before they are believed.
func (c *Client) readReplies(r *bufio.Reader) error {
	scratch := make([]byte, 64<<10)
	for {
		magic, err := r.Peek(4)
		if err != nil {
			return disconnected(opRequest, err)
		}
		switch be.Uint32(magic) {
		case magicSimple:
			err = c.readSimple(r, scratch)
		case magicStructured:
			err = c.readChunk(r, scratch)
		default:
			err = violation(opRequest, "reply magic %#x", be.Uint32(magic))
		}
		if err != nil {
			return err
		}
	}
}

func (c *Client) readSimple(r io.Reader, scratch []byte) error {
	var b [simpleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return disconnected(opRequest, err)
	}
	errno, cookie := Errno(be.Uint32(b[4:])), be.Uint64(b[8:])
	call := c.pending(cookie)
	switch {
	case call == nil:
		return violation(opRequest, "reply to an unknown request")
	case errno != 0:
		return c.settle(call, remote(errno, ""))
	case call.req.cmd == cmdBlockStatus, call.req.cmd == cmdRead && c.info.structured:
		return violation(opRequest, "simple reply where a structured one was due")
	case call.req.cmd == cmdRead:
		if err := call.receive(r, call.req.off, call.req.length, scratch); err != nil {
			return err
		}
	}
	return c.settle(call, nil)
}

// receive reads n bytes of the export from off. The caller's memory is touched only under the call's lock,
// never while waiting for the network, so a caller that walks away has its memory back at once.
func (c *call) receive(r io.Reader, off uint64, n uint32, scratch []byte) error {
	for n > 0 {
		part := scratch[:min(int(n), len(scratch))]
		if _, err := io.ReadFull(r, part); err != nil {
			return disconnected(opRequest, err)
		}
		c.deliver(off, part)
		off, n = off+uint64(len(part)), n-uint32(len(part))
	}
	return nil
}

// remote is an error the server reported.
func remote(e Errno, text string) error {
	if text == "" {
		return fault.New(e.kind(), opRequest, "server: %w", e)
	}
	return fault.New(e.kind(), opRequest, "server: %s: %w", text, e)
}

// settle completes a call. A server that shuts down is left, as it asks.
func (c *Client) settle(call *call, err error) error {
	c.complete(call, err)
	if errors.Is(err, ESHUTDOWN) {
		c.goodbye()
		return err
	}
	return nil
}

// chunk is the header of a structured reply chunk.
type chunk struct {
	typ    uint16
	last   bool
	length uint32
}

func (c *Client) readChunk(r io.Reader, scratch []byte) error {
	var b [chunkSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return disconnected(opRequest, err)
	}
	ch := chunk{typ: be.Uint16(b[6:]), last: be.Uint16(b[4:])&chunkFlagDone != 0, length: be.Uint32(b[16:])}
	call := c.pending(be.Uint64(b[8:]))
	if call == nil || !c.info.structured {
		return violation(opRequest, "chunk for an unknown request")
	}
	if err := c.readPayload(r, call, ch, scratch); err != nil {
		return err
	}
	if !ch.last {
		return nil
	}
	if call.reported == nil {
		if err := c.incomplete(call); err != nil {
			return err
		}
	}
	return c.settle(call, call.reported)
}

// incomplete is why a reply cannot be over yet.
func (c *Client) incomplete(call *call) error {
	switch {
	case call.req.cmd == cmdRead && !call.got.full(int64(call.req.off), int64(call.req.length)):
		return violation(opRequest, "read ended with data missing")
	case call.req.cmd == cmdBlockStatus && len(call.statuses) != len(c.info.contexts):
		return violation(opRequest, "status ended with %d contexts of %d", len(call.statuses), len(c.info.contexts))
	}
	return nil
}

func (c *Client) readPayload(r io.Reader, call *call, ch chunk, scratch []byte) error {
	read, status := call.req.cmd == cmdRead, call.req.cmd == cmdBlockStatus
	switch {
	case ch.typ&chunkErrorBit != 0:
		return call.readError(r, ch)
	case ch.typ == chunkNone && ch.length == 0 && ch.last:
		return nil
	case ch.typ == chunkOffsetData && read && ch.length > 8:
		return call.readData(r, ch, scratch)
	case ch.typ == chunkOffsetHole && read && ch.length == 12:
		return call.readHole(r)
	case ch.typ == chunkBlockStatus && status:
		return c.readStatus(r, call, ch)
	}
	return violation(opRequest, "chunk of type %d and %d bytes for command %d", ch.typ, ch.length, call.req.cmd)
}

// claim checks that a chunk describes a part of the read that nothing described before.
func (c *call) claim(off uint64, n uint32) error {
	start, end := c.req.off, c.req.off+uint64(c.req.length)
	if n == 0 || off < start || off > end || uint64(n) > end-off || !c.got.add(int64(off), int64(n)) {
		return violation(opRequest, "chunk %d+%d in a read of %d+%d", off, n, start, c.req.length)
	}
	return nil
}

func (c *call) readData(r io.Reader, ch chunk, scratch []byte) error {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return disconnected(opRequest, err)
	}
	off, n := be.Uint64(b[:]), ch.length-8
	if err := c.claim(off, n); err != nil {
		return err
	}
	return c.receive(r, off, n, scratch)
}

func (c *call) readHole(r io.Reader) error {
	var b [12]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return disconnected(opRequest, err)
	}
	off, n := be.Uint64(b[:]), be.Uint32(b[8:])
	if err := c.claim(off, n); err != nil {
		return err
	}
	c.deliverZeros(off, n)
	return nil
}

func (c *Client) readStatus(r io.Reader, call *call, ch chunk) error {
	n := int64(ch.length) - 4
	if n <= 0 || n%8 != 0 || n/8 > maxDescriptor {
		return violation(opRequest, "status chunk of %d bytes", ch.length)
	}
	b := make([]byte, ch.length)
	if _, err := io.ReadFull(r, b); err != nil {
		return disconnected(opRequest, err)
	}
	id := be.Uint32(b)
	statuses := make([]Status, 0, n/8)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		s := Status{Length: int64(be.Uint32(b)), Flags: be.Uint32(b[4:])}
		if s.Length == 0 {
			return violation(opRequest, "status of nothing")
		}
		statuses = append(statuses, s)
	}
	_, known := c.info.contexts[id]
	_, twice := call.statuses[id]
	if !known || twice {
		return violation(opRequest, "status for context %d", id)
	}
	if call.statuses == nil {
		call.statuses = make(map[uint32][]Status)
	}
	call.statuses[id] = statuses
	return nil
}

// readError takes any error chunk: all begin alike, and what follows the text may be ignored.
func (c *call) readError(r io.Reader, ch chunk) error {
	if ch.length < 6 || ch.length > maxOption {
		return violation(opRequest, "error chunk of %d bytes", ch.length)
	}
	b := make([]byte, ch.length)
	if _, err := io.ReadFull(r, b); err != nil {
		return disconnected(opRequest, err)
	}
	errno, text, rest := Errno(be.Uint32(b)), int(be.Uint16(b[4:])), b[6:]
	if errno == 0 || text > len(rest) {
		return violation(opRequest, "malformed error chunk")
	}
	if c.reported == nil {
		c.reported = remote(errno, clip(string(rest[:text]), maxString))
	}
	return nil
}
