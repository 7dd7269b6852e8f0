package wire

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Conn sends and receives frames. One goroutine may read while others write.
type Conn struct {
	net.Conn
	head  [HeaderSize]byte
	mu    sync.Mutex // writes
	below *gathering // nil without
}

// NewConn wraps a connection.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c, below: gatheringBelow(c)} }

// Send writes whole encoded frames in one go.
func (c *Conn) Send(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.below != nil {
		c.below.hold()
	}
	_, err := c.Write(frame)
	if c.below != nil {
		err = errors.Join(err, c.below.release())
	}
	if err != nil {
		return fault.New(fault.Transient, "wire: send", "%w", err)
	}
	return nil
}

// Receive reads and verifies one frame into buf (grown as needed); the frame aliases the returned buffer.
// A clean end of the stream between frames is io.EOF.
func (c *Conn) Receive(buf []byte) (Frame, []byte, error) {
	if _, err := io.ReadFull(c.Conn, c.head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return Frame{}, buf, io.EOF
		}
		return Frame{}, buf, fault.New(fault.Transient, "wire: receive", "%w", err)
	}
	h, err := ParseHeader(c.head[:])
	if err != nil {
		return Frame{}, buf, err
	}
	if cap(buf) < h.Size() {
		buf = make([]byte, h.Size())
	}
	buf = buf[:h.Size()]
	copy(buf, c.head[:])
	if _, err := io.ReadFull(c.Conn, buf[HeaderSize:]); err != nil {
		return Frame{}, buf, fault.New(fault.Transient, "wire: receive", "%w", err)
	}
	f, err := Parse(buf)
	return f, buf, err
}

// SendRefusal tells the peer why the connection ends. Best effort: the peer may be gone already.
func (c *Conn) SendRefusal(cause error) {
	if m, err := Message(TypeRefuse, 0, 0, 0, 0, Refuse(cause)); err == nil {
		_ = c.Send(m)
	}
}
