package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Server exports disks. Its fields are set before the first connection and not changed afterwards.
type Server struct {
	Exports Exports
	// TLS, if set, is required: without it a client may only start TLS or leave. Connections that are
	// secured already (an upgraded HTTPS one) belong to a Server without it.
	TLS *tls.Config
	Log *slog.Logger // slog.Default() if nil

	MaxConns         int           // connections at once; further ones are closed. 64 if 0
	MaxInFlight      int           // requests at once per connection. 32 if 0
	HandshakeTimeout time.Duration // from connecting to choosing an export. 30 s if 0
	StallTimeout     time.Duration // how long a client may leave one reply untaken. 2 min if 0

	conns atomic.Int64
}

const (
	defaultConns     = 64
	defaultInFlight  = 32
	defaultHandshake = 30 * time.Second
	defaultStall     = 2 * time.Minute

	localBuffer = 1 << 20 // what a client on this machine may have to take yet, if the system allows
)

// or is v, or the default if v was left zero.
func or[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// Serve accepts connections until ctx ends or the listener fails, then ends its connections and waits for
// them. It closes l. A ctx that ended is not an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer l.Close()
	defer closeWhenDone(ctx, l)()

	for backoff := acceptBackoffMin; ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			backoff = acceptBackoffMin
			conns.Go(func() { s.serveLogged(ctx, nc) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fault.New(fault.Conflict, "nbd: serve", "listener closed: %w", err)
		default: // out of descriptors, a connection that was reset before it was accepted
			s.log().Warn("nbd: cannot accept a connection", "err", err, "retry_in", backoff)
			if !pause(ctx, backoff) {
				return nil
			}
			backoff = min(2*backoff, acceptBackoffMax)
		}
	}
}

// closeWhenDone closes c when ctx ends, until the returned function is called.
func closeWhenDone(ctx context.Context, c io.Closer) (release func()) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close()
	})
	return func() {
		if !stop() {
			<-closed
		}
	}
}

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// pause is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) serveLogged(ctx context.Context, nc net.Conn) {
	peer := nc.RemoteAddr()
	if err := s.ServeConn(ctx, nc); err != nil && ctx.Err() == nil {
		s.log().Warn("nbd: connection ended", "peer", peer, "err", err)
	}
}

// ServeConn serves one connection and closes it. It returns nil if the client left in an orderly way and
// the context's cause if ctx ended: the connection is then dropped without a word, because a client that
// lost its server connects again, while one that is told of a shutdown fails its guest's I/O.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	defer nc.Close()
	defer s.conns.Add(-1)
	if most := or(s.MaxConns, defaultConns); s.conns.Add(1) > int64(most) {
		return fault.New(fault.Transient, "nbd: serve", "%d connections are open already", most).
			WithHint("close some or raise the limit")
	}
	defer closeWhenDone(ctx, nc)()
	if u, ok := nc.(*net.UnixConn); ok { // of other connections the system finds out by itself
		_ = u.SetWriteBuffer(localBuffer) // the default does as well, but a reply does not fit
	}

	err := s.serve(ctx, nc)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *Server) serve(ctx context.Context, nc net.Conn) error {
	h := &haggle{srv: s, nc: nc}
	defer h.release()
	defer func() { h.nc.Close() }() // over TLS this says goodbye; closing the socket below would not
	if err := nc.SetDeadline(time.Now().Add(or(s.HandshakeTimeout, defaultHandshake))); err != nil {
		return disconnected("nbd: handshake", err)
	}
	chosen, err := h.run(ctx)
	if err != nil || !chosen {
		return err
	}
	if err := h.nc.SetDeadline(time.Time{}); err != nil {
		return disconnected("nbd: handshake", err)
	}
	return newSession(s, h).run(ctx)
}

// disconnected classifies an error of the connection itself. io.EOF stays recognisable.
func disconnected(op string, err error) error {
	return fault.New(fault.Transient, op, "connection lost: %w", err)
}

// orderly turns the end of the stream between two messages into no error.
func orderly(op string, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return disconnected(op, err)
}
