// Package cache keeps pages of the objects of an expensive store in a local directory: what was read and what was
// written last, up to a number of bytes.
//
//	<dir>/lock      held while a process uses the directory
//	<dir>/pages     slots of 256 KiB, each a page of some object or free
//
// What is where is known in memory only, with a checksum for each quarter of a page, in at most 120 bytes a page (under
// half a MiB for each GiB). So nothing in the directory must survive: opening begins with an empty file, nothing is
// synced, and a page that does not match its sums, or cannot be read or written, is a page that is not there.
//
// Whoever chooses where a journal's layers live imports it.
package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Sizes.
const (
	pageSize  = 256 << 10
	chunkSize = 64 << 10 // what is read and verified at least
	maxRun    = 16       // pages asked for at once, and how far read-ahead goes
	minPages  = 2 * maxRun
	fetchers  = 16 // requests to the store at the same time
	aheads    = 4  // of which, as long as no reader waits, read-ahead may have so many
)

// Config says where the pages are and how much room they have.
type Config struct {
	FS       vfs.FS
	Dir      string
	Bytes    int64        // room for pages; at least 8 MiB
	KeepFree int64        // the file does not grow if less than this would stay free beside it
	Log      *slog.Logger // discarded if nil
}

// Store implements blob.Store: it reads through its pages and passes everything else on.
type Store struct {
	store blob.Store
	cfg   Config
	lock  io.Closer
	file  vfs.File

	ctx   context.Context // of everything that is fetched; ends at Close
	stop  context.CancelFunc
	group sync.WaitGroup
	slots chan struct{} // one for each fetch
	ahead chan struct{} // one for each that is read-ahead

	mu       sync.Mutex
	table    table
	objects  map[string]*object
	byID     map[uint32]*object
	lastID   uint32
	changes  uint64 // counts names that came to mean something else
	inFlight map[pageKey]*run
	reserved int64 // pages that are being written
	stats    Stats
	trouble  trouble
}

// Stats counts since New, but for Bytes, which is what is held now.
type Stats struct {
	Hits, Misses int64 // pages that readers asked for
	Ahead        int64 // pages that were fetched before anybody asked
	Damaged      int64 // pages that did not match their sums
	Unwritten    int64 // pages for which there was no room
	Bytes        int64
}

// object is what is known of an object of the store.
type object struct {
	id      uint32
	name    string // empty as long as it is being written
	size    int64
	pages   int  // that are held
	dead    bool // the name means something else now: nothing may be added
	cursors [4]cursor
	turn    int // of the cursors, the next to be replaced
}

// New opens an empty cache before store.
func New(store blob.Store, cfg Config) (*Store, error) {
	if cfg.Bytes < minPages*pageSize || cfg.Bytes/pageSize >= int64(none) {
		return nil, fault.New(fault.Invalid, "cache: configuration", "%d bytes; at least %d are of use", cfg.Bytes, minPages*pageSize)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return nil, vfs.Fault("cache: open", err)
	}
	lock, err := cfg.FS.Lock(path.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, vfs.Fault("cache: open", err)
	}
	file, err := emptyFile(cfg.FS, path.Join(cfg.Dir, "pages"))
	if err != nil {
		return nil, vfs.Fault("cache: open", errors.Join(err, lock.Close()))
	}
	s := &Store{
		store: store, cfg: cfg, lock: lock, file: file,
		slots: make(chan struct{}, fetchers), ahead: make(chan struct{}, aheads),
		objects: map[string]*object{}, byID: map[uint32]*object{}, inFlight: map[pageKey]*run{},
	}
	s.table.init(uint32(cfg.Bytes / pageSize))
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func emptyFile(fsys vfs.FS, name string) (vfs.File, error) {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return fsys.Create(name)
}

// Close ends what is being fetched and gives the room back. The store behind stays open.
func (s *Store) Close() error {
	s.stop()
	s.group.Wait()
	err := s.file.Close()
	err = errors.Join(err, s.cfg.FS.Remove(path.Join(s.cfg.Dir, "pages")))
	return vfs.Fault("cache: close", errors.Join(err, s.lock.Close()))
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Bytes = int64(len(s.table.byKey)) * pageSize
	return st
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, name string) (int64, error) {
	o, err := s.object(ctx, name)
	if err != nil {
		return 0, err
	}
	return o.size, nil
}

// object finds what is known of name, and asks the store if nothing is.
func (s *Store) object(ctx context.Context, name string) (*object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Transient, "cache: "+name, "%w", err)
	}
	s.mu.Lock()
	o, changes := s.objects[name], s.changes
	s.mu.Unlock()
	if o != nil {
		return o, nil
	}
	size, err := s.store.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[name]; o != nil {
		return o, nil
	}
	if s.changes != changes { // maybe of this name: what was found serves this call only
		return &object{name: name, size: size, dead: true}, nil
	}
	o = s.newObject()
	o.name, o.size = name, size
	s.objects[name] = o
	return o, nil
}

// newObject gives out an id that nothing has. s.mu is held.
func (s *Store) newObject() *object {
	for s.lastID++; s.byID[s.lastID] != nil; s.lastID++ { // it is 32 bits only
	}
	o := &object{id: s.lastID}
	s.byID[o.id] = o
	return o
}

// forget drops what is known of an object and its pages. s.mu is held.
func (s *Store) forget(o *object) {
	if o == nil || o.dead {
		return
	}
	o.dead = true
	s.changes++
	for page := uint32(0); o.pages > 0; page++ {
		if s.table.drop(pageKey{o.id, page}) {
			o.pages--
		}
	}
	delete(s.byID, o.id)
	if s.objects[o.name] == o {
		delete(s.objects, o.name)
	}
}

// List implements blob.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]blob.Info, error) {
	return s.store.List(ctx, prefix)
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.store.Delete(ctx, name) // first, so that no reader brings back what is forgotten
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	s.forget(s.objects[name])
	return err
}

// trouble remembers when the directory last failed, so that it is told once and tried again.
type trouble struct {
	since, noGrowth time.Time
}

// retryGrowth is how long the file keeps its size after it could not grow.
const retryGrowth = time.Minute

// failed notes that a page could not be written. s.mu is held.
func (s *Store) failed(err error) {
	s.stats.Unwritten++
	if fault.Is(err, fault.OutOfSpace) {
		s.trouble.noGrowth = time.Now().Add(retryGrowth)
	}
	if s.trouble.since.IsZero() {
		s.trouble.since = time.Now()
		s.cfg.Log.Warn("the local cache of the object storage cannot be written; reads go on without", "dir", s.cfg.Dir, "error", err)
	}
}

// worked notes that a page was written. s.mu is held.
func (s *Store) worked() {
	if !s.trouble.since.IsZero() {
		s.cfg.Log.Info("the local cache of the object storage can be written again", "dir", s.cfg.Dir, "after", time.Since(s.trouble.since))
		s.trouble.since = time.Time{}
	}
}
