// Package volume shows one disk of a source server at one recoverable position as a read-only device, and shares the
// work of finding its blocks between all that look at the same position.
//
// The NBD server's adapter, exports to files and launches import it.
package volume

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

// Choice says which state is wanted: the zero Choice the newest recoverable, or the one at an instant, or the one at
// a position. At most one field is set.
type Choice struct {
	At       time.Time
	Position uint64
}

// Extent is a run of the device; a hole reads as zeroes.
type Extent = journal.Extent

// Options of an Opener.
type Options struct {
	// IdleViews that nobody looks at are kept open for the next to come; default 4.
	IdleViews int
}

// Journals finds the journal of a source server; sink.Server's method Journal is one.
type Journals func(serverID string) (*journal.Journal, error)

// Opener opens volumes.
type Opener struct{}

// NewOpener returns an Opener on these journals.
func NewOpener(j Journals, o Options) *Opener { return &Opener{} }

var errSkeleton = fault.New(fault.Unsupported, "volume", "being written")

// Resolve turns a choice into a point without opening it.
func (o *Opener) Resolve(serverID string, c Choice) (journal.Point, error) {
	return journal.Point{}, errSkeleton
}

// Open opens one disk of a server at a choice.
func (o *Opener) Open(ctx context.Context, serverID string, disk uint16, c Choice) (*Volume, error) {
	return nil, errSkeleton
}

// Close lets go of idle views. Volumes still open stay usable until they are closed.
func (o *Opener) Close() error { return nil }

// Volume is one disk at one point. It is safe for concurrent use.
type Volume struct{}

// Point that the volume shows.
func (v *Volume) Point() journal.Point { return journal.Point{} }

// Size of the disk in bytes.
func (v *Volume) Size() int64 { return 0 }

// ReadAt fills p from off; all of it or an error.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error { return errSkeleton }

// Extents covers [off, off+length) without gaps, in order.
func (v *Volume) Extents(ctx context.Context, off, length int64) ([]Extent, error) {
	return nil, errSkeleton
}

// Close releases the volume. It is idempotent.
func (v *Volume) Close() error { return nil }
