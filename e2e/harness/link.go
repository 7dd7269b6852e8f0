package harness

import (
	"context"
	"io"
	"net"
	"sync"

	"golang.org/x/time/rate"
)

// Link is a TCP path that can be cut and joined again, for the way between an agent and a replication server. One that is shaped
// can be slow as well, or pass nothing while its connections stay.
type Link struct {
	Addr     string
	to       string
	listener net.Listener
	shaped   bool
	pace     *rate.Limiter
	ctx      context.Context
	mu       sync.Mutex
	cut      bool
	open     chan struct{} // closed while bytes pass
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// NewLink listens on a loopback port and passes connections on to another.
func NewLink(t T, to string) *Link { t.Helper(); return newLink(t, to, false) }

// NewShapedLink is a link that passes bytes in small pieces, to be slow when asked to.
func NewShapedLink(t T, to string) *Link { t.Helper(); return newLink(t, to, true) }

func newLink(t T, to string, shaped bool) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &Link{Addr: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]bool{}, shaped: shaped, ctx: ctx,
		pace: rate.NewLimiter(rate.Inf, shapedPiece), open: make(chan struct{})}
	close(k.open)
	k.wg.Go(k.accept)
	t.Cleanup(func() {
		l.Close()
		cancel()
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
			k.copy(p[0], p[1])
			p[0].Close()
			p[1].Close()
		})
	}
	both.Wait()
}

const shapedPiece = 8 << 10

// copy ends without a word: a cut is the purpose.
func (k *Link) copy(to, from net.Conn) {
	if !k.shaped {
		_, _ = io.Copy(to, from)
		return
	}
	buf := make([]byte, shapedPiece)
	for {
		n, err := from.Read(buf)
		if err != nil || !k.passes(n) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// passes waits until n bytes may go on; false is that they never will.
func (k *Link) passes(n int) bool {
	k.mu.Lock()
	open := k.open
	k.mu.Unlock()
	select {
	case <-open:
	case <-k.ctx.Done():
		return false
	}
	return k.pace.WaitN(k.ctx, n) == nil
}

// Pace lets a number of bytes a second through, both ways together; 0 is all.
func (k *Link) Pace(bytesPerSecond int) {
	limit := rate.Inf
	if bytesPerSecond > 0 {
		limit = rate.Limit(bytesPerSecond)
	}
	k.pace.SetLimit(limit)
}

// Block lets nothing through and breaks nothing: neither side is told. Unblock ends it.
func (k *Link) Block() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open = make(chan struct{})
}

// Unblock ends Block.
func (k *Link) Unblock() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.open)
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
