package sink

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/priority"
)

// Maintenance configures what is done to journals beside taking data in. A zero member has a default.
type Maintenance struct {
	BytesPerSecond int64         // read and written by flushing, merging and scrubbing; default 128 MiB
	SlowSync       time.Duration // stand aside when a sync of what arrives takes longer; default 100 ms
	ScrubPeriod    time.Duration // everything stored is read again within it; default 7 days
	SealAfter      time.Duration // what arrives is in layers at the latest after it; default 10 min
}

const (
	defaultRate        = 128 << 20
	defaultSlowSync    = 100 * time.Millisecond
	defaultScrubPeriod = 7 * 24 * time.Hour
	defaultSealAfter   = 10 * time.Minute

	// idleRest is how often a journal with nothing to do is asked again. longestBackoff is the longest pause after a failure.
	idleRest       = time.Second
	longestBackoff = time.Minute
)

func (m Maintenance) withDefaults() Maintenance {
	if m.BytesPerSecond <= 0 {
		m.BytesPerSecond = defaultRate
	}
	m.SlowSync = cmp.Or(m.SlowSync, defaultSlowSync)
	m.ScrubPeriod = cmp.Or(m.ScrubPeriod, defaultScrubPeriod)
	m.SealAfter = cmp.Or(m.SealAfter, defaultSealAfter)
	return m
}

// caretaker keeps the journals of a replication server small, quick and intact: one goroutine, one step of one journal at
// a time. Turns alternate between the journal that is furthest behind and the next in order, so that neither the
// busiest nor the others starve.
type caretaker struct {
	c      Maintenance
	log    *slog.Logger
	brake  *brake
	bucket *rate.Limiter
	poked  chan struct{}

	wards  func() []*ward                      // journals that are attached
	urgent func(*ward) bool                    // room is short for it
	repair func(*ward, []journal.Damage) error // asks the source for what is lost
	rested func(*ward)                         // called whenever one has had its turn

	last    string // whose turn it was in order
	inOrder bool   // the last turn was one in order
}

func newCaretaker(c Maintenance, log *slog.Logger) *caretaker {
	c = c.withDefaults()
	return &caretaker{
		c: c, log: log, brake: newBrake(c.SlowSync), poked: make(chan struct{}, 1),
		bucket: rate.NewLimiter(rate.Limit(c.BytesPerSecond), int(max(c.BytesPerSecond/8, 1<<20))),
	}
}

// run works until ctx ends.
func (k *caretaker) run(ctx context.Context) {
	if err := priority.Lower(); err != nil {
		k.log.Warn("sink: maintenance runs at the priority of everything else", "error", err)
	}
	for ctx.Err() == nil {
		w, wait := k.next(time.Now())
		if w != nil {
			k.turn(ctx, w)
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-k.poked:
		case <-t.C:
		}
		t.Stop()
	}
}

// poke gives a journal a turn before its rest is over: it is behind.
func (k *caretaker) poke(w *ward) {
	w.wake()
	select {
	case k.poked <- struct{}{}:
	default: // it is awake
	}
}

// next picks whose turn it is. When it is nobody's, wait is how long.
func (k *caretaker) next(now time.Time) (_ *ward, wait time.Duration) {
	var due []*ward
	wait = idleRest
	for _, w := range k.wards() {
		if d := w.resting(now); d > 0 {
			wait = min(wait, d)
		} else {
			due = append(due, w)
		}
	}
	if len(due) == 0 {
		return nil, wait
	}
	slices.SortFunc(due, func(a, b *ward) int { return cmp.Compare(a.id, b.id) })
	worst := slices.MaxFunc(due, moreUrgent(now))
	if k.inOrder && (worst.u.Pressure() > journal.Relaxed || worst.u.Exposure().Sealed > 0) {
		k.inOrder = false
		return worst, 0
	}
	k.inOrder = true
	n, found := slices.BinarySearchFunc(due, k.last, func(w *ward, id string) int { return cmp.Compare(w.id, id) })
	if found {
		n++
	}
	w := due[n%len(due)]
	k.last = w.id
	return w, 0
}

// moreUrgent compares journals by how far they are behind, and where that is equal by how long what they sealed has waited for object storage.
func moreUrgent(now time.Time) func(a, b *ward) int {
	waited := func(w *ward) time.Duration {
		if x := w.u.Exposure(); x.Sealed > 0 {
			return now.Sub(x.Since)
		}
		return 0
	}
	return func(a, b *ward) int {
		return cmp.Or(cmp.Compare(a.u.Pressure(), b.u.Pressure()), cmp.Compare(waited(a), waited(b)))
	}
}

// turn does one step for one journal.
func (k *caretaker) turn(ctx context.Context, w *ward) {
	began := time.Now()
	did, err := w.u.Maintain(ctx, journal.Limits{Pace: k.pacer(w, &w.maintained), SealAfter: w.sealAfter(began, k.c.SealAfter), Urgent: k.urgent(w)})
	if err == nil && !did {
		did, err = k.scrub(ctx, w, began)
	}
	if ctx.Err() != nil || w.u.Closed() {
		return
	}
	w.look()
	if err == nil && w.mayMend(began, did) {
		err = k.mend(w)
	}
	switch news := w.settle(time.Now(), did, err); {
	case news && err != nil:
		k.log.Warn("sink: maintenance of a journal fails; it is tried again", "server", w.id, "error", err)
	case news:
		k.log.Info("sink: maintenance of a journal goes on", "server", w.id)
	}
	k.rested(w)
}

// behind is the greatest pressure of all journals: they have one worker, so what one has to wait for, all do.
func (k *caretaker) behind() journal.Pressure {
	p := journal.Relaxed
	for _, w := range k.wards() {
		p = max(p, w.u.Pressure())
	}
	return p
}

// exposed tells whether something sealed is not in object storage yet.
func (k *caretaker) exposed() bool {
	return slices.ContainsFunc(k.wards(), func(w *ward) bool { return w.u.Exposure().Sealed > 0 })
}

// pacer is what bytes must pass. While a journal is behind, nothing stands aside for what arrives, for that waits for
// maintenance; nor does what would be lost with the local disk. While one is full, nothing is even held to the rate.
func (k *caretaker) pacer(w *ward, count *counter) func(context.Context, int64) error {
	return func(ctx context.Context, bytes int64) error {
		behind := k.behind()
		if behind == journal.Relaxed && w.u.Exposure().Sealed == 0 {
			longest := standAside
			if k.exposed() {
				longest = waitAside
			}
			if err := k.brake.yield(ctx, longest); err != nil {
				return paced(err)
			}
		}
		count.Add(bytes)
		for left := bytes; left > 0 && behind != journal.Full; left -= int64(k.bucket.Burst()) {
			if err := k.bucket.WaitN(ctx, int(min(left, int64(k.bucket.Burst())))); err != nil {
				return paced(err)
			}
		}
		return paced(ctx.Err())
	}
}

func paced(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Transient, "sink: pace", "%w", err)
}
