package operator

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/nbd"
)

// Format of an image file.
type Format string

// The formats that Export writes.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

const (
	exportChunk    = 1 << 20 // bytes asked for at once
	exportInFlight = 8       // requests in flight, so that one round trip does not bound the rate
	extentSpan     = 1 << 30 // bytes of one block status request
)

// Progress is told how far an export has come, from several goroutines.
type Progress func(done, total int64)

// Export writes one disk of a server at a position to a new file. The file appears under its name only when it is whole.
func (c *Client) Export(ctx context.Context, server, device string, position uint64, format Format, out string, progress Progress) error {
	if _, err := os.Stat(out); err == nil {
		return fault.New(fault.Conflict, "export", "%s exists", out).WithHint("choose another name or remove it")
	}
	partial := out + ".partial"
	var err error
	switch format {
	case Raw:
		err = c.exportRaw(ctx, server, device, position, partial, progress)
	case QCOW2:
		err = c.exportQCOW2(ctx, server, device, position, partial)
	default:
		return fault.New(fault.Invalid, "export", "unknown format %q", format).WithHint("raw or qcow2")
	}
	if err == nil {
		err = publish(partial, out)
	} else {
		err = c.unreadable(ctx, server, position, err)
	}
	if err != nil {
		_ = os.Remove(partial) // the export failed already; its half is of no use
	}
	return err
}

// unreadable tells what NBD has no word for: the position is still on offer, yet its bytes cannot be read.
func (c *Client) unreadable(ctx context.Context, server string, position uint64, err error) error {
	if e, ok := errors.AsType[nbd.Errno](err); !ok || e != nbd.EIO {
		return err
	}
	if _, gone := c.Resolve(ctx, server, Choice{Position: position}); gone != nil {
		return gone
	}
	return fault.New(fault.Corruption, "export", "%w", err).
		WithHint("stop the server and run 'understudy journal verify'; other ranges and instants may still be read with 'understudy nbd serve'")
}

// publish makes the finished file durable under its name.
func publish(partial, out string) error {
	if err := syncPath(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, out); err != nil {
		return fault.New(fault.Unknown, "export", "%w", err)
	}
	return syncPath(filepath.Dir(out))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Unknown, "export", "%w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fault.New(fault.Unknown, "export: sync", "%w", err)
	}
	return nil
}

func (c *Client) exportRaw(ctx context.Context, server, device string, position uint64, out string, progress Progress) error {
	disk, err := c.OpenVolume(ctx, server, device, position)
	if err != nil {
		return err
	}
	defer disk.Close()
	f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Invalid, "export", "%w", err)
	}
	defer f.Close()
	if err := f.Truncate(disk.Size()); err != nil {
		return fault.New(fault.OutOfSpace, "export", "%w", err)
	}
	return copyVolume(ctx, disk, f, progress)
}

// copyVolume copies what is not a hole; the file starts as one hole, so holes cost nothing on either side.
func copyVolume(ctx context.Context, disk *nbd.Client, f *os.File, progress Progress) error {
	var done atomic.Int64
	size := disk.Size()
	report := func(n int64) {
		if progress != nil {
			progress(done.Add(n), size)
		}
	}
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(exportInFlight)
	for off := int64(0); off < size && each.Err() == nil; {
		extents, err := disk.Extents(each, off, min(extentSpan, size-off))
		if err != nil {
			_ = g.Wait() // the cause is err; the copies only end
			return err
		}
		for _, e := range extents {
			if e.Hole {
				report(e.Length)
			} else {
				copyRange(each, g, disk, f, off, e.Length, report)
			}
			off += e.Length
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err() // which may have ended the loop while no read was there to fail
}

func copyRange(ctx context.Context, g *errgroup.Group, disk *nbd.Client, f *os.File, off, length int64, report func(int64)) {
	for end := off + length; off < end && ctx.Err() == nil; off += exportChunk {
		at, n := off, min(exportChunk, end-off)
		g.Go(func() error {
			buf := make([]byte, n)
			if err := disk.ReadAt(ctx, buf, at); err != nil {
				return err
			}
			if err := writeSparse(f, buf, at); err != nil {
				return err
			}
			report(n)
			return nil
		})
	}
}

var zeroes [64 << 10]byte

// writeSparse leaves stretches of zeroes as holes.
func writeSparse(f *os.File, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(len(p), len(zeroes))
		if !bytes.Equal(p[:n], zeroes[:n]) {
			if _, err := f.WriteAt(p[:n], off); err != nil {
				return fault.New(fault.OutOfSpace, "export", "%w", err)
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// exportQCOW2 lets qemu-img read the volume over NBD: it is the reference writer of that format.
func (c *Client) exportQCOW2(ctx context.Context, server, device string, position uint64, out string) error {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		return fault.New(fault.Unsupported, "export to qcow2", "qemu-img is not installed").
			WithHint("apt-get install qemu-utils, or export as raw")
	}
	dir, err := os.MkdirTemp("", "understudy-export-")
	if err != nil {
		return fault.New(fault.Unknown, "export", "%w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "nbd")
	serving, stop := context.WithCancel(ctx)
	defer stop()
	p, err := c.ListenNBD(serving, "unix:"+socket, server, device, position)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(serving) }()
	cmd := exec.CommandContext(ctx, tool, "convert", "-f", "raw", "-O", "qcow2", "nbd+unix:///?socket="+socket, out)
	msg, runErr := cmd.CombinedOutput()
	stop()
	if err := <-served; err != nil && runErr == nil {
		return err
	}
	if runErr == nil {
		return nil
	}
	if err := c.readThrough(ctx, server, device, position); err != nil {
		return err // qemu-img is told that much less
	}
	return fault.New(fault.Unknown, "qemu-img convert", "%w: %s", runErr, bytes.TrimSpace(msg))
}

// readThrough reads a whole disk, to learn whether it can be read.
func (c *Client) readThrough(ctx context.Context, server, device string, position uint64) error {
	disk, err := c.OpenVolume(ctx, server, device, position)
	if err != nil {
		return err
	}
	defer disk.Close()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fault.New(fault.Unknown, "export", "%w", err)
	}
	defer f.Close()
	return copyVolume(ctx, disk, f, nil)
}
