package replication

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// never is an answer of a pass that needs no other until something happens.
const never = -1 * time.Second

// view is what one pass decides by: the intent and the world at one moment.
type view struct {
	rec        state.Replication
	generation uint64
	agent      sighting
	status     ReplicaStatus
	served     bool
	cutAt      time.Time
	refused    bool
	now        time.Time
	lost       bool // the agent has not been seen for AgentLostAfter
	// unstable and diverging say what keeps going wrong; calm is that the network has been well for a while.
	unstable, diverging string
	calm                bool
}

// pass does one step for one server and says when to look again. The queue makes the caller its only owner.
func (e *Engine) pass(ctx context.Context, id string) time.Duration {
	a, err := e.find(ctx, id)
	if err != nil {
		if !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			e.log.Error("cannot load replication record", "server", id, "error", err)
			return teardownRetry
		}
		return never
	}
	v, gone, err := e.look(ctx, a)
	if gone {
		return never
	}
	if err != nil {
		if ctx.Err() == nil {
			e.log.Error("cannot read replication record again", "server", id, "error", err)
		}
		return teardownRetry
	}
	again, err := e.step(ctx, a, v)
	if err != nil && ctx.Err() == nil {
		e.log.Error("cannot store replication record", "server", id, "error", err)
		return teardownRetry
	}
	return again
}

func (e *Engine) look(ctx context.Context, a *actor) (v view, gone bool, err error) {
	status := e.server.Status(a.id)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := e.sure(ctx, a); err != nil {
		return v, a.gone, err
	}
	now := time.Now().UTC()
	a.measure(status, now)
	seen := a.agent.at
	if seen.IsZero() {
		seen = e.began.UTC()
	}
	if a.rec.State == state.Initiating {
		seen = latest(seen, a.rec.Attempt.StartedAt) // whoever starts replication may have to start the agent too
	}
	return view{
		rec: a.current(), generation: a.generation, agent: a.agent, status: status, served: a.served, cutAt: a.cutAt, refused: a.refused, now: now,
		lost: now.Sub(seen) >= AgentLostAfter, unstable: a.trouble.unstable(now), calm: a.trouble.calm(status, now),
		diverging: a.trouble.diverging(status, a.rec, a.agent.ahead, now),
	}, a.gone, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (e *Engine) step(ctx context.Context, a *actor, v view) (time.Duration, error) {
	switch {
	case v.rec.Teardown:
		return e.teardown(ctx, a, v)
	case v.rec.Intent == state.IntentStop || v.rec.Intent == state.IntentDisconnect:
		return never, nil
	case v.rec.State == state.Initiating:
		return e.initiate(ctx, a, v)
	case v.rec.State == state.Stalled:
		return e.stalled(ctx, a, v)
	case v.rec.State == state.Paused:
		return e.keepAttached(ctx, a, v), nil
	}
	return e.observe(ctx, a, v)
}

// apply changes the record by fn and asks for the next pass at once; fn reports false to leave it. An
// operation that came between voids the decision. Measurements that were made meanwhile are kept.
func (e *Engine) apply(ctx context.Context, a *actor, v view, fn func(*state.Replication) bool, also ...change) (time.Duration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation != v.generation {
		return 0, nil
	}
	rec := a.current()
	if !fn(&rec) {
		return pollEvery, nil
	}
	return 0, e.save(ctx, a, rec, also...)
}

// fire applies one trigger.
func (e *Engine) fire(ctx context.Context, a *actor, v view, on Trigger) (time.Duration, error) {
	return e.apply(ctx, a, v, func(r *state.Replication) bool { return move(r, on, v.now) })
}

func (e *Engine) stall(ctx context.Context, a *actor, v view, code state.ErrorCode, raw string) (time.Duration, error) {
	return e.apply(ctx, a, v, func(r *state.Replication) bool { return stall(r, Stall, code, raw, time.Now().UTC()) })
}

// slow runs work that may take a while: an operation on the server or the end of ctx interrupts it.
// stale tells that an operation has.
func (e *Engine) slow(ctx context.Context, a *actor, v view, work func(context.Context) error) (stale bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	a.mu.Lock()
	if a.generation != v.generation {
		a.mu.Unlock()
		return true, nil
	}
	a.interrupt = cancel
	a.mu.Unlock()
	err = work(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.interrupt = nil
	return a.generation != v.generation, err
}

// stalled waits for what ends a stall: the world being well again, a retry, or the next attempt's time.
func (e *Engine) stalled(ctx context.Context, a *actor, v view) (time.Duration, error) {
	if v.rec.Retry && v.agent.retry {
		return e.fire(ctx, a, v, AttemptDue)
	}
	code := state.ErrorCode("")
	if v.rec.Error != nil {
		code = v.rec.Error.Code
	}
	switch code {
	case state.UnstableNetwork, state.NotConverging:
		if !v.served || !v.status.Attached { // the path went too
			return e.fire(ctx, a, v, AttemptDue)
		}
		well := v.status.Err == nil && v.calm
		if code == state.NotConverging {
			well = v.diverging == ""
		}
		if well && v.now.Sub(v.rec.ErrorAt) >= snapshotRetry {
			return e.fire(ctx, a, v, Unstall)
		}
	case state.AgentNotSeen:
		if !v.lost {
			return e.fire(ctx, a, v, Unstall)
		}
	case state.SnapshotsFailure:
		if v.status.Err == nil && (v.refused || v.now.Sub(v.rec.ErrorAt) >= snapshotRetry) {
			return e.fire(ctx, a, v, Unstall)
		}
	default: // a step failed
		due := !v.now.Before(v.rec.Attempt.NextAttemptAt)
		if due || worksNow(code, v) {
			return e.fire(ctx, a, v, AttemptDue)
		}
	}
	return e.keepAttached(ctx, a, v), nil
}

// worksNow tells that what the agent had to do in a failed step has happened since.
func worksNow(code state.ErrorCode, v view) bool {
	for _, s := range []state.StepName{state.StepPair, state.StepConnect, state.StepTransfer} {
		if code == failed(s) {
			return v.status.Attached && waited(s, v)
		}
	}
	return false
}

// keepAttached keeps the journal of a server readable while no data comes, for it may be launched.
func (e *Engine) keepAttached(ctx context.Context, a *actor, v view) time.Duration {
	if v.rec.RecoverableAt.IsZero() || v.status.Attached {
		return idlePoll
	}
	stale, err := e.slow(ctx, a, v, func(ctx context.Context) error {
		_, err := e.server.AttachStaging(ctx, a.id)
		return err
	})
	if err != nil && !stale && ctx.Err() == nil {
		e.log.Warn("cannot open journal", "server", a.id, "error", err)
		return teardownRetry
	}
	return idlePoll
}
