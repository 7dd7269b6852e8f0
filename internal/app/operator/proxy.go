package operator

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Proxy serves a remote volume on a local address: each connection is joined to one of its own at the server, which
// speaks NBD itself, so that any NBD client works and several connections run in parallel.
type Proxy struct {
	client   *Client
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
}

// ListenNBD listens on "unix:PATH" or "HOST:PORT" for NBD clients of one disk at a position. What cannot be opened is
// refused here, to whoever asked, and not later to some client that could only be hung up on.
func (c *Client) ListenNBD(ctx context.Context, address, server, device string, position uint64) (*Proxy, error) {
	probe, err := c.OpenVolume(ctx, server, device, position)
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	network, addr := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, addr = "unix", path
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, network, addr)
	if err != nil {
		return nil, fault.New(fault.Invalid, "listen for NBD", "%w", err)
	}
	if network == "unix" {
		if err := os.Chmod(addr, 0o600); err != nil { // the disk's content is nobody else's business
			l.Close()
			return nil, fault.New(fault.Unknown, "listen for NBD", "%w", err)
		}
	}
	return &Proxy{client: c, listener: l, dial: func(ctx context.Context) (net.Conn, error) {
		return c.DialVolume(ctx, server, device, position)
	}}, nil
}

// Addr is what the proxy listens on.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// Serve accepts until ctx ends and waits for its connections. Ending by ctx is not an error.
func (p *Proxy) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	defer p.listener.Close()
	for {
		local, err := p.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fault.New(fault.Unknown, "accept an NBD client", "%w", err)
		}
		wg.Go(func() {
			if err := p.join(ctx, local); err != nil && ctx.Err() == nil {
				slog.Warn("an NBD connection ended", "error", err)
			}
		})
	}
}

// join copies both ways until either side is done.
func (p *Proxy) join(ctx context.Context, local net.Conn) error {
	defer local.Close()
	remote, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer remote.Close()
	stop := context.AfterFunc(ctx, func() { local.Close(); remote.Close() })
	defer stop()
	done := make(chan error, 2)
	pipe := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		// NBD ends with a request of the client and no half-closed state, so the first end is the end.
		local.Close()
		remote.Close()
		done <- err
	}
	go pipe(remote, local)
	go pipe(local, remote)
	first, second := <-done, <-done
	if first == nil || errors.Is(first, net.ErrClosed) || errors.Is(second, net.ErrClosed) {
		return nil
	}
	return fault.New(fault.Transient, "NBD connection", "%w", first)
}
