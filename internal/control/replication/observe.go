package replication

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// observe follows a server whose path is up: what a verify pass found is told before anything else, for it must not wait until all is
// well. Then it recognises trouble, then how far the data is.
func (e *Engine) observe(ctx context.Context, a *actor, v view) (time.Duration, error) {
	switch {
	case v.status.Finding != nil && !v.status.Finding.Same(v.rec.Finding):
		return e.apply(ctx, a, v, func(r *state.Replication) bool { r.Finding = v.status.Finding; return true })
	case v.lost:
		return e.stall(ctx, a, v, state.AgentNotSeen, unseen(v))
	case !v.served || !v.status.Attached:
		return e.pathLost(ctx, a, v)
	case v.status.Err != nil:
		return e.refused(ctx, a, v)
	case v.unstable != "":
		return e.stall(ctx, a, v, state.UnstableNetwork, v.unstable)
	case v.diverging != "":
		return e.stall(ctx, a, v, state.NotConverging, v.diverging)
	case !v.cutAt.IsZero() && v.now.Sub(v.cutAt) >= ReconnectGrace:
		return e.pathLost(ctx, a, v)
	case !v.status.BaselineComplete:
		return e.copying(ctx, a, v)
	case v.rec.State == state.CreatingSnapshot:
		return e.takePoint(ctx, a, v)
	}
	on, stay := judge(v)
	if !stay {
		return e.apply(ctx, a, v, func(r *state.Replication) bool {
			// A first copy that was over before anybody looked, or while nobody could, has no point yet either.
			r.Complete, r.PointDue = true, r.PointDue || !r.Complete
			return move(r, on, v.now)
		})
	}
	return e.checkpoint(ctx, a, v)
}

// pathLost sends a flowing server through initiation again. From INITIATING itself there is no such
// way: the steps are done once more.
func (e *Engine) pathLost(ctx context.Context, a *actor, v view) (time.Duration, error) {
	a.mu.Lock()
	a.served = false
	a.cutAt = time.Time{} // a new grace
	a.mu.Unlock()
	if v.rec.State == state.Initiating {
		return e.apply(ctx, a, v, func(r *state.Replication) bool { r.Attempt.Steps = freshSteps(); return true })
	}
	return e.fire(ctx, a, v, PathLost)
}

// refused stalls a server whose data is not taken in.
func (e *Engine) refused(ctx context.Context, a *actor, v view) (time.Duration, error) {
	a.mu.Lock()
	a.refused = true
	a.mu.Unlock()
	return e.stall(ctx, a, v, codeOf(v.status.Err), v.status.Err.Error())
}

// codeOf maps why a replication server cannot take data in.
func codeOf(err error) state.ErrorCode {
	if fault.Is(err, fault.Transient) {
		return state.UnstableNetwork
	}
	return state.SnapshotsFailure // no room, damaged, or no longer ours: no new recovery point can be made
}

// copying is a baseline under way: the first copy, or a rescan of what was copied before.
func (e *Engine) copying(ctx context.Context, a *actor, v view) (time.Duration, error) {
	on, to := CopySeen, state.InitialSync
	if phase := v.agent.report.Phase; phase == PhaseRescan || phase != PhaseInitialSync && v.rec.Complete {
		on, to = RescanSeen, state.Rescan
	}
	if v.rec.State == to {
		return e.checkpoint(ctx, a, v)
	}
	return e.apply(ctx, a, v, func(r *state.Replication) bool { r.PointDue = true; return move(r, on, v.now) })
}

// judge tells whether a server with a complete baseline is up to date. The two bounds of each measure
// keep it from swinging.
func judge(v view) (on Trigger, stay bool) {
	lag, backlog := lagOf(v.status.Watermark, v.agent.ahead, v.now), backlogOf(v.rec)
	up := v.rec.State == state.Continuous
	behind := !v.status.Recoverable
	if up {
		behind = behind || lag > lagUpper || backlog > backlogUpper
	} else {
		behind = behind || lag > lagLower || backlog > backlogLower
	}
	switch {
	case v.rec.State != state.Backlog && v.rec.State != state.Continuous: // the copy has just been completed
		return BacklogSeen, false
	case behind && up:
		return BacklogSeen, false
	case behind || up:
		return "", true
	case v.rec.PointDue:
		return PointMissing, false
	}
	return DrainedSeen, false
}

func lagOf(watermark time.Time, ahead time.Duration, now time.Time) time.Duration {
	if watermark.IsZero() {
		return 1<<63 - 1
	}
	return max(0, now.Add(ahead).Sub(watermark))
}

func backlogOf(r state.Replication) (n uint64) {
	for _, d := range r.Disks {
		n += d.Backlogged
	}
	return n
}

// takePoint makes the first recovery point after a copy; with it the server is launchable.
func (e *Engine) takePoint(ctx context.Context, a *actor, v view) (time.Duration, error) {
	var p state.Point
	stale, err := e.slow(ctx, a, v, func(ctx context.Context) (err error) {
		p, err = e.points.Take(ctx, v.rec.Scope, a.id)
		return err
	})
	switch {
	case stale || ctx.Err() != nil:
		return 0, nil
	case fault.Is(err, fault.NotFound): // not yet
		return pollEvery, nil
	case err != nil:
		a.mu.Lock()
		a.refused = false
		a.mu.Unlock()
		return e.stall(ctx, a, v, state.SnapshotsFailure, err.Error())
	}
	return e.apply(ctx, a, v, func(r *state.Replication) bool {
		r.PointDue, r.LastPointAt = false, p.At
		return move(r, PointTaken, v.now)
	}, live(v.rec, lifecycle.Launchable))
}

// checkpoint stores measurements now and then, and looks again soon.
func (e *Engine) checkpoint(ctx context.Context, a *actor, v view) (time.Duration, error) {
	again := pollEvery
	if v.rec.State == state.Continuous {
		again = HandshakeIdle
	}
	a.mu.Lock()
	due := v.now.Sub(a.savedAt) >= checkpointEvery
	a.mu.Unlock()
	if !due {
		return again, nil
	}
	if _, err := e.apply(ctx, a, v, func(*state.Replication) bool { return true }); err != nil {
		return 0, err
	}
	return again, nil
}

// PointMade tells the engine of a recovery point that was made outside CREATING_SNAPSHOT.
func (e *Engine) PointMade(p state.Point) {
	e.mu.Lock()
	a := e.actors[p.ServerID]
	e.mu.Unlock()
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rec.LastPointAt = latest(a.rec.LastPointAt, p.At)
}

// RecoverablePosition is the replication server's, with times by our clock: an agent whose clock is
// wrong by more than the network may have made is corrected for.
func (e *Engine) RecoverablePosition(serverID string, at time.Time) (uint64, time.Time, error) {
	ahead := e.ahead(serverID)
	pos, t, err := e.server.RecoverablePosition(serverID, at.Add(ahead))
	if err != nil {
		return 0, time.Time{}, fault.Wrap("replication: recoverable position", err)
	}
	return pos, t.Add(-ahead), nil
}

func (e *Engine) ahead(serverID string) time.Duration {
	e.mu.Lock()
	a := e.actors[serverID]
	e.mu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agent.ahead
}
