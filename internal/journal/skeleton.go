package journal

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

var errSkeleton = fault.New(fault.Unsupported, "journal", "being written")

// Journal is one source server's journal, open for appending by one writer and for reading by many.
type Journal struct{}

// Create makes the journal of a server with these disks in dir and opens it. A dir that holds one is a Conflict.
func Create(fs vfs.FS, dir string, disks []wire.Disk, o Options) (*Journal, error) {
	return nil, errSkeleton
}

// Open locks, verifies and opens the journal in dir: NotFound when there is none, Corruption naming segment and offset.
func Open(fs vfs.FS, dir string, o Options) (*Journal, error) { return nil, errSkeleton }

// Remove deletes the journal in dir and dir itself. It is idempotent; a journal that is open is a Conflict.
func Remove(fs vfs.FS, dir string) error { return errSkeleton }

// ID is random and made with the journal.
func (j *Journal) ID() string { return "" }

// Append writes a frame. It is durable and visible to readers only after Sync.
func (j *Journal) Append(f wire.Frame) error { return errSkeleton }

// Sync makes everything appended so far durable and visible.
func (j *Journal) Sync() error { return errSkeleton }

// State is what the journal durably holds.
func (j *Journal) State() State { return State{} }

// Intervals lists what is recoverable, oldest first.
func (j *Journal) Intervals() []Interval { return nil }

// At is the state at instant t. NotFound: nothing is recoverable at t, the hint names the nearest instants that are.
// Transient: t is not replicated yet.
func (j *Journal) At(t time.Time) (Point, error) { return Point{}, errSkeleton }

// Before is the newest recoverable state at or before t.
func (j *Journal) Before(t time.Time) (Point, error) { return Point{}, errSkeleton }

// Latest is the newest recoverable state.
func (j *Journal) Latest() (Point, error) { return Point{}, errSkeleton }

// Check turns a position into a Point if it is recoverable.
func (j *Journal) Check(position uint64) (Point, error) { return Point{}, errSkeleton }

// View is the disks at p, immutable from then on.
func (j *Journal) View(ctx context.Context, p Point) (*View, error) { return nil, errSkeleton }

// Close ends the journal; Views of it fail from then on.
func (j *Journal) Close() error { return nil }

// View is the state of all disks at one Point. It is safe for concurrent use.
type View struct{}

// Extent is a run of a disk; a hole reads as zeroes.
type Extent struct {
	Offset, Length int64
	Hole           bool
}

// Point is the state that this View shows.
func (v *View) Point() Point { return Point{} }

// Disks of the server at that point.
func (v *View) Disks() []wire.Disk { return nil }

// ReadAt fills p from off of a disk, or fails: damage is a Corruption that names segment, offset, disk and range.
func (v *View) ReadAt(disk uint16, p []byte, off int64) error { return errSkeleton }

// Extents covers [off, off+length) of a disk without gaps, in order, neighbours differing in kind.
func (v *View) Extents(disk uint16, off, length int64) ([]Extent, error) { return nil, errSkeleton }

// Close lets go of the View.
func (v *View) Close() error { return nil }

// Report is what Verify found.
type Report struct {
	ID                        string
	Segments, Frames, Extents int
	Bytes                     int64
	TornBytes                 int64   // after the last good frame of the last segment; harmless
	Problems                  []error // each a Corruption that names segment and offset
}

// Verify checks every byte of a journal that is not open, and changes nothing.
func Verify(ctx context.Context, fs vfs.FS, dir string) (Report, error) { return Report{}, errSkeleton }
