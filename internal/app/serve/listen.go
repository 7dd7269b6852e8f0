package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// checkInsecure refuses plain HTTP where others could listen.
func checkInsecure(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fault.New(fault.Invalid, "--listen", "%w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fault.New(fault.Invalid, "--insecure-http", "%s is not a loopback address", host).
			WithHint("credentials and disks would cross the network in the clear; leave --insecure-http out")
	}
	return nil
}

const acceptRetry = 100 * time.Millisecond

const recordTypeHandshake = 0x16 // first byte of every TLS connection

// mixedListener takes TLS and plain connections on one port, told apart by their first byte. Agents always speak
// TLS; only API clients on this machine may leave it out.
type mixedListener struct {
	net.Listener
	tls   *tls.Config
	conns chan net.Conn
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func listenMixed(ctx context.Context, l net.Listener, c *tls.Config) *mixedListener {
	m := &mixedListener{Listener: l, tls: c, conns: make(chan net.Conn)}
	m.ctx, m.stop = context.WithCancel(ctx)
	m.wg.Go(m.accept)
	return m
}

func (m *mixedListener) accept() {
	defer m.stop()
	for {
		c, err := m.Listener.Accept()
		switch {
		case err == nil:
			m.wg.Go(func() { m.sort(c) })
		case m.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely; connections that end give some back
			m.pause()
		}
	}
}

func (m *mixedListener) pause() {
	t := time.NewTimer(acceptRetry)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.ctx.Done():
	}
}

func (m *mixedListener) sort(c net.Conn) {
	stop := context.AfterFunc(m.ctx, func() { c.Close() })
	p := &peekedConn{Conn: c, r: bufio.NewReaderSize(c, 1)}
	err := c.SetReadDeadline(time.Now().Add(readHeaderTimeout))
	first, peekErr := p.r.Peek(1)
	if !stop() || err != nil || peekErr != nil || c.SetReadDeadline(time.Time{}) != nil {
		c.Close()
		return
	}
	var out net.Conn = p
	if first[0] == recordTypeHandshake {
		out = tls.Server(p, m.tls)
	}
	select {
	case m.conns <- out:
	case <-m.ctx.Done():
		c.Close()
	}
}

func (m *mixedListener) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (m *mixedListener) Close() error {
	m.stop()
	err := m.Listener.Close()
	m.wg.Wait()
	return err
}

// peekedConn reads first what was peeked at.
type peekedConn struct {
	net.Conn
	r *bufio.Reader
}

func (p *peekedConn) Read(b []byte) (int, error) { return p.r.Read(b) }
