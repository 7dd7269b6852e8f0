package sink

import (
	"context"
	"sync"
	"time"
)

// brake watches how long the syncs of ingest take and tells maintenance to stand aside while they suffer: an agent that
// waits for an acknowledgement waits for the disk that a merge keeps busy.
type brake struct {
	slow time.Duration // a sync that takes longer suffers

	mu      sync.Mutex
	running map[*time.Time]struct{} // when the syncs under way began
	until   time.Time               // stand aside until then
	changed chan struct{}           // closed when one ends
}

const (
	// after a slow sync maintenance rests for restFactor times what it took, at most longestRest: the disk gets air, and a disk
	// that is always slow does not stop maintenance for good.
	restFactor  = 10
	longestRest = 5 * time.Second
	// standAside bounds one wait on the whole, for the same reason.
	standAside = 10 * time.Second
	// waitAside bounds it while something waits for object storage: there is one worker, so what one turn waits for, all do.
	waitAside = time.Second
)

func newBrake(slow time.Duration) *brake {
	return &brake{slow: slow, running: map[*time.Time]struct{}{}, changed: make(chan struct{})}
}

// syncing notes the beginning of a sync; the returned function its end, and says what it took.
func (b *brake) syncing() (done func() time.Duration) {
	began := time.Now()
	b.mu.Lock()
	b.running[&began] = struct{}{}
	b.mu.Unlock()
	return func() time.Duration {
		now := time.Now()
		took := now.Sub(began)
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.running, &began)
		if took > b.slow {
			if until := now.Add(min(restFactor*took, longestRest)); until.After(b.until) {
				b.until = until
			}
		}
		close(b.changed)
		b.changed = make(chan struct{})
		return took
	}
}

// wait is how long to stand aside now, and what else may end it; 0 is not at all.
func (b *brake) wait() (time.Duration, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	d := b.until.Sub(now)
	for began := range b.running {
		if now.Sub(*began) > b.slow {
			d = max(d, longestRest)
		}
	}
	return d, b.changed
}

// yield returns when ingest does not suffer, or has made maintenance wait for long enough.
func (b *brake) yield(ctx context.Context, longest time.Duration) error {
	limit := time.NewTimer(longest)
	defer limit.Stop()
	for {
		d, changed := b.wait()
		if d <= 0 {
			return ctx.Err()
		}
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
		case <-limit.C:
			t.Stop()
			return nil
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
