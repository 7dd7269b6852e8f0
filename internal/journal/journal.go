// Package journal stores everything one source server ever said, for as long as it is retained: its wire frames in
// append-only segments first, then its writes in layers sorted by disk and sector, with an index that finds the state of
// its disks at every recoverable position. Everything is enciphered at rest.
//
// The replication server's sink appends to it and maintains it, volume reads from it, and the offline verifier checks it. It has
// no policy: what to keep, who may write and where it lives is decided by its callers. The argument is
// docs/design/2026-11-22-journal-store.md, the format docs/formats/journal.md.
package journal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Options of an open journal. Only Keys has no default.
type Options struct {
	Keys         encryption.Provider // wraps the data key
	Blobs        blob.Store          // where layers go; default the directory layers inside the journal's own
	Remote       bool                // Blobs outlives this machine: the catalogue and the key are stored there too
	Parents      Parents             // finds the parent of a branch; nil refuses branches
	Cache        *layer.Cache        // of decoded blocks, shared by all journals of a process; default one of 32 MiB
	SegmentBytes int64               // roll to a new segment when the current one is this long; default 64 MiB
	LayerBytes   int64               // cut layers at; default 64 MiB, more for a large journal
	CacheBytes   int64               // decompressed frames kept for readers; default 32 MiB
	Log          *slog.Logger        // default slog.Default

	reread time.Duration // between looks at what the disk cannot read; default 1 s
}

// Parents finds the open journal that a branch stands on.
type Parents func(journalID string) (*Journal, error)

const (
	defaultSegmentBytes = 64 << 20
	defaultCacheBytes   = 32 << 20
	defaultLayerBytes   = 64 << 20
	maxRawSegment       = 64 << 20 // of what it decompresses to: a flush holds that in memory
	maxSegmentBytes     = 1 << 30  // offsets are 32 bits in the index; a frame may follow the limit
)

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegmentBytes)
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.LayerBytes <= 0 {
		o.LayerBytes = defaultLayerBytes
	}
	if o.Cache == nil {
		o.Cache = layer.NewCache(defaultCacheBytes)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.reread <= 0 {
		o.reread = defaultReread
	}
	return o
}

// Journal is one source server's journal, open for appending by one writer and for reading by many.
//
// Three locks, taken in this order: upkeep for whoever changes the catalogue, w for whoever changes segments, mu for the
// published state, held briefly.
type Journal struct {
	directory
	meta   meta
	o      Options
	log    *slog.Logger
	lock   io.Closer
	blobs  blob.Store
	closer io.Closer // of blobs, when they are the journal's own
	frames *frameStore
	idx    *endCache
	cache  *layer.Cache
	layers layerSet

	reindexing sync.Mutex // writing a sidecar again

	stop      context.Context // ends with the journal: of steps of Maintain, and of lookups, which are short
	stopping  context.CancelFunc
	upkeep    sync.Mutex
	tried     uint64    // generation of the newest catalogue that may be on disk
	unsettled bool      // it may be there half: it is written anew before anything is deleted
	loaded    uint64    // generation of the catalogue that it was opened with
	remoteAt  uint64    // generation of the catalogue that is in object storage
	newest    bool      // there is no later one there
	orphans   bool      // were swept
	fresh     []garbage // files of the step under way, which no catalogue names yet
	survey    survey

	w       sync.Mutex
	tail    *builder  // everything appended, nil between segments
	file    *segFile  // of tail
	sealed  []byte    // scratch
	before  fold      // before tail
	began   time.Time // the tail
	aged    bool      // the last segment ended by its age
	undo    undo      // what heal goes back to
	markF   vfs.File  // nil when it cannot be written; it is a hint
	cut     bool      // the tail was truncated since its last sync
	failed  error     // set while what is on disk is in doubt
	closing bool

	mu       sync.RWMutex
	pub      published
	held     map[uint64]int // Views by the generation of their catalogue
	garbage  []garbage
	underway []underway
	noted    []Damage        // not in the catalogue yet
	known    map[Damage]bool // stretches of these and of the catalogue's; nil: not made yet
	unread   map[string]bool // files in which the disk could not read something
	closed   bool
}

// published is what readers see: durable, and never changed in place.
type published struct {
	fold     fold
	cat      *catalogue
	retained retained   // may be ahead of the catalogue's
	sealed   []*segment // not flushed yet, oldest first
	tail     *tailView  // nil between segments
	bytes    int64      // of sealed segments
	frames   uint64     // in them
}

// tailView is the durable part of the segment being written.
type tailView struct {
	number    uint64
	baseEpoch uint64
	bytes     int64
	frames    int
	index     []entry
	spans     []span
	began     time.Time
}

// undo is the tail at its last sync.
type undo struct {
	fold   fold
	bytes  int64
	raw    int64
	frames int
	index  int
	sums   int
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
		ID: j.meta.ID, Disks: p.fold.tables.last().Disks, Joining: p.fold.tables.last().Joining, CaptureID: c.Capture, Epoch: c.Number, First: c.First, BaselineDone: c.Done,
		Durable: p.fold.bio, Highest: max(p.fold.highest, p.cat.Floor), Watermark: unixTime(c.Water), Bytes: p.bytes, Segments: len(p.sealed),
		Frames: p.cat.Frames + p.frames,
	}
	for i := range p.cat.Runs {
		s.Bytes += p.cat.Runs[i].bytes()
	}
	if p.tail != nil {
		s.Bytes += p.tail.bytes
		s.Frames += uint64(p.tail.frames)
		s.Segments++
	}
	for range p.epochs {
		s.Recoverable = true
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
	j.stopping()
	j.upkeep.Lock() // a step that was under way has ended
	defer j.upkeep.Unlock()
	j.w.Lock()
	defer j.w.Unlock()
	if j.closing {
		return nil
	}
	err := j.sync()
	if err == nil && j.tail != nil {
		err = j.cutTail()
	}
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
	if j.closer != nil {
		err = errors.Join(err, j.closer.Close())
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
	s, err := j.tail.stage(&f)
	if err != nil {
		return err
	}
	j.sealed = appendRecord(j.sealed[:0], j.file.cipher, j.tail.number, j.tail.bytes, f.Bytes)
	if err := j.write(j.sealed); err != nil {
		return err
	}
	s.bytes = int64(len(j.sealed))
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
