package serve

import (
	"container/list"
	"context"
	"sync"
)

// turns are how many may compute at one moment. Who waits is served in order, but whoever has had a turn before comes
// first: what was begun is brought to its end before more is begun.
type turns struct {
	mu           sync.Mutex
	free         int
	begun, fresh list.List // of chan struct{}, closed when it is their turn; empty while any is free
}

func newTurns(n int) *turns { return &turns{free: n} }

// take waits for a turn, which give ends.
func (t *turns) take(ctx context.Context, again bool) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	queue := &t.fresh
	if again {
		queue = &t.begun
	}
	mine := make(chan struct{})
	place := queue.PushBack(mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-mine: // it came at the same moment
		t.next()
	default:
		queue.Remove(place)
	}
	return ctx.Err()
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next hands a turn on. The caller holds t.mu.
func (t *turns) next() {
	for _, queue := range []*list.List{&t.begun, &t.fresh} {
		if first := queue.Front(); first != nil {
			close(queue.Remove(first).(chan struct{}))
			return
		}
	}
	t.free++
}

// waiting is how many wait.
func (t *turns) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun.Len() + t.fresh.Len()
}
