package wire

import (
	"net"
	"sync"
)

// gatherBytes is more than most frames have on the wire.
const gatherBytes = 256 << 10

// gathering is a connection below TLS. TLS writes a frame as records of 16 KiB, each with a system call and a walk through the
// network stack of its own; while a frame is being sent they are gathered here and go on together.
type gathering struct {
	net.Conn
	mu      sync.Mutex
	holding bool
	held    []byte
}

// Gather wraps a connection that TLS, and a Conn above that, will lie upon.
func Gather(c net.Conn) net.Conn { return &gathering{Conn: c} }

// gatheringBelow is what Gather made of the connection below TLS; nil if it made nothing of it.
func gatheringBelow(c net.Conn) *gathering {
	t, ok := c.(interface{ NetConn() net.Conn })
	if !ok {
		return nil
	}
	g, _ := t.NetConn().(*gathering)
	return g
}

func (g *gathering) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.holding {
		return g.Conn.Write(p)
	}
	if len(g.held)+len(p) > gatherBytes {
		if err := g.pass(); err != nil {
			return 0, err
		}
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

// pass sends what is held.
func (g *gathering) pass() error {
	if len(g.held) == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.held)
	g.held = g.held[:0]
	return err
}

func (g *gathering) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = true
}

func (g *gathering) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = false
	return g.pass()
}
