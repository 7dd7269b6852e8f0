// Package journal stores everything one source server ever said: the durable wire frames, byte for byte as they
// came, in append-only segment files, with an index that finds the state of its disks at every recoverable position.
//
// The replication server's sink appends to it, volume reads from it, and the offline verifier checks it. It has
// no policy: what to keep, who may write and where it lives is decided by its callers. The format is written down in
// docs/formats/journal.md.
package journal

import (
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Options of an open journal. The zero value is good.
type Options struct {
	SegmentBytes int64        // roll to a new segment when the current one is this long; default 64 MiB
	CacheBytes   int64        // decompressed frames kept for readers; default 32 MiB
	Log          *slog.Logger // default slog.Default
}

const (
	defaultSegmentBytes = 64 << 20
	defaultCacheBytes   = 32 << 20
	maxSegmentBytes     = 1 << 30 // offsets are 32 bits in the index; a frame may follow the limit
)

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegmentBytes)
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Journal is one source server's journal, open for appending by one writer and for reading by many.
//
// Two locks, taken in this order: w for whoever changes files, mu for the published state, held briefly.
type Journal struct {
	directory
	meta   meta
	o      Options
	log    *slog.Logger
	lock   io.Closer
	frames *frameStore
	idx    *indexCache

	reindexing sync.Mutex // writing a sidecar again

	w       sync.Mutex
	tail    *builder // everything appended, nil between segments
	file    vfs.File // of tail
	before  fold     // before tail
	undo    undo     // what heal goes back to
	markF   vfs.File // nil when it cannot be written; it is a hint
	cut     bool     // the tail was truncated since its last sync
	failed  error    // set while what is on disk is in doubt
	closing bool

	mu     sync.RWMutex
	pub    published
	closed bool
}

// published is what readers see: durable, and never changed in place.
type published struct {
	fold   fold
	sealed []*segment
	tail   *tailView // nil between segments
	bytes  int64     // of sealed segments
	frames uint64    // in them
}

// tailView is the durable part of the segment being written.
type tailView struct {
	number    uint64
	baseEpoch uint64
	bytes     int64
	frames    int
	index     []entry
	spans     []span
}

// undo is the tail at its last sync.
type undo struct {
	fold   fold
	bytes  int64
	frames int
	index  int
	epochs int
	spans  []span
}

// ID is random and made with the journal.
func (j *Journal) ID() string { return j.meta.ID }

// State is what the journal durably holds.
func (j *Journal) State() State {
	p := j.snapshot()
	c := &p.fold.cur
	s := State{
		ID: j.meta.ID, Disks: j.meta.Disks, CaptureID: c.Capture, Epoch: c.Number, First: c.First, BaselineDone: c.Done,
		Durable: p.fold.bio, Highest: p.fold.highest, Watermark: unixTime(c.Water), Bytes: p.bytes, Segments: len(p.sealed),
		Frames: p.frames,
	}
	if p.tail != nil {
		s.Bytes += p.tail.bytes
		s.Frames += uint64(p.tail.frames)
		s.Segments++
	}
	for e := range p.fold.epochs {
		s.Recoverable = s.Recoverable || e.recoverable()
	}
	return s
}

func (j *Journal) snapshot() published {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.pub
}

// Close makes what was appended durable and ends the journal; Views of it fail from then on. It is idempotent.
func (j *Journal) Close() error {
	j.w.Lock()
	defer j.w.Unlock()
	if j.closing {
		return nil
	}
	err := j.sync()
	j.closing = true
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	if j.markF != nil {
		if j.failed == nil {
			err = errors.Join(err, vfs.Fault("journal: close", j.markF.Sync()))
		}
		err = errors.Join(err, j.markF.Close())
	}
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
	}
	return errors.Join(err, j.frames.close(), j.lock.Close())
}

// Closed tells whether Close was called: its Views are of no use any more.
func (j *Journal) Closed() bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.closed
}

func (j *Journal) isClosed() error {
	if j.Closed() {
		return fault.New(fault.Conflict, "journal: "+j.dir, "closed")
	}
	return nil
}

// Append checks a frame, which wire.Parse has verified, and writes it. It is durable and visible to readers only
// after Sync. A frame that does not follow from the ones before is refused and changes nothing; so does one that finds
// no room (OutOfSpace).
func (j *Journal) Append(f wire.Frame) error {
	j.w.Lock()
	defer j.w.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	if err := j.place(&f); err != nil {
		return err
	}
	s, err := j.tail.stage(&f, j.disks)
	if err != nil {
		return err
	}
	if err := j.write(f.Bytes); err != nil {
		return err
	}
	j.tail.commit(s)
	return nil
}

// usable tells whether frames may be appended. After a failure the caller must come by Sync, which says that frames
// were lost; else it might acknowledge them with the next ones.
func (j *Journal) usable() error {
	if j.closing {
		return fault.New(fault.Conflict, "journal: "+j.dir, "closed")
	}
	return j.failed
}

// write puts a frame behind the tail; what a failed write left is cut off.
func (j *Journal) write(b []byte) error {
	_, err := j.file.WriteAt(b, j.tail.bytes)
	if err == nil {
		return nil
	}
	err = vfs.Fault("journal: append", err)
	j.cut = true // a crash may bring back what is cut off, and no sealed segment may have a tail
	if cut := j.file.Truncate(j.tail.bytes); cut != nil {
		j.failed = errors.Join(err, cut)
	}
	return err
}
