package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Create implements blob.Store.
func (s *Store) Create(ctx context.Context, name string) (blob.Writer, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	final := s.path(name)
	if err := s.fs.MkdirAll(path.Dir(final)); errors.Is(err, syscall.ENOTDIR) {
		return nil, fault.New(fault.Invalid, "dir: create "+name, "an object would be the directory of another: %w", err)
	} else if err != nil {
		return nil, vfs.Fault("dir: create "+name, err)
	}
	s.next++
	tmp := fmt.Sprintf("%s.%d%s", final, s.next, blob.Temporary)
	file, err := s.fs.Create(tmp)
	if err != nil {
		return nil, vfs.Fault("dir: create "+name, err)
	}
	return &writer{store: s, name: name, final: final, tmp: tmp, file: file}, nil
}

type writer struct {
	store            *Store
	name, final, tmp string
	file             vfs.File // nil once closed
	size             int64
	err              error // the first failure; nothing is committed after it
	done             bool
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err == nil && w.file == nil {
		w.err = fault.New(fault.Conflict, "dir: write "+w.name, "already committed or aborted")
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.file.WriteAt(p, w.size)
	w.size += int64(n)
	w.err = vfs.Fault("dir: write "+w.name, err)
	return n, w.err
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil && w.err == nil {
		w.err = fault.New(fault.Transient, "dir: commit "+w.name, "%w", err)
	}
	if w.err == nil && w.done {
		w.err = fault.New(fault.Conflict, "dir: commit "+w.name, "already committed or aborted")
	}
	if w.err != nil {
		return w.err
	}
	if err := w.commit(); err != nil {
		w.err = vfs.Fault("dir: commit "+w.name, err)
		w.Abort()
		return w.err
	}
	w.done = true
	return nil
}

func (w *writer) commit() error {
	err := w.file.Sync()
	err = errors.Join(err, w.file.Close())
	w.file = nil
	if err != nil {
		return err
	}
	if err := w.rename(); err != nil {
		return err
	}
	if err := w.store.fs.SyncDir(path.Dir(w.final)); err != nil {
		// A later sync may succeed and still not cover this name: it must not stay.
		return errors.Join(err, w.store.Delete(context.Background(), w.name))
	}
	return nil
}

// rename gives the file its name unless somebody has it.
func (w *writer) rename() error {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	_, err := w.store.fs.Stat(w.final)
	if err == nil {
		return fault.New(fault.Conflict, "", "the object exists")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.store.fs.Rename(w.tmp, w.final)
}

// Abort implements blob.Writer. A temporary file that cannot be removed now is removed by the next New.
func (w *writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	_ = w.store.fs.Remove(w.tmp)
	_ = w.store.prune(path.Dir(w.final))
}
