package harness

import (
	"io"
	"net"
	"sync"
)

// Link is a TCP path that can be cut and joined again, for the way between an agent and a replication server.
type Link struct {
	Addr     string
	to       string
	listener net.Listener
	mu       sync.Mutex
	cut      bool
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// NewLink listens on a loopback port and passes connections on to another.
func NewLink(t T, to string) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	k := &Link{Addr: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	t.Cleanup(func() {
		l.Close()
		k.Cut()
		k.wg.Wait()
	})
	return k
}

func (k *Link) accept() {
	for {
		in, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.pass(in) })
	}
}

func (k *Link) pass(in net.Conn) {
	defer in.Close()
	if !k.hold(in) {
		return
	}
	defer k.drop(in)
	out, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer out.Close()
	if !k.hold(out) {
		return
	}
	defer k.drop(out)
	var both sync.WaitGroup
	for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(p[0], p[1]) // a cut is the purpose
			p[0].Close()
			p[1].Close()
		})
	}
	both.Wait()
}

func (k *Link) hold(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return false
	}
	k.conns[c] = true
	return true
}

func (k *Link) drop(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

// Cut breaks what is connected and refuses what comes, until Join.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for c := range k.conns {
		c.Close()
	}
}

// Join lets connections through again.
func (k *Link) Join() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
}
