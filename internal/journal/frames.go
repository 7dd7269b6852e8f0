package journal

import (
	"container/list"
	"errors"
	"sort"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

const maxHandles = 64

type frameKey struct {
	segment uint32
	offset  uint32
}

// rawFrame is a verified, decompressed frame.
type rawFrame struct {
	key     frameKey
	raw     []byte
	extents []wire.Extent // with data
	starts  []uint32      // of their data in raw
}

func (f *rawFrame) memory() int64 { return int64(cap(f.raw)) + int64(len(f.extents))*44 }

// frameStore reads frames for Views: each is verified and decompressed once, and kept while there is room.
type frameStore struct {
	d     *directory
	limit int64

	mu      sync.Mutex
	used    int64
	lru     *list.List // of *rawFrame, newest first
	byKey   map[frameKey]*list.Element
	handles map[uint32]*handle
	order   *list.List // of *handle, newest first
	closed  bool
}

// handle is an open segment; it is closed when nobody reads from it and the store let go of it.
type handle struct {
	segment uint32
	f       *segFile
	refs    int
	dropped bool
	el      *list.Element
}

func newFrameStore(d *directory, limit int64) *frameStore {
	return &frameStore{
		d: d, limit: limit, lru: list.New(), byKey: map[frameKey]*list.Element{}, handles: map[uint32]*handle{}, order: list.New(),
	}
}

// get returns a frame from the cache or the disk. Two readers may load the same frame at once; one is kept.
func (s *frameStore) get(k frameKey) (*rawFrame, error) {
	s.mu.Lock()
	if el := s.byKey[k]; el != nil {
		s.lru.MoveToFront(el)
		s.mu.Unlock()
		return el.Value.(*rawFrame), nil
	}
	h, err := s.acquire(k.segment)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := load(h.f, k)
	s.mu.Lock()
	defer s.mu.Unlock()
	err = errors.Join(err, s.release(h))
	if err != nil {
		return nil, err
	}
	s.keep(f)
	return f, nil
}

func (s *frameStore) keep(f *rawFrame) {
	if s.closed || s.byKey[f.key] != nil {
		return
	}
	s.byKey[f.key] = s.lru.PushFront(f)
	s.used += f.memory()
	for s.used > s.limit && s.lru.Len() > 1 {
		old := s.lru.Remove(s.lru.Back()).(*rawFrame)
		delete(s.byKey, old.key)
		s.used -= old.memory()
	}
}

func (s *frameStore) acquire(segment uint32) (*handle, error) {
	if s.closed {
		return nil, fault.New(fault.Conflict, "journal: read", "closed")
	}
	h := s.handles[segment]
	if h == nil {
		f, err := s.d.openSegment(uint64(segment))
		if err != nil {
			return nil, err
		}
		h = &handle{segment: segment, f: f}
		h.el = s.order.PushFront(h)
		s.handles[segment] = h
	}
	s.order.MoveToFront(h.el)
	h.refs++
	for s.order.Len() > maxHandles {
		if err := s.drop(s.order.Back().Value.(*handle)); err != nil {
			return nil, errors.Join(err, s.release(h))
		}
	}
	return h, nil
}

func (s *frameStore) release(h *handle) error {
	h.refs--
	if h.refs == 0 && h.dropped {
		return h.f.Close()
	}
	return nil
}

func (s *frameStore) drop(h *handle) error {
	s.order.Remove(h.el)
	delete(s.handles, h.segment)
	h.dropped = true
	if h.refs == 0 {
		return h.f.Close()
	}
	return nil
}

// forget lets go of a segment that is about to be removed.
func (s *frameStore) forget(segment uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for el := s.lru.Front(); el != nil; {
		next := el.Next()
		if f := el.Value.(*rawFrame); f.key.segment == segment {
			s.lru.Remove(el)
			delete(s.byKey, f.key)
			s.used -= f.memory()
		}
		el = next
	}
	if h := s.handles[segment]; h != nil {
		return s.drop(h)
	}
	return nil
}

func (s *frameStore) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.lru.Init()
	s.byKey, s.used = map[frameKey]*list.Element{}, 0
	var errs []error
	for _, h := range s.handles {
		errs = append(errs, s.drop(h))
	}
	return errors.Join(errs...)
}

// load reads one frame and verifies its checksum.
func load(f *segFile, k frameKey) (*rawFrame, error) {
	r, err := newReader(f)
	if err != nil {
		return nil, err
	}
	r.off = int64(k.offset)
	frame, ok, err := r.next()
	if err == nil && !ok {
		err = fault.New(fault.Corruption, "journal: read", "the segment ends before it")
	}
	if err != nil {
		return nil, err
	}
	all, err := frame.ExtentTable(nil)
	if err != nil {
		return nil, err
	}
	raw, err := frame.Payload(nil)
	if err != nil {
		return nil, err
	}
	out := &rawFrame{key: k, raw: raw}
	at := uint32(0)
	for _, x := range all {
		if x.Kind == wire.KindData {
			out.extents = append(out.extents, x)
			out.starts = append(out.starts, at)
			at += uint32(x.Bytes)
		}
	}
	return out, nil
}

// at returns the data of n bytes of a disk from a sector on, which the index says are at off of the payload. The frame's
// own table must agree: a segment that is not the one that was indexed must not give other blocks' bytes.
func (f *rawFrame) at(disk uint16, sector uint64, off, n int64) ([]byte, error) {
	i := sort.Search(len(f.starts), func(i int) bool { return int64(f.starts[i]) > off }) - 1
	// Extents without data share their start with the one after them, which Search finds.
	if i >= 0 {
		x, in := &f.extents[i], off-int64(f.starts[i])
		if x.Disk == disk && x.Sector+uint64(in)/wire.SectorSize == sector && in+n <= int64(x.Bytes) {
			return f.raw[off : off+n], nil
		}
	}
	return nil, fault.New(fault.Corruption, "journal: read", "the frame does not hold what the index says")
}
