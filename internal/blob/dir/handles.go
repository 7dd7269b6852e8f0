package dir

import (
	"container/list"
	"errors"
	"sync"

	"github.com/understudy-dr/understudy/internal/vfs"
)

// handles keeps the files that were read last open, so that a read is one system call.
type handles struct {
	fs vfs.FS

	mu     sync.Mutex
	byName map[string]*list.Element // of *handle
	order  list.List                // most recently used first
	limit  int
}

// handle is an open file. It is closed when neither the table nor a reader holds it.
type handle struct {
	name string
	open func() (vfs.File, error) // opens once
	refs int                      // under handles.mu

	readers streams
}

func (h *handles) init(fsys vfs.FS) {
	h.fs, h.byName, h.limit = fsys, map[string]*list.Element{}, maxHandles
}

func (h *handles) readAt(name string, p []byte, off int64) error {
	e := h.acquire(name)
	file, err := e.open()
	if err == nil {
		if from, n := e.readers.note(off, int64(len(p))); n > 0 {
			vfs.WillNeed(file, from, n)
		}
		err = vfs.ReadFull(file, p, off)
	} else {
		h.forgetHandle(e) // the name may come to exist
	}
	return errors.Join(err, h.release(e))
}

func openFile(fsys vfs.FS, name string) (vfs.File, error) {
	if _, err := statFile(fsys, name); err != nil {
		return nil, err
	}
	file, err := fsys.Open(name)
	if err == nil {
		vfs.AtRandom(file)
	}
	return file, err
}

func (h *handles) acquire(name string) *handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	el := h.byName[name]
	if el == nil {
		el = h.order.PushFront(&handle{
			name: name, refs: 1,
			open: sync.OnceValues(func() (vfs.File, error) { return openFile(h.fs, name) }),
		})
		h.byName[name] = el
		if h.order.Len() > h.limit {
			h.dropLocked(h.order.Back())
		}
	}
	h.order.MoveToFront(el)
	e := el.Value.(*handle)
	e.refs++
	return e
}

func (h *handles) release(e *handle) error {
	h.mu.Lock()
	e.refs--
	last := e.refs == 0
	h.mu.Unlock()
	if !last {
		return nil
	}
	return e.close()
}

// close is called by the last holder only; the reader that put the handle into the table has opened it.
func (e *handle) close() error {
	file, err := e.open()
	if err != nil {
		return nil
	}
	return file.Close()
}

func (h *handles) dropLocked(el *list.Element) {
	e := el.Value.(*handle)
	h.order.Remove(el)
	delete(h.byName, e.name)
	e.refs--
	if e.refs == 0 {
		_ = e.close() // it was only read
	}
}

func (h *handles) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if el := h.byName[name]; el != nil {
		h.dropLocked(el)
	}
}

func (h *handles) forgetHandle(e *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if el := h.byName[e.name]; el != nil && el.Value == e {
		h.dropLocked(el)
	}
}

func (h *handles) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.order.Len() > 0 {
		h.dropLocked(h.order.Back())
	}
	return nil
}
