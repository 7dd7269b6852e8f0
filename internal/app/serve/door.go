package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"
)

// admission is who may come in by the control port.
type admission struct {
	tls      *tls.Config
	plain    bool          // also who does not speak TLS: API clients of this machine; agents always do
	workers  int           // handshakes that compute at one moment; 0: as many as leave half of the processors
	patience time.Duration // for a peer, in all of its handshake
	log      *slog.Logger
}

const acceptRetry = 100 * time.Millisecond

const recordTypeHandshake = 0x16 // first byte of every TLS connection

// door is a listener whose connections have their TLS handshake behind them. Handshakes take turns: after an outage all
// agents come at once, and when all of their handshakes go on at once on few processors, all of them take longer than anybody
// waits, and are begun again.
type door struct {
	net.Listener
	admission
	turns *turns
	conns chan net.Conn
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func openDoor(ctx context.Context, l net.Listener, a admission) *door {
	if a.workers == 0 {
		a.workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	d := &door{Listener: l, admission: a, turns: newTurns(a.workers), conns: make(chan net.Conn)}
	d.ctx, d.stop = context.WithCancel(ctx)
	d.wg.Go(d.accept)
	return d
}

func (d *door) accept() {
	defer d.stop()
	for {
		c, err := d.Listener.Accept()
		switch {
		case err == nil:
			d.wg.Go(func() { d.receive(c) })
		case d.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely; connections that end give some back
			d.pause()
		}
	}
}

func (d *door) pause() {
	t := time.NewTimer(acceptRetry)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.ctx.Done():
	}
}

// receive hands a connection on, or closes it.
func (d *door) receive(c net.Conn) {
	stop := context.AfterFunc(d.ctx, func() { c.Close() })
	in, err := d.admit(c)
	if !stop() || err != nil {
		if d.ctx.Err() == nil {
			d.log.Debug("not let in", "peer", c.RemoteAddr().String(), "error", err)
		}
		c.Close()
		return
	}
	select {
	case d.conns <- in:
	case <-d.ctx.Done():
		c.Close()
	}
}

// notTLS is what net/http answers too.
const notTLS = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

func (d *door) admit(c net.Conn) (net.Conn, error) {
	g := &guest{Conn: c, ctx: d.ctx, turns: d.turns, patience: d.patience}
	if err := g.hear(); err != nil {
		return nil, err
	}
	if g.unread[0] != recordTypeHandshake {
		if !d.plain {
			_, err := io.WriteString(g, notTLS)
			return nil, errors.Join(errors.New("it does not speak TLS"), err)
		}
		return g, g.letIn()
	}
	defer g.give()
	if err := g.take(); err != nil {
		return nil, err
	}
	secure := tls.Server(g, d.tls)
	if err := secure.Handshake(); err != nil { // ctx closes the connection
		return nil, err
	}
	return secure, g.letIn()
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close waits for those who stand in it.
func (d *door) Close() error {
	d.stop()
	err := d.Listener.Close()
	d.wg.Wait()
	return err
}
