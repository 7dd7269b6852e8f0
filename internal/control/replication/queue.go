package replication

import (
	"sync"
	"time"
)

// queue hands out keys to workers: first come first served, a key waits at most once, and no two
// workers have the same key. So many servers share few workers fairly, and each has one owner at a time.
type queue struct {
	mu     sync.Mutex
	wake   *sync.Cond
	ready  []string
	state  map[string]keyState
	timers map[string]*time.Timer
	closed bool
}

type keyState uint8

const (
	waiting keyState = iota + 1 // in ready
	working                     // with a worker
	rework                      // with a worker, and wanted again
)

func newQueue() *queue {
	q := &queue{state: map[string]keyState{}, timers: map[string]*time.Timer{}}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// add wants a key to be worked on soon.
func (q *queue) add(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(key)
}

func (q *queue) addLocked(key string) {
	if q.closed {
		return
	}
	q.disarm(key)
	switch q.state[key] {
	case waiting, rework:
	case working:
		q.state[key] = rework
	default:
		q.state[key] = waiting
		q.ready = append(q.ready, key)
		q.wake.Signal()
	}
}

// get waits for a key. ok is false when the queue is closed.
func (q *queue) get() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 && !q.closed {
		q.wake.Wait()
	}
	if q.closed {
		return "", false
	}
	key = q.ready[0]
	q.ready = q.ready[1:]
	q.state[key] = working
	return key, true
}

// done gives a key back. It comes again after the given time, sooner if it was wanted meanwhile, and
// with a negative time only when it is wanted.
func (q *queue) done(key string, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wanted := q.state[key] == rework
	delete(q.state, key)
	switch {
	case q.closed:
	case wanted || again == 0:
		q.addLocked(key)
	case again > 0:
		q.timers[key] = time.AfterFunc(again, func() { q.add(key) })
	}
}

// disarm stops a key's timer. A timer that has just fired adds the key once too often, which is harmless.
func (q *queue) disarm(key string) {
	if t := q.timers[key]; t != nil {
		t.Stop()
		delete(q.timers, key)
	}
}

// close sends every worker home and stops all timers.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for key := range q.timers {
		q.disarm(key)
	}
	q.wake.Broadcast()
}
