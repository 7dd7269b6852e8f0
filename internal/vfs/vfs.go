// Package vfs is the one door to the file system for everything that must survive a crash. It is small on purpose:
// what it cannot say (append mode, seeking, permissions) the formats above it do not need, and what it can say a
// test can make fail.
//
// Any engine may import it; tests stand in the door with vfs/vfstest.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/understudy-dr/understudy/internal/fault"
)

// FS is a file system. Names are slash paths; a change of a directory is durable only after SyncDir.
type FS interface {
	// Create makes a new empty file, open for reading and writing. It fails if name exists.
	Create(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Rename moves old over new, atomically.
	Rename(oldName, newName string) error
	// Remove unlinks a file or an empty directory.
	Remove(name string) error
	// List names what is in dir, sorted.
	List(dir string) ([]string, error)
	// MkdirAll makes dir and its parents, and makes the new entries durable.
	MkdirAll(dir string) error
	// Stat describes name.
	Stat(name string) (Info, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Free tells how much room the file system of dir has for us.
	Free(dir string) (Space, error)
	// Lock takes the exclusive lock file name (made when missing) until it is closed or the process ends.
	// A lock held by somebody else is a fault.Conflict.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt follow io.ReaderAt and io.WriterAt; writes are durable after Sync.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// Info describes a file or directory.
type Info struct {
	Size int64
	Dir  bool
}

// Space is the room of a file system in bytes.
type Space struct {
	Free  int64 // what an unprivileged writer may still use
	Total int64
}

// ReadFile returns all of name, which must not be longer than limit.
func ReadFile(f FS, name string, limit int64) (_ []byte, err error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fault.New(fault.Corruption, "vfs: read "+name, "%d bytes, at most %d make sense", size, limit)
	}
	b := make([]byte, size)
	return b, ReadFull(file, b, 0)
}

// WriteAtomic makes name hold exactly data, durably, or leaves it as it was.
func WriteAtomic(f FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := writeNew(f, tmp, data); err != nil {
		_ = f.Remove(tmp)
		return err
	}
	if err := f.Rename(tmp, name); err != nil {
		_ = f.Remove(tmp)
		return err
	}
	return f.SyncDir(filepath.Dir(name))
}

func writeNew(f FS, name string, data []byte) (err error) {
	if err := f.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Sync()
}

// Fault classifies an error of a file system. An error that is classified already keeps its kind.
func Fault(op string, err error) error {
	if err == nil {
		return nil
	}
	if k := fault.KindOf(err); k != fault.Unknown {
		return fault.Wrap(op, err)
	}
	return fault.New(kindOf(err), op, "%w", err)
}

func kindOf(err error) fault.Kind {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.OutOfSpace
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound
	case errors.Is(err, fs.ErrExist):
		return fault.Conflict
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.Denied
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Corruption
	case errors.Is(err, fs.ErrClosed):
		return fault.Conflict
	}
	return fault.Transient
}
