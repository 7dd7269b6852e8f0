package events

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

const (
	// pollEvery is how often it is looked for what other processes recorded.
	pollEvery = 5 * time.Second
	// expireEvery is how often old events are removed.
	expireEvery = time.Hour
	// parallel bounds the deliveries to one webhook at a time. Each is of another source server.
	parallel = 8
	// hookPause bounds the rest after a round in which no delivery to a webhook worked.
	hookPause = time.Minute
)

// Dispatcher delivers events: every event of an account to each of its webhooks, at least once, those of one source server in
// order. What is still to be delivered is in the store, so any process may die at any point, and several may run.
type Dispatcher struct {
	store  *Recorder
	hooks  *Webhooks
	client *http.Client
	log    *slog.Logger
	maxAge time.Duration // MaxAge, but in tests
}

// NewDispatcher returns a dispatcher that posts with client.
func NewDispatcher(hooks *Webhooks, client *http.Client, log *slog.Logger) *Dispatcher {
	return &Dispatcher{store: hooks.store, hooks: hooks, client: client, log: log, maxAge: MaxAge}
}

// Run delivers until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	running := map[string]context.CancelFunc{}
	var wg sync.WaitGroup
	defer wg.Wait()
	var expired time.Time
	trouble := streak{log: d.log, what: "cannot look for events"}
	for {
		changed := d.store.Changed()
		hooks, err := d.hooks.List(ctx, "")
		if err == nil && time.Since(expired) >= expireEvery {
			expired = time.Now()
			err = d.store.Update(ctx, func(tx state.Tx) error { return tx.ExpireEvents(ctx, expired.Add(-Retention)) })
		}
		trouble.note(ctx, err)
		if err == nil {
			d.follow(ctx, &wg, running, hooks)
		}
		if !pause(ctx, changed, pollEvery) {
			return nil
		}
	}
}

// follow has one worker running per webhook.
func (d *Dispatcher) follow(ctx context.Context, wg *sync.WaitGroup, running map[string]context.CancelFunc, hooks []state.Webhook) {
	wanted := map[string]bool{}
	for _, h := range hooks {
		wanted[h.ID] = true
		if running[h.ID] == nil {
			own, stop := context.WithCancel(ctx)
			running[h.ID] = stop
			wg.Go(func() { d.serve(own, h) })
		}
	}
	for id, stop := range running {
		if !wanted[id] {
			stop()
			delete(running, id)
		}
	}
}

// serve delivers to one webhook.
func (d *Dispatcher) serve(ctx context.Context, h state.Webhook) {
	trouble := streak{log: d.log.With("webhook", h.ID, "url", h.URL), what: "cannot deliver events"}
	failures := 0
	for ctx.Err() == nil {
		changed := d.store.Changed()
		lanes, next, err := d.claim(ctx, h)
		if err == nil && len(lanes) == 0 {
			pause(ctx, changed, min(pollEvery, next))
			continue
		}
		worked := false
		if err == nil {
			worked, err = d.round(ctx, h, lanes)
		}
		trouble.note(ctx, err)
		if worked || err == nil {
			failures = 0
			continue
		}
		failures++
		pause(ctx, nil, backoff(failures, hookPause))
	}
}

// round works on lanes at once and records how far each came. It tells whether any delivery worked, and an error of one that
// did not.
func (d *Dispatcher) round(ctx context.Context, h state.Webhook, lanes []state.Lane) (worked bool, err error) {
	outcomes := make([]outcome, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() { outcomes[i] = d.deliver(ctx, h, l) })
	}
	wg.Wait()
	for _, o := range outcomes {
		worked = worked || o.after > o.lane.After
		if o.err != nil {
			err = o.err
		}
	}
	if settled := d.settle(ctx, h, outcomes); settled != nil {
		return worked, settled
	}
	return worked, err
}

// pause waits until wake is closed or the time is over; false means that ctx has ended.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// streak logs ongoing trouble when it begins and when it is over.
type streak struct {
	log  *slog.Logger
	what string
	on   bool
}

func (s *streak) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil || (err != nil) == s.on:
		return
	case err != nil:
		s.log.Warn(s.what, "error", err)
	default:
		s.log.Info(s.what + ": over")
	}
	s.on = err != nil
}
