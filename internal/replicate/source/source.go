// Package source is the agent's half of replication: it opens epochs, reads the baseline from the disks, streams
// captured writes in order, and decides after every interruption where to go on so that nothing is lost and nothing
// doubtful is called recoverable.
//
// The agent's assembly imports it and hands it the doors it needs: a capture, disks to read, a way to dial, a clock.
// The rules are those of docs/design/2026-11-22-replication.md.
package source

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Source replicates one server. Run owns all of its state; Status, SetBandwidth and Cut may be called by any goroutine.
type Source struct {
	cfg    Config
	cap    *buffered
	log    *slog.Logger
	id     string // of the capture, hex
	disks  []*disk
	memory memory
	ep     epoch // as memory holds it
	left   bool  // its debt is its successor's, which was not opened to the end
	clock  clock
	settle settling
	// Dropped writes that are waited for no more, and since when others are.
	forgiven uint64
	waited   uint64 // the epoch that was completed after all of them were
	waiting  settling
	readers  readers
	finder   finder
	plan     plan // of verify passes
	findings findings
	overflow overflow
	outran   func() bool // a test's own idea of outrun
	freed    freed
	running  context.Context // Run's, for searches that outlive connections
	limiter  *rate.Limiter
	meter    meter

	sessions uint64
	cuts     chan *Cut
	pending  []*Cut // taken, not sent yet; in order

	mu     sync.Mutex
	status Status
}

// New prepares a Source. It reads what an earlier one left in the capture's meta cells.
func New(c Config) (*Source, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	id := c.Capture.ID()
	s := &Source{
		cfg: c, cap: newBuffered(c.Capture, c.BacklogBytes), log: c.Log, id: hex.EncodeToString(id[:]),
		memory: memory{cells: c.Capture}, clock: clock{read: c.Clock}, limiter: rate.NewLimiter(rate.Inf, burst), cuts: make(chan *Cut), running: context.Background(),
	}
	for _, d := range c.Disks {
		s.disks = append(s.disks, &disk{Disk: d, debt: c.Capture.Debt(d.Index), shown: d.Bytes})
	}
	s.ep = s.memory.load()
	s.left = s.memory.left(s.ep.number)
	s.curtail()
	s.readers = newReaders(c.Readers)
	s.finder.found = make(chan unused)
	s.freed.found = make(chan map[uint16][]Range, 1)
	s.plan = newPlan(c.Verify, s.disks)
	s.publish(PhaseConnecting, nil)
	return s, nil
}

// SetBandwidth limits what is sent, in bytes per second; 0 is no limit. Limits below MinBandwidth are raised to it,
// because a frame that takes too long looks like a dead link.
func (s *Source) SetBandwidth(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		s.limiter.SetLimit(rate.Inf)
		return
	}
	s.limiter.SetLimit(rate.Limit(max(bytesPerSecond, MinBandwidth)))
}

func (s *Source) limit() int64 {
	if l := s.limiter.Limit(); l != rate.Inf {
		return int64(l)
	}
	return 0
}

// Run replicates until ctx ends, which is no error, or something happens that dialing again cannot cure.
func (s *Source) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.cap.backlog.Close()
	defer s.abandon()
	defer s.readers.wait()
	defer s.finder.group.Wait()
	defer cancel()
	s.running = ctx
	s.readers.start(ctx, s.cfg.Yield)
	var pause backoff
	var heard complaint
	for ctx.Err() == nil {
		progress, err := s.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		if progress {
			pause = backoff{}
		}
		s.publish(PhaseConnecting, err)
		if permanent(err) {
			return fault.Wrap("source", err)
		}
		wait := pause.next()
		if tell, untold := heard.of(err, progress, time.Now()); tell {
			s.log.Warn("replication interrupted", "err", err, "retry", wait.Round(time.Millisecond), "untold", untold)
		}
		resting, rested := context.WithTimeout(ctx, wait)
		err = s.tend(resting.Done())
		rested()
		if err != nil {
			return fault.Wrap("source", err)
		}
	}
	s.publish(PhaseStopped, nil)
	return nil
}

// tend does between connections what cannot wait for the next one, until done is closed.
func (s *Source) tend(done <-chan struct{}) error {
	every := publishEvery
	if s.cap.backlog.Limit() > 0 {
		every = s.cfg.Poll
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for published := time.Now(); ; {
		select {
		case <-done:
			return nil
		case now := <-tick.C:
			if err := s.spill(nil); err != nil {
				return err
			}
			if now.Sub(published) >= publishEvery {
				published = now
				s.refresh()
			}
		}
	}
}

// final marks an error that dialing again cannot cure.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

func permanent(err error) bool {
	_, ok := errors.AsType[final](err)
	return ok
}

// backoff grows from a tenth of a second to a cap, with jitter so that agents do not dial in step.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, 100*time.Millisecond), maxBackoff)
	return b.last/2 + rand.N(b.last/2)
}
