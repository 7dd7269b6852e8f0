// Package volume shows one disk of a source server at one recoverable position as a read-only device, and shares the
// work of finding its blocks between all that look at the same position.
//
// The NBD server's adapter, exports to files and launches import it.
package volume

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

// Choice says which state is wanted: the zero Choice the newest recoverable, else the one at an instant or the one at
// a position. At most one field is set.
type Choice struct {
	At       time.Time
	Position uint64
}

// Extent is a run of the device; a hole reads as zeroes.
type Extent = journal.Extent

// Volume is one disk at one point. It is safe for concurrent use.
type Volume struct {
	o      *Opener
	s      *shared
	disk   uint16
	size   int64
	closed atomic.Bool
}

// Point that the volume shows.
func (v *Volume) Point() journal.Point { return v.s.view.Point() }

// Size of the disk in bytes.
func (v *Volume) Size() int64 { return v.size }

// ReadAt fills p from off; all of it or an error.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.usable(ctx); err != nil {
		return err
	}
	return v.s.view.ReadAt(ctx, v.disk, p, off)
}

// ReadSparse is ReadAt that tells holes, in order, instead of filling them. Zeroes may be told so or filled in.
func (v *Volume) ReadSparse(ctx context.Context, p []byte, off int64, hole func(off, length int64)) error {
	if err := v.usable(ctx); err != nil {
		return err
	}
	return v.s.view.ReadSparse(ctx, v.disk, p, off, hole)
}

// Extents covers [off, off+length) without gaps, in order, neighbours differing in kind.
func (v *Volume) Extents(ctx context.Context, off, length int64) ([]Extent, error) {
	if err := v.usable(ctx); err != nil {
		return nil, err
	}
	return v.s.view.Extents(ctx, v.disk, off, length)
}

func (v *Volume) usable(ctx context.Context) error {
	if v.closed.Load() {
		return fault.New(fault.Conflict, "volume: read", "closed")
	}
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Transient, "volume: read", "%w", err)
	}
	return nil
}

// Close releases the volume; reads on their way still finish. It is idempotent.
func (v *Volume) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	return v.o.release(v.s)
}
