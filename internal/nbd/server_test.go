package nbd

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	shut   atomic.Bool
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	if p.shut.CompareAndSwap(false, true) {
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// Serve is over when its connections are, however long their last request takes.
func TestServeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(4096)
		d.used[0] = true
		reading, release := make(chan struct{}), make(chan struct{})
		d.fault = func(context.Context, int64, int64) error {
			close(reading)
			<-release // deaf to the context
			return nil
		}
		exports := &counted{Exports: Static(Export{Backend: d})}
		l := newPipes()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- (&Server{Exports: exports, Log: quiet()}).Serve(ctx, l) }()
		c, err := NewClient(context.Background(), l.dial(), ClientConfig{})
		require.NoError(t, err)
		lost := make(chan error, 1)
		go func() { lost <- c.ReadAt(context.Background(), make([]byte, 10), 0) }()
		<-reading
		cancel()
		require.Equal(t, fault.Transient, fault.KindOf(<-lost), "the client is let go at once")
		synctest.Wait()
		require.Empty(t, served)
		close(release)
		require.NoError(t, <-served)
		require.EqualValues(t, 1, exports.released.Load())
		require.True(t, l.shut.Load())
		c.Close()
	})
}

// A failing Accept is tried again, less and less often.
func TestServeSurvivesAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- (&Server{Exports: twoExports(), Log: quiet()}).Serve(ctx, l) }()
		began := time.Now()
		for range 12 {
			l.errs <- errors.New("out of descriptors")
		}
		c, err := NewClient(context.Background(), l.dial(), ClientConfig{})
		require.NoError(t, err)
		require.Greater(t, time.Since(began), 4*time.Second)
		require.NoError(t, c.Close())
		cancel()
		require.NoError(t, <-served)
	})
}

func TestServeOnClosedListener(t *testing.T) {
	l := newPipes()
	l.Close()
	err := (&Server{Exports: twoExports(), Log: quiet()}).Serve(context.Background(), l)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
}
