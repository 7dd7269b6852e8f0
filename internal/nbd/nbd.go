// Package nbd speaks the Network Block Device protocol: a Server that exports disks to QEMU, libnbd
// and the like, and a Client that reads, writes and maps somebody else's export.
//
// It holds no policy. Whoever has a disk to show (a volume at a position, a file, a device) implements
// Backend, and Writer if it may be changed, and hands it over by name through Exports. Import it to serve
// or to pull disks; docs/formats/nbd.md says which parts of the protocol are spoken and why.
package nbd

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Extent is a run of bytes that is either data or reads as zero.
type Extent struct {
	Length int64
	Hole   bool // every byte reads as zero
}

// Backend is a disk that can be read. Its methods are called from many goroutines and are given ranges
// inside [0, Size) only.
type Backend interface {
	// Size is fixed for as long as the export is open.
	Size() int64
	// ReadAt fills p from off, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// Extents describes the disk from off on: consecutive extents, each longer than zero. It may stop
	// short of length, but not before the first extent, and may run past it.
	Extents(ctx context.Context, off, length int64) ([]Extent, error)
}

// SparseReader is a Backend that finds holes as it reads, so that it need not be asked for them before.
type SparseReader interface {
	// ReadSparse is ReadAt, but for holes: it need not fill them, and tells them instead, in order and without overlap. It may
	// also fill them with zeroes and say nothing.
	ReadSparse(ctx context.Context, p []byte, off int64, hole func(off, length int64)) error
}

// Writer is a Backend that can be changed. A call that returned is visible to every later call, on
// whatever connection it comes: the server promises its clients so (multi-conn).
type Writer interface {
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Zero makes the range read as zero. Without mayTrim its space stays allocated.
	Zero(ctx context.Context, off, length int64, mayTrim bool) error
	// Trim says that the content of the range is no longer needed; what it reads as afterwards is open.
	Trim(ctx context.Context, off, length int64) error
	// Flush makes every write that returned before durable.
	Flush(ctx context.Context) error
}

// Cacher is a Backend that can fetch a range ahead of its use.
type Cacher interface {
	Cache(ctx context.Context, off, length int64) error
}

// Export is an opened disk under a name.
type Export struct {
	Name        string
	Description string // for people; may be empty
	Backend     Backend
	ReadOnly    bool   // refuse changes although Backend is a Writer
	Release     func() // called once when the server is done with this Export; may be nil
}

// Listing is an export as clients see it in a list.
type Listing struct {
	Name        string
	Description string
}

// Exports is where a Server finds its disks.
type Exports interface {
	// List names what a client may know of.
	List(ctx context.Context) ([]Listing, error)
	// Open opens the named disk for one connection; "" asks for the default one. fault.NotFound and
	// fault.Denied are told to the client as such.
	Open(ctx context.Context, name string) (*Export, error)
}

// Static is a fixed set of exports. The first is also the default one.
func Static(exports ...Export) Exports { return static(exports) }

type static []Export

func (s static) List(context.Context) ([]Listing, error) {
	list := make([]Listing, 0, len(s))
	for _, e := range s {
		list = append(list, Listing{e.Name, e.Description})
	}
	return list, nil
}

func (s static) Open(_ context.Context, name string) (*Export, error) {
	for _, e := range s {
		if name == "" || e.Name == name {
			return &e, nil
		}
	}
	return nil, fault.New(fault.NotFound, "nbd: open", "no export named %q", name)
}
