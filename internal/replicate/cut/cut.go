// Package cut decides when a capture without payloads reads what was written, and makes the moments at which nothing is:
// those are its only recoverable points. The agent's assembly imports it, hands it to the source as its pacer, and lends
// it a way to hold the file systems still.
//
// The rules are those of docs/design/2026-11-23-capture-modes.md.
package cut

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Config says how often and with what. Dirty is called where MayOpen is.
type Config struct {
	Every      time.Duration // between points; default a minute
	HoldAtMost time.Duration // how long file systems may be held still; 0: never
	Dirty      func() uint64 // bytes that the next epoch would owe
	// Hold calls f while file systems are frozen, and returns when none is. Without it points come only when nothing
	// happens to be written.
	Hold func(ctx context.Context, f func(context.Context) error) error
	Log  *slog.Logger
}

const (
	defaultEvery = time.Minute
	maxRounds    = 8
	assumedRate  = 32 << 20 // bytes per second, before the first round is measured
	leastBudget  = 1 << 20
)

/*
Cutter is one server's pace. MayOpen and Completed are called by the source's goroutine and never wait; Run and Take wait,
and are called by any.

	resting --due--> copying --little left--> freezing --> holding --complete--> resting
	   ^                | \--round does not shrink--> resting     |
	   +--------------- +  <---- a write came, or too long -------+  (thawed first)
*/
type Cutter struct {
	cfg   Config
	begin chan struct{} // to Run: hold now

	mu    sync.Mutex
	state state
	due   time.Time // resting: until then
	since time.Time // when the attempt began
	round struct {
		n     int
		dirty uint64 // what it had to read
		began time.Time
	}
	rate   float64    // bytes per second, of the last round
	opened bool       // holding: the epoch was opened
	result chan error // holding: what became of it
	stat   Status
}

type state uint8

const (
	resting  state = iota
	copying        // an epoch is read while writing goes on
	freezing       // Run was asked to hold
	holding        // nothing should be written now
)

// Status is what a Cutter can say of itself.
type Status struct {
	LastPoint time.Time     // zero: none yet
	Held      time.Duration // the last time that the file systems were
	Failed    string        // why the last attempt came to nothing; "" when it did not
}

// New returns a Cutter whose first attempt is due at once.
func New(c Config) *Cutter {
	if c.Every <= 0 {
		c.Every = defaultEvery
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Cutter{cfg: c, begin: make(chan struct{}, 1), rate: assumedRate}
}

// Status may be asked for by any goroutine.
func (c *Cutter) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stat
}

// MayOpen is asked while an epoch that writes have ended owes nothing: may the next be opened?
func (c *Cutter) MayOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch c.state {
	case resting:
		if now.Before(c.due) {
			return false
		}
		c.state, c.since, c.round.n = copying, now, 0
		return c.nextRound(now)
	case copying:
		return c.nextRound(now)
	case holding:
		if c.opened {
			c.settle(fault.New(fault.Conflict, "cut", "something was written while the file systems were held still").
				WithHint("swap, raw partitions and file systems that cannot be frozen are not held"))
			return false
		}
		c.opened = true
		return true
	}
	return false
}

// nextRound decides whether to read what is left while writing goes on, or to make it stop.
func (c *Cutter) nextRound(now time.Time) bool {
	dirty, r := c.cfg.Dirty(), &c.round
	if r.n > 0 {
		if took := now.Sub(r.began).Seconds(); took > 0 && r.dirty > leastBudget {
			c.rate = float64(r.dirty) / took
		}
		if c.cfg.Hold != nil && c.cfg.HoldAtMost > 0 && dirty <= c.budget() {
			c.state = freezing
			select {
			case c.begin <- struct{}{}:
			default: // Run will come to it
			}
			return false
		}
		if r.n >= maxRounds || dirty > r.dirty/2 && dirty > c.budget() {
			c.rest(now, "writes come as fast as they are read")
			return false
		}
	}
	r.n, r.dirty, r.began = r.n+1, dirty, now
	return true
}

// budget is what may be left to read while the file systems are held: a quarter of what the time allows.
func (c *Cutter) budget() uint64 {
	return max(uint64(c.rate*c.cfg.HoldAtMost.Seconds()/4), leastBudget)
}

// rest ends an attempt; failed says why there is no point.
func (c *Cutter) rest(now time.Time, failed string) {
	c.state, c.stat.Failed = resting, failed
	c.due = now.Add(max(c.cfg.Every, now.Sub(c.since)))
}

// Completed is told that an epoch is: now is a point.
func (c *Cutter) Completed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.stat.LastPoint, c.stat.Failed = now, ""
	switch c.state {
	case holding:
		c.settle(nil)
	case copying: // it happened by itself
		c.rest(now, "")
	case resting:
		c.due = now.Add(c.cfg.Every)
	}
}

// settle ends a hold.
func (c *Cutter) settle(err error) {
	if c.result != nil {
		c.result <- err // has room
		c.result = nil
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	c.rest(time.Now(), failed)
}

// Take makes a point now. The caller has seen to it that nothing is written meanwhile.
func (c *Cutter) Take(ctx context.Context) error {
	result := make(chan error, 1)
	c.mu.Lock()
	if c.state == holding {
		c.mu.Unlock()
		return fault.New(fault.Conflict, "cut", "another point is being taken")
	}
	if c.state == resting {
		c.since = time.Now()
	}
	c.state, c.opened, c.result = holding, false, result
	c.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case err := <-result:
		return err
	default:
	}
	err := fault.New(fault.Transient, "cut", "what was left could not be read in time: %w", ctx.Err())
	c.settle(err)
	return err
}

// Run holds the file systems when it is time to, until ctx ends.
func (c *Cutter) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.begin:
			c.hold(ctx)
		}
	}
}

func (c *Cutter) hold(ctx context.Context) {
	failed := c.Status().Failed
	var began time.Time
	err := c.cfg.Hold(ctx, func(ctx context.Context) error {
		began = time.Now()
		ctx, cancel := context.WithTimeout(ctx, c.cfg.HoldAtMost)
		defer cancel()
		return c.Take(ctx)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if !began.IsZero() {
		c.stat.Held = time.Since(began)
	}
	if c.state == freezing { // it never came to holding
		c.rest(time.Now(), "")
	}
	switch {
	case err == nil:
		c.cfg.Log.Debug("point taken", "held", c.stat.Held)
	case ctx.Err() == nil:
		if failed != err.Error() {
			c.cfg.Log.Warn("no point this time", "error", err)
		}
		c.stat.Failed = err.Error()
	}
}
