package nbd

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ClientConfig says what to connect to.
type ClientConfig struct {
	Export string // "" is the server's default
	// TLS, if set, is required of the server. Its ServerName is the caller's to set.
	TLS *tls.Config
	// Contexts are metadata contexts to ask for beside base:allocation, as "qemu:dirty-bitmap:xfer".
	Contexts []string
}

// Client is one connection to one export. It may be used by many goroutines; their requests are in flight
// together. A Client is a Backend and a Writer.
type Client struct {
	nc   net.Conn
	info exportInfo

	slots chan struct{} // requests in flight
	turn  chan struct{} // holds a token while a request is being written

	mu     sync.Mutex
	calls  map[uint64]*call
	cookie uint64
	lost   error         // why the connection is of no more use
	dead   chan struct{} // closed when lost is set

	reader sync.WaitGroup
}

var (
	_ Backend = (*Client)(nil)
	_ Writer  = (*Client)(nil)
)

// exportInfo is what the handshake came to.
type exportInfo struct {
	size       uint64
	flags      uint16
	minBlock   uint32
	maxPayload uint32
	structured bool
	contexts   map[uint32]string
}

const (
	clientInFlight = 64
	goodbyeTimeout = time.Second

	opConnect = "nbd: connect"
	opRequest = "nbd: request"
)

// Dial connects to an NBD server and opens an export.
func Dial(ctx context.Context, network, address string, cfg ClientConfig) (*Client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fault.New(fault.Transient, opConnect, "%w", err)
	}
	return NewClient(ctx, nc, cfg)
}

// NewClient opens an export over nc, which it closes on failure and in Close. ctx bounds the handshake only.
func NewClient(ctx context.Context, nc net.Conn, cfg ClientConfig) (*Client, error) {
	release := closeWhenDone(ctx, nc)
	h := &clientHaggle{nc: nc}
	err := h.choose(ctx, cfg)
	release()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			return nil, fault.New(fault.Transient, opConnect, "%w", context.Cause(ctx))
		}
		return nil, err
	}
	return startClient(h.nc, h.info), nil
}

func startClient(nc net.Conn, info exportInfo) *Client {
	c := &Client{
		nc:    nc,
		info:  info,
		slots: make(chan struct{}, clientInFlight),
		turn:  make(chan struct{}, 1),
		calls: make(map[uint64]*call),
		dead:  make(chan struct{}),
	}
	c.reader.Go(func() { c.fail(c.readReplies(newReplyReader(nc))) })
	return c
}

// List asks the server behind nc for its exports and closes nc.
func List(ctx context.Context, nc net.Conn, tlsConfig *tls.Config) ([]Listing, error) {
	defer nc.Close()
	defer closeWhenDone(ctx, nc)()
	h := &clientHaggle{nc: nc}
	if err := h.start(ctx, tlsConfig); err != nil {
		return nil, err
	}
	return h.list()
}

// Size is the size of the export.
func (c *Client) Size() int64 { return int64(c.info.size) }

// ReadOnly reports whether the server takes no changes.
func (c *Client) ReadOnly() bool { return c.info.flags&flagReadOnly != 0 }

// MultiConn reports whether several connections to the export may be used as one.
func (c *Client) MultiConn() bool { return c.info.flags&flagCanMultiConn != 0 }

// Structured reports whether the server sends structured replies, hence holes as holes.
func (c *Client) Structured() bool { return c.info.structured }

// HasContext reports whether the server granted a metadata context.
func (c *Client) HasContext(name string) bool {
	for _, n := range c.info.contexts {
		if n == name {
			return true
		}
	}
	return false
}

// Close says goodbye, closes the connection and waits for what the client started. Requests in flight fail.
func (c *Client) Close() error {
	c.goodbye()
	c.fail(fault.New(fault.Conflict, opRequest, "the client is closed"))
	c.reader.Wait()
	return nil
}

// goodbye is a courtesy: the server sees the end of the connection either way. Nothing is sent afterwards,
// so the turn is kept.
func (c *Client) goodbye() {
	patience := time.NewTimer(goodbyeTimeout)
	defer patience.Stop()
	select {
	case c.turn <- struct{}{}:
	case <-c.dead: // by an earlier goodbye, or there is nobody to say it to
		return
	case <-patience.C: // a write is stuck
		return
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(goodbyeTimeout)); err != nil {
		return
	}
	var b [requestSize]byte
	request{cmd: cmdDisc}.encode(&b)
	_, _ = c.nc.Write(b[:]) // a courtesy
}

// fail ends the connection; the first reason stays.
func (c *Client) fail(why error) {
	c.mu.Lock()
	if c.lost == nil {
		c.lost = why
		close(c.dead)
	}
	why = c.lost
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	c.nc.Close()
	for _, call := range calls {
		call.finish(why)
	}
}

// lostBecause is why the connection is of no more use, nil while it is.
func (c *Client) lostBecause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}
