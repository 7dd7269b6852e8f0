package serve

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// guest is a connection before it is let in. It computes only in its turn, and has none while it waits for its peer; so a
// thousand handshakes at once take as long as a thousand in a row, and each ends. What is bounded is how long the peer
// takes: the time until its turn comes is ours.
type guest struct {
	net.Conn
	ctx      context.Context // of the door
	turns    *turns
	patience time.Duration // left for the peer
	turn     bool          // it has one
	begun    bool          // it has had one
	in       bool          // it was let in: reads and writes are the connection's own
	unread   []byte        // came, and was not asked for yet
}

// flight is more than a peer sends before it waits for an answer, the certificate of an agent included.
const flight = 4 << 10

// Read is called by one goroutine at a time: first the handshake's, then whoever the guest was handed to.
func (g *guest) Read(b []byte) (int, error) {
	if len(g.unread) == 0 {
		if g.in {
			return g.Conn.Read(b)
		}
		if err := g.hear(); err != nil {
			return 0, err
		}
		if err := g.take(); err != nil {
			return 0, err
		}
	}
	n := copy(b, g.unread)
	if g.unread = g.unread[n:]; len(g.unread) == 0 {
		g.unread = nil // it may stay connected for long
	}
	return n, nil
}

// Write does not wait in a handshake: its flights are smaller than what the kernel takes.
func (g *guest) Write(b []byte) (int, error) {
	if !g.in {
		if err := g.Conn.SetWriteDeadline(time.Now().Add(g.patience)); err != nil {
			return 0, err
		}
	}
	return g.Conn.Write(b)
}

// hear waits for what the peer says next.
func (g *guest) hear() error {
	g.give()
	began := time.Now()
	if err := g.Conn.SetReadDeadline(began.Add(g.patience)); err != nil {
		return err
	}
	b := make([]byte, flight)
	n, err := g.Conn.Read(b)
	g.patience -= time.Since(began)
	if n > 0 {
		g.unread = b[:n]
		return nil
	}
	return err
}

// take waits for a turn. A peer that has lost patience itself gets none: in a storm most of the work would be for those.
func (g *guest) take() error {
	if err := g.turns.take(g.ctx, g.begun); err != nil {
		return err
	}
	g.turn, g.begun = true, true
	if hungUp(g.Conn) {
		g.give()
		return fault.New(fault.Transient, "serve: admit", "the peer has gone")
	}
	return nil
}

func (g *guest) give() {
	if g.turn {
		g.turn = false
		g.turns.give()
	}
}

// letIn ends the guest's handshake, or its first words in the clear.
func (g *guest) letIn() error {
	g.give()
	g.in = true
	return g.Conn.SetDeadline(time.Time{})
}

// hungUp tells whether the peer has closed a connection of which everything was read.
func hungUp(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil
}
