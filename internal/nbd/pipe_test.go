package nbd

import (
	"context"
	"net"
	"sync"

	"github.com/stretchr/testify/require"
)

// connectPiped is a client of srv over an in-memory connection that ends with ctx.
func connectPiped(ctx context.Context, t require.TestingT, conns *sync.WaitGroup, srv *Server) *Client {
	c, err := NewClient(ctx, piped(ctx, conns, srv), ClientConfig{})
	require.NoError(t, err)
	return c
}

// plainPiped is connectPiped with simple replies only.
func plainPiped(ctx context.Context, t require.TestingT, conns *sync.WaitGroup, srv *Server) *Client {
	h := &clientHaggle{nc: piped(ctx, conns, srv), info: exportInfo{minBlock: 1, maxPayload: maxPayload}}
	require.NoError(t, h.start(ctx, nil))
	require.NoError(t, h.exportName(""))
	return startClient(h.nc, h.info)
}

func piped(ctx context.Context, conns *sync.WaitGroup, srv *Server) net.Conn {
	ours, theirs := net.Pipe()
	conns.Go(func() { srv.ServeConn(ctx, theirs) })
	return ours
}
