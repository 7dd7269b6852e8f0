package sink

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
An agent that lost its tracking asks for digests of what the journal holds, and sends only what differs. The questions of
a connection wait in a queue of their own: captured writes are appended and acknowledged meanwhile.

	receive --> queue --> dispatcher --> workers --> connection

The dispatcher owns the base, which is a View. The rules are those of docs/design/2026-11-23-rescan.md: what cannot be
told is unknown, and unknown equals nothing.
*/
type comparer struct {
	se    *session
	queue chan question
	base  *base
	group sync.WaitGroup // workers on base
}

// question is a Base or an Ask.
type question struct {
	key    []byte // of a Base
	latest bool   // of a Base
	epoch  uint64
	ask    wire.Ask
}

// base is the state that digests are made of.
type base struct {
	key     []byte
	epoch   uint64
	latest  bool          // the newest recoverable state of the epoch
	view    *journal.View // nil when it could not be opened
	opened  time.Time
	used    time.Time   // when it was last asked about; the dispatcher's
	resting bool        // let go of, to be opened when it is asked about
	damaged []Range     // as far as was known then
	given   atomic.Bool // up: its content cannot be fetched
	tools   sync.Pool   // of *tool
}

// tool is what a worker needs to make digests.
type tool struct {
	d   *wire.Digester
	buf []byte
}

const (
	renewBase   = 5 * time.Minute // an older View keeps files from being deleted
	questions   = wire.MaxAsks + 16
	comparePace = time.Second // between tries to fetch what is out of reach
	compareWait = time.Minute // and for so long
)

// digesting bounds what comparing takes of this machine, over all connections.
var digesting = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))

// compare starts answering questions; the returned function ends it and waits.
func (se *session) compare() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	se.comparer = &comparer{se: se, queue: make(chan question, questions)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		se.comparer.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// asked takes a question from the connection. It does not wait.
func (c *comparer) asked(f *wire.Frame) error {
	if c.se.version < wire.V3 {
		return fault.New(fault.Invalid, "sink: compare", "a frame of type %d in protocol %d", f.Type, c.se.version)
	}
	q := question{epoch: f.Epoch}
	if f.Type == wire.TypeBase {
		var b wire.Base
		if err := f.Unmarshal(&b); err != nil {
			return err
		}
		if len(b.Key) != wire.KeySize {
			return fault.New(fault.Invalid, "sink: compare", "a key of %d bytes", len(b.Key))
		}
		q.key, q.latest = b.Key, b.Latest
	} else {
		if err := f.Unmarshal(&q.ask); err != nil {
			return err
		}
		if err := q.ask.Check(); err != nil {
			return err
		}
	}
	select {
	case c.queue <- q:
		return nil
	default:
		return fault.New(fault.Invalid, "sink: compare", "more than %d questions at once", wire.MaxAsks)
	}
}

// run is the dispatcher.
func (c *comparer) run(ctx context.Context) {
	defer c.rest()
	idle := time.NewTicker(c.se.s.waits.rest)
	defer idle.Stop()
	for {
		var q question
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			if b := c.base; b != nil && b.view != nil && time.Since(b.used) >= c.se.s.waits.rest {
				c.rest()
				c.base = &base{key: b.key, epoch: b.epoch, latest: b.latest, resting: true}
			}
			continue
		case q = <-c.queue:
		}
		switch {
		case q.key != nil:
			c.open(ctx, q.key, q.epoch, q.latest)
			level := slog.LevelInfo
			if q.latest { // again and again
				level = slog.LevelDebug
			}
			c.se.s.log.Log(ctx, level, "sink: the agent compares with the journal", "server", c.se.r.id, "epoch", q.epoch, "error", c.base.view == nil)
			continue
		case c.base == nil:
			c.base = &base{} // nothing was opened: all is unknown
		case c.base.resting, c.base.view != nil && time.Since(c.base.opened) > renewBase:
			c.open(ctx, c.base.key, c.base.epoch, c.base.latest)
		}
		c.base.used = time.Now()
		select {
		case <-ctx.Done():
			return
		case digesting <- struct{}{}:
		}
		b := c.base
		c.group.Go(func() {
			defer func() { <-digesting }()
			c.answer(ctx, b, &q.ask)
		})
	}
}

// rest waits for the workers and lets go of the base.
func (c *comparer) rest() {
	c.group.Wait()
	if c.base != nil && c.base.view != nil {
		if err := c.base.view.Close(); err != nil {
			c.se.s.log.Warn("sink: compare", "server", c.se.r.id, "err", err)
		}
	}
	c.base = nil
}

// open takes the state as it is durable now.
func (c *comparer) open(ctx context.Context, key []byte, epoch uint64, latest bool) {
	c.rest()
	b := &base{key: key, epoch: epoch, latest: latest, opened: time.Now()}
	c.base = b
	v, err := c.view(ctx, b)
	if err != nil {
		c.se.s.log.Warn("sink: nothing to compare with; the agent sends everything", "server", c.se.r.id, "err", err)
		return
	}
	b.view = v
	for _, d := range c.se.j.Damage() {
		if !d.Cut { // the base does not show what was lost with the end of history
			b.damaged = append(b.damaged, Range{Disk: d.Disk, Sector: d.Sector, Sectors: d.Sectors})
		}
	}
}

func (c *comparer) view(ctx context.Context, b *base) (*journal.View, error) {
	if !b.latest {
		return c.se.j.Base(ctx, b.epoch)
	}
	p, err := c.se.j.Latest()
	if err != nil {
		return nil, err
	}
	if p.Epoch != b.epoch {
		return nil, fault.New(fault.Conflict, "sink: compare", "epoch %d cannot be recovered, %d can", b.epoch, p.Epoch)
	}
	return c.se.j.View(ctx, p)
}

func (c *comparer) answer(ctx context.Context, b *base, a *wire.Ask) {
	digests := make([]byte, 0, a.Pieces()*wire.DigestSize)
	t := b.tool()
	for _, g := range a.Ranges {
		digests = c.digests(ctx, b, t, digests, g, a.Piece)
	}
	b.tools.Put(t)
	if ctx.Err() != nil {
		return
	}
	out := wire.Digests{ID: a.ID, Digests: digests}
	if b.latest && b.view != nil {
		out.Position = b.view.Point().Position
	}
	m, err := wire.Message(wire.TypeDigests, b.epoch, 0, 0, 0, out)
	if err == nil {
		_ = c.se.raw.SetWriteDeadline(time.Now().Add(c.se.s.c.IdleTimeout))
		err = c.se.conn.Send(m)
	}
	if err != nil {
		c.se.end(fault.Wrap("sink: compare", err)) // an agent that gets no answer would wait for it
	}
}

func (b *base) tool() *tool {
	if t, ok := b.tools.Get().(*tool); ok {
		return t
	}
	t := &tool{buf: make([]byte, wire.MaxPiece)}
	if b.view != nil {
		t.d, _ = wire.NewDigester(b.key) // the key's length was looked at
	}
	return t
}

// digests appends those of one range, a window of whole pieces at a time.
func (c *comparer) digests(ctx context.Context, b *base, t *tool, dst []byte, g Range, piece uint64) []byte {
	window := max(wire.MaxPiece/wire.SectorSize/piece, 1) * piece
	for g.Sectors > 0 {
		w := g
		w.Sectors = min(g.Sectors, window)
		if !c.same(ctx, b, t, &dst, w, piece) {
			for end := w.Sector + w.Sectors; w.Sector < end; w.Sector += piece {
				w.Sectors = min(piece, end-w.Sector)
				if !c.same(ctx, b, t, &dst, w, piece) {
					dst = wire.AppendUnknown(dst)
				}
			}
		}
		g.Sector, g.Sectors = g.Sector+min(g.Sectors, window), g.Sectors-min(g.Sectors, window)
	}
	return dst
}

// same appends the digests of a window if all of it can be told.
func (c *comparer) same(ctx context.Context, b *base, t *tool, dst *[]byte, w Range, piece uint64) bool {
	if b.view == nil || b.given.Load() || overlaps(b.damaged, w) || c.se.r.repairing(w) {
		return false
	}
	off, n := int64(w.Sector)*wire.SectorSize, int64(w.Sectors)*wire.SectorSize
	buf := t.buf[:n]
	hole := false
	err := c.patiently(ctx, b, func() error {
		list, err := b.view.Extents(ctx, w.Disk, off, n)
		if hole = err == nil && len(list) == 1 && list[0].Hole; hole || err != nil {
			return err
		}
		return b.view.ReadAt(ctx, w.Disk, buf, off)
	})
	switch {
	case err != nil:
		return false
	case hole:
		*dst = wire.AppendZero(*dst, int((w.Sectors+piece-1)/piece))
	default:
		*dst = t.d.Append(*dst, w.Disk, w.Sector, piece, buf)
	}
	return true
}

// patiently tries again what may work later: sending a whole disk again because object storage was away for a moment
// would be dear. Once it took too long, nothing of this base is waited for any more.
func (c *comparer) patiently(ctx context.Context, b *base, read func() error) error {
	since := time.Now()
	for {
		err := read()
		if !fault.Is(err, fault.Transient) || ctx.Err() != nil {
			return err
		}
		if time.Since(since) > compareWait || b.given.Load() {
			if !b.given.Swap(true) {
				c.se.s.log.Warn("sink: the journal cannot be read; the agent sends what it holds already", "server", c.se.r.id, "err", err)
			}
			return err
		}
		pause(ctx, comparePace)
	}
}

// repairing tells whether a part of a range waits to be read again.
func (r *replica) repairing(g Range) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if overlaps(q.Ranges, g) {
			return true
		}
	}
	return false
}

func overlaps(list []Range, g Range) bool {
	for _, o := range list {
		if o.Disk == g.Disk && o.Sector < g.Sector+g.Sectors && g.Sector < o.Sector+o.Sectors {
			return true
		}
	}
	return false
}
