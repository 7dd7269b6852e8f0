package cache

import (
	"context"

	"github.com/understudy-dr/understudy/internal/blob"
)

// Create implements blob.Store. What is written is kept as well: it is what will be read next, by a merge or a
// recovery.
func (s *Store) Create(ctx context.Context, name string) (blob.Writer, error) {
	w, err := s.store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &writer{Writer: w, store: s, name: name, object: s.newObject()}, nil
}

// writer passes on to the store's writer. Its pages belong to an object without a name until that exists.
type writer struct {
	blob.Writer
	store  *Store
	name   string
	object *object
	page   uint32
	buf    []byte // of the page that is not full
	done   bool
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.done {
		return n, err
	}
	for rest := p[:n]; len(rest) > 0; {
		take := min(len(rest), pageSize-len(w.buf))
		w.buf, rest = append(w.buf, rest[:take]...), rest[take:]
		if len(w.buf) == pageSize {
			w.flush()
		}
	}
	w.object.size += int64(n)
	return n, err
}

func (w *writer) flush() {
	w.store.keep(w.object, w.page, w.buf)
	w.page++
	w.buf = w.buf[:0]
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) error {
	err := w.Writer.Commit(ctx)
	if w.done {
		return err
	}
	if err == nil && len(w.buf) > 0 {
		w.flush()
	}
	w.end(err == nil)
	return err
}

// Abort implements blob.Writer.
func (w *writer) Abort() {
	w.Writer.Abort()
	if !w.done {
		w.end(false)
	}
}

// end gives the object its name, or forgets it.
func (w *writer) end(committed bool) {
	w.done, w.buf = true, nil
	s := w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if !committed {
		s.forget(w.object)
		return
	}
	s.forget(s.objects[w.name])
	w.object.name = w.name
	s.objects[w.name] = w.object
}
