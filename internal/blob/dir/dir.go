// Package dir keeps blobs as files of a local directory, through the one door to the file system.
//
//	<root>/<name>              an object
//	<root>/<name>.<n>.tmp      one that is being written
//
// A file gets its name only after it is whole and synced, and Commit returns only after the name is synced, so a crash
// leaves objects, whole, and temporary files, which New removes. One process owns a root; the owner's lock is its
// caller's business.
//
// Whoever chooses where a journal's layers live imports it.
package dir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// maxHandles bounds the files that are kept open for reading.
const maxHandles = 256

// Store implements blob.Store.
type Store struct {
	fs      vfs.FS
	root    string
	handles handles

	mu   sync.Mutex // held where a name or a directory comes or goes, so that what was checked stays true
	next uint64     // number of the next temporary file
}

// New opens the store in root, which is made when missing, and removes what a crash left half-written.
func New(fsys vfs.FS, root string) (*Store, error) {
	s := &Store{fs: fsys, root: path.Clean(root)}
	s.handles.init(fsys)
	if err := fsys.MkdirAll(s.root); err != nil {
		return nil, vfs.Fault("dir: open", err)
	}
	err := s.walk(s.root, func(name string, _ int64) error {
		if !strings.HasSuffix(name, blob.Temporary) {
			return nil
		}
		return s.fs.Remove(name)
	})
	if err != nil {
		return nil, vfs.Fault("dir: open", err)
	}
	return s, nil
}

// Close closes the files that are kept open. The store must not be used after.
func (s *Store) Close() error { return vfs.Fault("dir: close", s.handles.close()) }

// walk visits every file below dir. What disappears meanwhile is passed over.
func (s *Store) walk(dir string, visit func(name string, size int64) error) error {
	names, err := s.fs.List(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, base := range names {
		name := path.Join(dir, base)
		info, err := s.fs.Stat(name)
		switch {
		case missing(err):
			continue
		case err != nil:
			return err
		case info.Dir && base != "lost+found":
			err = s.walk(name, visit)
		case !info.Dir:
			err = visit(name, info.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) path(name string) string { return path.Join(s.root, name) }

func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Transient, "dir: "+name, "%w", err)
	}
	return blob.CheckName(name)
}

// ReadAt implements blob.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	if err := blob.CheckRange(p, off); err != nil {
		return err
	}
	return vfs.Fault("dir: read "+name, s.handles.readAt(s.path(name), p, off))
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, name string) (int64, error) {
	if err := check(ctx, name); err != nil {
		return 0, err
	}
	size, err := statFile(s.fs, s.path(name))
	return size, vfs.Fault("dir: stat "+name, err)
}

// statFile is the size of a file. What is no file, or below one, does not exist.
func statFile(fsys vfs.FS, name string) (int64, error) {
	info, err := fsys.Stat(name)
	if err == nil && info.Dir || missing(err) {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return info.Size, err
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// List implements blob.Store. Files that cannot be objects are not shown.
func (s *Store) List(ctx context.Context, prefix string) ([]blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Transient, "dir: list", "%w", err)
	}
	if err := blob.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	var found []blob.Info
	below := path.Dir(prefix + "x") // the directory that holds every match
	err := s.walk(s.path(below), func(file string, size int64) error {
		name := strings.TrimPrefix(strings.TrimPrefix(file, s.root), "/")
		if strings.HasPrefix(name, prefix) && blob.CheckName(name) == nil {
			found = append(found, blob.Info{Name: name, Size: size})
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, vfs.Fault("dir: list", err)
	}
	slices.SortFunc(found, func(a, b blob.Info) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// Delete implements blob.Store. The directory is synced even if the file is gone already: a Delete before this one may
// have got no further.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	file := s.path(name)
	_, err := statFile(s.fs, file)
	if err == nil {
		err = s.fs.Remove(file)
	}
	s.handles.forget(file) // after the removal, so that no reader brings the removed file back
	if err = ignoreMissing(err); err == nil {
		err = s.fs.SyncDir(path.Dir(file))
	}
	if err == nil {
		err = s.prune(path.Dir(file))
	}
	return vfs.Fault("dir: delete "+name, ignoreMissing(err))
}

// prune removes directories that became empty.
func (s *Store) prune(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir != s.root {
		names, err := s.fs.List(dir)
		if err != nil || len(names) > 0 {
			return ignoreMissing(err)
		}
		if err := s.fs.SyncDir(dir); err != nil {
			return ignoreMissing(err)
		}
		if err := s.fs.Remove(dir); err != nil {
			return ignoreMissing(err)
		}
		dir = path.Dir(dir)
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
