package replication

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// teardown removes the staging area of a server whose replication was stopped or ended, then its records
// if it is being deleted. Every step may be repeated, and is after a crash.
func (e *Engine) teardown(ctx context.Context, a *actor, v view) (time.Duration, error) {
	a.mu.Lock()
	a.served = false
	a.mu.Unlock()
	stale, err := e.slow(ctx, a, v, func(ctx context.Context) error {
		err := e.server.Revoke(ctx, a.id)
		if err == nil && v.rec.Staged {
			err = errors.Join(e.server.DetachStaging(ctx, a.id), e.server.DestroyStaging(ctx, a.id))
		}
		return err
	})
	switch {
	case stale || ctx.Err() != nil:
		return 0, nil
	case err != nil:
		e.log.Warn("cannot remove staging area; will try again", "server", a.id, "after", teardownRetry, "error", err)
		return teardownRetry, nil
	case v.rec.Deleting:
		return never, e.erase(ctx, a)
	}
	return e.apply(ctx, a, v, func(r *state.Replication) bool {
		r.Teardown, r.Staged = false, false
		forget(r)
		return true
	})
}

// erase ends a deleted server's records.
func (e *Engine) erase(ctx context.Context, a *actor) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := e.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteServer(ctx, a.id) }); err != nil {
		return err
	}
	a.gone = true
	e.mu.Lock()
	delete(e.actors, a.id)
	e.mu.Unlock()
	return nil
}
