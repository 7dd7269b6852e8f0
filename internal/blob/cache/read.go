package cache

import (
	"context"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// run is a number of neighbouring pages that are being fetched in one request. Whoever wants one of them waits for it.
type run struct {
	object *object
	first  uint32
	pages  uint32
	done   chan struct{} // closed when data and err are there
	data   []byte
	err    error
}

// ReadAt implements blob.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := blob.CheckName(name); err != nil {
		return err
	}
	if err := blob.CheckRange(p, off); err != nil {
		return err
	}
	o, err := s.object(ctx, name)
	if err != nil {
		return err
	}
	if end := off + int64(len(p)); end > o.size {
		return fault.New(fault.Corruption, "cache: read "+name, "the object has %d bytes, %d were expected at least", o.size, end)
	}
	if len(p) == 0 {
		return nil
	}
	first, last := uint32(off/pageSize), uint32((off+int64(len(p))-1)/pageSize)
	for page := first; page <= last; {
		at := int64(page) * pageSize
		in := max(off-at, 0)
		dst := p[at+in-off : min(at+pageSize-off, int64(len(p)))]
		if s.cached(o, page, dst, int(in)) {
			page++
			continue
		}
		r, mine := s.fetch(o, page, last-page+1)
		select {
		case <-r.done:
		case <-ctx.Done():
			return fault.New(fault.Transient, "cache: read "+name, "%w", ctx.Err())
		}
		if r.err != nil && !mine { // it asked for more than this reader does
			return s.store.ReadAt(ctx, name, p[at+in-off:], at+in)
		}
		if r.err != nil {
			return r.err
		}
		page = r.first + r.pages
		r.copyTo(p, off)
	}
	s.readAhead(o, first, last)
	return nil
}

// copyTo fills what of p, which begins at off of the object, the run has.
func (r *run) copyTo(p []byte, off int64) {
	begin := int64(r.first) * pageSize
	from, to := max(begin, off), min(begin+int64(len(r.data)), off+int64(len(p)))
	if from < to {
		copy(p[from-off:to-off], r.data[from-begin:])
	}
}

// fetch returns the run that brings a page: one that is under way, or a new one of up to n pages, which is the caller's.
func (s *Store) fetch(o *object, page, n uint32) (r *run, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !o.dead {
		if r := s.inFlight[pageKey{o.id, page}]; r != nil {
			s.stats.Hits++
			return r, false
		}
	}
	r = s.newRun(o, page, n)
	s.stats.Misses += int64(r.pages)
	s.group.Go(func() {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-s.ctx.Done():
		}
		s.bring(r)
	})
	return r, true
}

// newRun begins a run at a page that is neither there nor under way, and ends before one that is. s.mu is held.
func (s *Store) newRun(o *object, page, n uint32) *run {
	n = min(n, maxRun)
	r := &run{object: o, first: page, done: make(chan struct{})}
	for r.pages < n && int64(page+r.pages)*pageSize < o.size {
		key := pageKey{o.id, page + r.pages}
		_, there := s.table.byKey[key]
		if r.pages > 0 && !o.dead && (there || s.inFlight[key] != nil) {
			break
		}
		if !o.dead {
			s.inFlight[key] = r
		}
		r.pages++
	}
	return r
}

// bring fetches a run under the cache's own context: a reader that leaves must not fail the others that wait. The
// pages stay in flight until they are in the file, so nobody fetches them again in between.
func (s *Store) bring(r *run) {
	o, begin := r.object, int64(r.first)*pageSize
	data := make([]byte, min(int64(r.pages)*pageSize, o.size-begin))
	if r.err = s.ctx.Err(); r.err != nil {
		r.err = fault.New(fault.Transient, "cache: read "+o.name, "the cache is closed: %w", r.err)
	} else {
		r.err = s.store.ReadAt(s.ctx, o.name, data, begin)
	}
	r.data = data
	if r.err == nil {
		close(r.done)
		for i := range r.pages {
			at := int(i) * pageSize
			s.keep(o, r.first+i, data[at:min(at+pageSize, len(data))])
		}
	}
	s.mu.Lock()
	for i := range r.pages {
		if key := (pageKey{o.id, r.first + i}); s.inFlight[key] == r {
			delete(s.inFlight, key)
		}
	}
	s.mu.Unlock()
	if r.err != nil {
		close(r.done)
	}
}

// cursor is a reader that goes through an object in order, as far as can be seen from its reads.
type cursor struct {
	next   uint32 // the page after its last read; 0 if the cursor is unused
	ahead  uint32 // the page after what was asked for on its behalf
	window uint32 // how far ahead it is worth to be
}

// readAhead sees a read of pages first to last. The second of two that follow each other starts to fetch ahead, each
// further one twice as far, up to a limit, and in requests as large as that allows.
func (s *Store) readAhead(o *object, first, last uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := o.cursorOf(first, last)
	if c == nil || o.dead {
		return
	}
	limit := min(maxRun, s.table.max/4)
	c.window = min(max(2, c.window*2), limit)
	c.ahead = max(c.ahead, c.next)
	if c.ahead-c.next > c.window/2 {
		return
	}
	for c.ahead < c.next+c.window && int64(c.ahead)*pageSize < o.size {
		key := pageKey{o.id, c.ahead}
		_, there := s.table.byKey[key]
		if there || s.inFlight[key] != nil {
			c.ahead++
			continue
		}
		select {
		case s.ahead <- struct{}{}:
		default:
			return
		}
		r := s.newRun(o, c.ahead, c.next+c.window-c.ahead)
		s.stats.Ahead += int64(r.pages)
		c.ahead += r.pages
		s.group.Go(func() {
			defer func() { <-s.ahead }()
			s.bring(r)
		})
	}
}

// cursorOf finds the cursor that a read moves on, or starts one and returns nil. A read of the page where a cursor
// stands moves nothing.
func (o *object) cursorOf(first, last uint32) *cursor {
	for i := range o.cursors {
		c := &o.cursors[i]
		if c.next == 0 || first > c.next || first+1 < c.next {
			continue
		}
		if last < c.next {
			return nil
		}
		c.next = last + 1
		return c
	}
	o.cursors[o.turn] = cursor{next: last + 1}
	o.turn = (o.turn + 1) % len(o.cursors)
	return nil
}
