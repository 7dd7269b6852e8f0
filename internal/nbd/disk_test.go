package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

const diskBlock = 4096

// disk is a Backend and Writer in memory that knows which of its blocks are holes.
type disk struct {
	mu      sync.RWMutex
	data    []byte
	used    []bool
	flushes atomic.Int64
	trims   atomic.Int64
	kept    atomic.Int64 // zeroed without leave to trim
	fault   func(ctx context.Context, off, length int64) error
}

func newDisk(size int64) *disk {
	return &disk{data: make([]byte, size), used: make([]bool, (size+diskBlock-1)/diskBlock)}
}

func (d *disk) Size() int64 { return int64(len(d.data)) }

func (d *disk) check(ctx context.Context, off, length int64) error {
	if off < 0 || length <= 0 || off+length > d.Size() {
		return errors.New("the server let a range outside the disk through")
	}
	if d.fault != nil {
		return d.fault(ctx, off, length)
	}
	return nil
}

func (d *disk) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.check(ctx, off, int64(len(p))); err != nil {
		return err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	copy(p, d.data[off:])
	return nil
}

// Extents answers block by block, runs past the end of the range and stops after eight: all that a
// backend may do.
func (d *disk) Extents(_ context.Context, off, length int64) ([]Extent, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []Extent
	for end := off + length; off < end && len(out) < 8; {
		n := min(diskBlock-off%diskBlock, d.Size()-off)
		out = append(out, Extent{Length: n, Hole: !d.used[off/diskBlock]})
		off += n
	}
	return out, nil
}

func (d *disk) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := d.check(ctx, off, int64(len(p))); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.data[off:], p)
	for b := off / diskBlock; b <= (off+int64(len(p))-1)/diskBlock; b++ {
		d.used[b] = true
	}
	return nil
}

func (d *disk) Zero(ctx context.Context, off, length int64, mayTrim bool) error {
	if err := d.check(ctx, off, length); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.data[off : off+length])
	if !mayTrim {
		d.kept.Add(1)
		return nil
	}
	for b := (off + diskBlock - 1) / diskBlock; (b+1)*diskBlock <= off+length; b++ {
		d.used[b] = false
	}
	return nil
}

func (d *disk) Trim(ctx context.Context, off, length int64) error {
	d.trims.Add(1)
	return d.Zero(ctx, off, length, true)
}

func (d *disk) Flush(context.Context) error {
	d.flushes.Add(1)
	return nil
}

// holds requires the content of d to be that of other, holes included if so wanted.
func (d *disk) holds(t testing.TB, other *disk, holes bool) {
	t.Helper()
	d.mu.RLock()
	defer d.mu.RUnlock()
	require.True(t, bytes.Equal(other.data, d.data), "content differs")
	if holes {
		require.Equal(t, other.used, d.used, "holes differ")
	}
}

// at is the byte at off.
func (d *disk) at(off int64) byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.data[off]
}

// fill writes a recognisable pattern to every third stretch of blocks, so that holes and data alternate.
func (d *disk) fill(t testing.TB, seed byte) {
	const stretch = 16 * diskBlock
	for off := int64(0); off+stretch <= d.Size(); off += 3 * stretch {
		p := make([]byte, stretch)
		for i := range p {
			p[i] = byte(i>>8) ^ byte(i) ^ seed | 1
		}
		require.NoError(t, d.WriteAt(context.Background(), p, off))
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// listen starts srv on a unix socket for the length of the test and returns the socket's path.
func listen(t testing.TB, srv *Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nbd.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	serveOn(t, srv, l)
	return path
}

func serveOn(t testing.TB, srv *Server, l net.Listener) {
	if srv.Log == nil {
		srv.Log = quiet()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func dial(t testing.TB, path string, cfg ClientConfig) *Client {
	t.Helper()
	c, err := Dial(context.Background(), "unix", path, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}
