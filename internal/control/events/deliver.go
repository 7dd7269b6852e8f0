package events

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const (
	// lease is how long a lane that is being worked on is nobody else's.
	lease = time.Minute
	// batch bounds the events of one lane in a round; with sendTimeout it must fit into the lease.
	batch       = 4
	sendTimeout = 10 * time.Second
	// laneBackoff bounds the time between two attempts to deliver an event.
	laneBackoff = 10 * time.Minute
	// MaxAge is when an event that could not be delivered is given up, as EventBridge does.
	MaxAge = 24 * time.Hour
	// maxRetryAfter bounds what a receiver may ask for.
	maxRetryAfter = time.Hour
)

// outcome is how far a lane came.
type outcome struct {
	lane  state.Lane // as claimed
	after int64
	err   error         // of the delivery that ended it
	wait  time.Duration // what the receiver asked for
}

// claim takes lanes that are due. Without any, next is when the first will be.
func (d *Dispatcher) claim(ctx context.Context, h state.Webhook) (claimed []state.Lane, next time.Duration, err error) {
	now := time.Now().UTC()
	var due bool
	err = d.store.View(ctx, func(r state.Reader) error {
		first, err := r.Lanes(ctx, h.ID, 1)
		due, next = len(first) > 0 && !first[0].NextAt.After(now), pollEvery
		if len(first) > 0 {
			next = first[0].NextAt.Sub(now)
		}
		return err
	})
	if err != nil || !due {
		return nil, next, err
	}
	err = d.store.Update(ctx, func(tx state.Tx) error {
		lanes, err := tx.Lanes(ctx, h.ID, parallel)
		for i := 0; err == nil && i < len(lanes) && !lanes[i].NextAt.After(now); i++ {
			l := lanes[i]
			l.NextAt = now.Add(lease)
			claimed = append(claimed, l)
			err = tx.PutLane(ctx, l)
		}
		return err
	})
	return claimed, 0, err
}

// deliver sends a lane's events in order until one fails.
func (d *Dispatcher) deliver(ctx context.Context, h state.Webhook, l state.Lane) outcome {
	o := outcome{lane: l, after: l.After}
	var all []state.Event
	o.err = d.store.View(ctx, func(r state.Reader) (err error) {
		all, err = r.Events(ctx, h.Account, state.EventFilter{Subject: l.Subject, After: l.After, Limit: batch})
		return err
	})
	for _, e := range all {
		if age := time.Since(e.At); l.Attempts > 0 && age > d.maxAge {
			d.log.Error("an event was never delivered", "webhook", h.ID, "url", h.URL, "event", e.ID, "kind", e.DetailType, "server", e.Subject, "age", age)
			o.after = e.Seq
			continue
		}
		if o.wait, o.err = d.send(ctx, h, e); o.err != nil {
			return o
		}
		o.after = e.Seq
	}
	return o
}

func (d *Dispatcher) send(ctx context.Context, h state.Webhook, e state.Event) (wait time.Duration, err error) {
	const op = "events: deliver"
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	r, err := request(ctx, h, d.hooks.secret(h.ID), e, time.Now())
	if err != nil {
		return 0, err
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return 0, fault.New(fault.Transient, op, "%w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return 0, nil
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		wait = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return wait, fault.New(fault.Transient, op, "the receiver answered %s", resp.Status)
}

// settleTimeout bounds the record of what was delivered when the dispatcher is being stopped.
const settleTimeout = 5 * time.Second

// settle records how far lanes came. What was delivered is recorded even when the caller's context has ended; what is not
// recorded is delivered again.
func (d *Dispatcher) settle(ctx context.Context, h state.Webhook, outcomes []outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return d.store.Update(ctx, func(tx state.Tx) error {
		for _, o := range outcomes {
			if err := settleLane(ctx, tx, h, o); err != nil {
				return err
			}
		}
		return nil
	})
}

func settleLane(ctx context.Context, tx state.Tx, h state.Webhook, o outcome) error {
	l, err := tx.Lane(ctx, o.lane.Webhook, o.lane.Subject)
	if fault.Is(err, fault.NotFound) || err == nil && !l.NextAt.Equal(o.lane.NextAt) {
		return nil // the webhook was deleted, or the lease ran out and somebody else has the lane
	}
	if err != nil {
		return err
	}
	if o.after > l.After {
		l.After, l.Attempts = o.after, 0
	}
	now := time.Now().UTC()
	if o.err != nil {
		l.Attempts++
		l.NextAt = now.Add(max(backoff(int(l.Attempts), laneBackoff), o.wait))
		return tx.PutLane(ctx, l)
	}
	more, err := tx.Events(ctx, h.Account, state.EventFilter{Subject: l.Subject, After: l.After, Limit: 1})
	if err != nil {
		return err
	}
	if len(more) == 0 {
		return tx.DeleteLane(ctx, l.Webhook, l.Subject)
	}
	l.NextAt = now
	return tx.PutLane(ctx, l)
}

// backoff doubles from a second, up to most, give or take a fifth so that those who failed together do not come back together.
func backoff(failures int, most time.Duration) time.Duration {
	d := most
	if failures < 20 {
		d = min(most, time.Second<<(failures-1))
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Client is the HTTP client for webhooks: it follows no redirects, so that nothing but the URL that was given gets the events.
func Client() *http.Client {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: parallel, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: sendTimeout,
	}
	return &http.Client{Transport: t, Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
