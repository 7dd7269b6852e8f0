package sink

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

type counter = atomic.Int64

// ward is a journal in the caretaker's care, from attaching to detaching.
type ward struct {
	id string
	u  upkeep

	maintained, scrubbed counter // bytes that passed
	stored               counter // Usage.Stored when it was looked at last
	appended             counter // bytes of frames
	durable              counter // of these: before the last sync
	covered              counter // of these: in stored

	mu       sync.Mutex
	rest     time.Time // nothing is done before it
	pause    time.Duration
	err      error // why the last step failed; nil when it did not
	errAt    time.Time
	usage    journal.Usage
	asked    time.Time // when a whole scrub was asked for; zero when it is done
	passes   int       // that must end for it to be done
	damage   []journal.Damage
	tried    map[journal.Damage]bool  // the source was asked for it
	mendAll  bool                     // however long ago it was found
	mended   time.Time                // when the source could have been asked last
	resolved map[uint64]journal.Point // positions to retain; nil before the first
}

func newWard(id string, u upkeep) *ward {
	w := &ward{id: id, u: u, tried: map[journal.Damage]bool{}, mended: time.Now()}
	w.look()
	return w
}

func (w *ward) resting(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rest.Sub(now)
}

func (w *ward) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.rest = time.Time{}
	}
}

// look takes over what the journal says of itself, for all who ask more often than it should be asked.
func (w *ward) look() {
	durable := w.durable.Load() // before Usage, which knows what is durable
	usage, damage := w.u.Usage(), w.u.Damage()
	w.stored.Store(usage.Stored)
	w.covered.Store(durable)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.usage, w.damage = usage, damage
}

// sealAfter is how old a segment may get. Whoever asks for everything to be read means what was written before, too.
func (w *ward) sealAfter(now time.Time, usual time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked.IsZero() {
		return usual
	}
	return max(1, min(usual, now.Sub(w.asked)))
}

// settle notes how a turn ended and when the next may be. news tells that trouble began or ended.
func (w *ward) settle(now time.Time, did bool, err error) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news = (err == nil) != (w.err == nil)
	if news {
		w.errAt = now
	}
	w.err = err
	switch {
	case err != nil:
		w.pause = min(max(2*w.pause, idleRest), longestBackoff)
		w.rest = now.Add(w.pause)
	case did:
		w.pause, w.rest = 0, time.Time{}
	default:
		w.pause, w.rest = 0, now.Add(idleRest)
	}
	return news
}

// taken notes that bytes were appended.
func (w *ward) taken(bytes int64) { w.appended.Add(bytes) }

// synced notes that everything appended is durable.
func (w *ward) synced() { w.durable.Store(w.appended.Load()) }

// size is what the journal stores, about.
func (w *ward) size() int64 { return w.stored.Load() + w.appended.Load() - w.covered.Load() }

// Care is what maintenance knows of one source server's journal.
type Care struct {
	Usage      journal.Usage
	Pressure   journal.Pressure
	Remote     bool             // layers are in object storage
	Exposure   journal.Exposure // what only this machine has; zero when not Remote
	Quota      int64            // 0 is no limit
	Maintained int64            // bytes read and written by maintenance since it was attached
	Scrubbed   int64            // bytes read by the scrub since then
	Scrub      journal.ScrubProgress
	ScrubAsked time.Time // a whole scrub at full speed was asked for and is not done; else zero
	Damage     []journal.Damage
	Doubts     []journal.Doubt // what verify passes found that points may suffer from, oldest first
	Err        error           // why maintenance fails; nil when it does not
	ErrAt      time.Time
}

func (w *ward) care() Care {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Care{
		Usage: w.usage, Pressure: w.u.Pressure(), Exposure: w.u.Exposure(), Maintained: w.maintained.Load(), Scrubbed: w.scrubbed.Load(), Scrub: w.u.ScrubProgress(),
		ScrubAsked: w.asked, Damage: w.damage, Err: w.err,
	}
	if w.err != nil {
		c.ErrAt = w.errAt
	}
	return c
}

// Care of one source server's journal; fault.NotFound when none is attached.
func (s *Server) Care(serverID string) (Care, error) {
	w, quota := s.ward(serverID)
	if w == nil {
		return Care{}, fault.New(fault.NotFound, "sink", "no journal of source server %s is attached", serverID)
	}
	c := w.care()
	c.Quota, c.Remote = quota, s.c.Blobs != nil
	if j, err := s.Journal(serverID); err == nil { // else it has just been detached
		c.Doubts = j.Doubts()
	}
	return c, nil
}
