// Package blob is where the journal keeps what it will never change again: objects that are written once, read by
// range, and deleted. Package dir keeps them in a local directory, s3 in object storage, and cache holds a bounded
// local copy of what an expensive store was asked for.
//
// The journal and the commands that open one import it; only app/serve and those commands choose an implementation.
package blob

import (
	"context"
	"io"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Store keeps objects. It is safe for concurrent use; the errors are faults. As in a file system, "a" and "a/b" do not
// both exist: who gives names sees to it.
//
// A name belongs to the one process that owns what the name is part of. Stores refuse to replace an object, so an
// owner that was superseded cannot do harm, but they do not arbitrate between two writers that are both alive.
type Store interface {
	// Create begins a new object, which ctx accompanies until Commit. Nothing of it is visible before.
	Create(ctx context.Context, name string) (Writer, error)
	// ReadAt fills p from off. An object that ends before is a fault.Corruption, one that does not exist a
	// fault.NotFound.
	ReadAt(ctx context.Context, name string, p []byte, off int64) error
	// Stat tells an object's size.
	Stat(ctx context.Context, name string) (int64, error)
	// List finds the objects whose names begin with prefix, sorted by name. The prefix is a string, not a directory:
	// "a/b" finds "a/bc".
	List(ctx context.Context, prefix string) ([]Info, error)
	// Delete removes an object, durably. One that does not exist is no error.
	Delete(ctx context.Context, name string) error
}

// Writer makes one object. It is for one goroutine.
type Writer interface {
	// Write appends. What it says about failure may come late: only Commit tells.
	io.Writer
	// Commit makes the object visible, whole and durable. If the name exists it is a fault.Conflict and the object
	// that is there stays. After another error the object may exist, whole, or not at all: delete it or take another
	// name.
	Commit(ctx context.Context) error
	// Abort forgets what was written. After Commit it does nothing, so it can be deferred.
	Abort()
}

// Info describes an object.
type Info struct {
	Name string
	Size int64
}

// Bounds of names, so that every name fits a file system and an object store, below any Sub.
const (
	maxName    = 700
	maxElement = 200
)

// Temporary is how no name may end: stores mark what is not committed with it.
const Temporary = ".tmp"

// CheckName refuses a name that some store could not keep: names are slash paths whose elements are of [a-z0-9._-],
// do not begin with a dot, and do not end in Temporary.
func CheckName(name string) error {
	if len(name) > maxName {
		return fault.New(fault.Invalid, "blob: name", "%d bytes, at most %d", len(name), maxName)
	}
	for element := range strings.SplitSeq(name, "/") {
		if !validElement(element) || strings.HasSuffix(element, Temporary) {
			return fault.New(fault.Invalid, "blob: name", "%q cannot be the name of an object", name)
		}
	}
	return nil
}

// CheckPrefix refuses a prefix that no name can begin with.
func CheckPrefix(prefix string) error {
	last := prefix
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		if err := CheckName(prefix[:i]); err != nil {
			return err
		}
		last = prefix[i+1:]
	}
	if last != "" && !validElement(last) || len(prefix) > maxName {
		return fault.New(fault.Invalid, "blob: prefix", "no name begins with %q", prefix)
	}
	return nil
}

func validElement(s string) bool {
	if s == "" || s[0] == '.' || len(s) > maxElement {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// CheckRange refuses a range that no object has.
func CheckRange(p []byte, off int64) error {
	if off < 0 || off > (1<<63-1)-int64(len(p)) {
		return fault.New(fault.Invalid, "blob: read", "%d bytes from %d", len(p), off)
	}
	return nil
}

// Put stores data as one object.
func Put(ctx context.Context, s Store, name string, data []byte) error {
	w, err := s.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// Get returns a whole object, which must not be longer than limit.
func Get(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	size, err := s.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fault.New(fault.Corruption, "blob: get "+name, "%d bytes, at most %d make sense", size, limit)
	}
	b := make([]byte, size)
	if err := s.ReadAt(ctx, name, b, 0); err != nil {
		return nil, err
	}
	return b, nil
}
