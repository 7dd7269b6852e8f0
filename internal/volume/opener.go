package volume

import (
	"context"
	"errors"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

// Journals finds the journal of a source server; sink.Server's method Journal is one.
type Journals func(serverID string) (*journal.Journal, error)

// key names a view. The journal's address is part of it: one that was detached and attached again is another.
type key struct {
	j               *journal.Journal
	epoch, position uint64
}

// shared is a view and who uses it.
type shared struct {
	key   key
	ready chan struct{} // closed when view or err is set
	view  *journal.View
	err   error

	refs int // guarded by Opener.mu
}

// Opener opens volumes. A view is let go of with its last volume: it costs little to open, and holds files that may be
// waiting to be deleted.
type Opener struct {
	journals Journals

	mu     sync.Mutex
	views  map[key]*shared
	closed bool
}

// NewOpener returns an Opener on these journals.
func NewOpener(j Journals) *Opener {
	return &Opener{journals: j, views: map[key]*shared{}}
}

// Resolve turns a choice into a point without opening it.
func (o *Opener) Resolve(serverID string, c Choice) (journal.Point, error) {
	_, p, err := o.resolve(serverID, c)
	return p, err
}

func (o *Opener) resolve(serverID string, c Choice) (*journal.Journal, journal.Point, error) {
	j, err := o.journals(serverID)
	if err != nil {
		return nil, journal.Point{}, err
	}
	var p journal.Point
	switch {
	case !c.At.IsZero() && c.Position != 0:
		err = fault.New(fault.Invalid, "volume: choose", "both an instant and a position")
	case !c.At.IsZero():
		p, err = j.At(c.At)
	case c.Position != 0:
		p, err = j.Check(c.Position)
	default:
		p, err = j.Latest()
	}
	return j, p, err
}

// Open opens one disk of a server at a choice.
func (o *Opener) Open(ctx context.Context, serverID string, disk uint16, c Choice) (*Volume, error) {
	j, p, err := o.resolve(serverID, c)
	if err != nil {
		return nil, err
	}
	s, err := o.acquire(ctx, j, p)
	if err != nil {
		return nil, err
	}
	for _, d := range s.view.Disks() {
		if d.Index == disk {
			return &Volume{o: o, s: s, disk: disk, size: int64(d.Bytes)}, nil
		}
	}
	err = fault.New(fault.NotFound, "volume: open", "source server %s has no disk %d at that point", serverID, disk)
	return nil, errors.Join(err, o.release(s))
}

// acquire finds the view of a point, or makes it while others who want it wait. When the one who makes it gives up, the
// next makes it.
func (o *Opener) acquire(ctx context.Context, j *journal.Journal, p journal.Point) (*shared, error) {
	for {
		s, maker, err := o.join(key{j, p.Epoch, p.Position})
		if err != nil {
			return nil, err
		}
		if maker {
			s.view, s.err = j.View(ctx, p)
			o.made(s)
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, errors.Join(fault.New(fault.Transient, "volume: open", "%w", ctx.Err()), o.release(s))
		}
		if s.err == nil {
			return s, nil
		}
		if err := errors.Join(s.err, o.release(s)); maker || ctx.Err() != nil || !fault.Is(err, fault.Transient) {
			return nil, err
		}
	}
}

func (o *Opener) join(k key) (s *shared, maker bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false, fault.New(fault.Conflict, "volume: open", "closed")
	}
	if s = o.views[k]; s == nil {
		s, maker = &shared{key: k, ready: make(chan struct{})}, true
		o.views[k] = s
	}
	s.refs++
	return s, maker, nil
}

// made lets the others in. A failure is for those who waited only; the next to come tries again.
func (o *Opener) made(s *shared) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.err != nil && o.views[s.key] == s {
		delete(o.views, s.key)
	}
	close(s.ready)
}

func (o *Opener) release(s *shared) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.refs--
	if s.refs > 0 || o.views[s.key] != s {
		return nil // somebody else's, or it never came to be
	}
	delete(o.views, s.key)
	return s.view.Close()
}

// Close refuses what comes from now on. Volumes still open stay usable until they are closed.
func (o *Opener) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	return nil
}
