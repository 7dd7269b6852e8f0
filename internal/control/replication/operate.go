package replication

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Start begins replication of a stopped server.
func (e *Engine) Start(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpStart, e.may(s))
}

// Stop ends replication and deletes the staging area with its recovery points; the agent stays.
func (e *Engine) Stop(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpStop)
}

// Pause keeps everything and sends nothing.
func (e *Engine) Pause(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpPause)
}

// Resume ends a pause.
func (e *Engine) Resume(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpResume)
}

// Retry begins a new initiation attempt of a stalled server at its agent's next handshake.
func (e *Engine) Retry(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpRetry)
}

// Disconnect is Stop for good: the agent uninstalls itself.
func (e *Engine) Disconnect(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpDisconnect)
}

// FinalizeCutover is Disconnect of an MGN server whose cutover is done: its life cycle becomes CUTOVER. guard may
// refuse, within the transaction.
func (e *Engine) FinalizeCutover(ctx context.Context, s state.Scope, id string, guard func(context.Context, state.Tx, state.Server) error) error {
	return e.operate(ctx, s, id, OpFinalize, func(ctx context.Context, tx state.Tx) error {
		v, err := tx.Server(ctx, s, id)
		if err != nil {
			return err
		}
		if err := guard(ctx, tx, v); err != nil {
			return err
		}
		if err := lifecycle.Apply(&v, lifecycle.FinalizeCutover); err != nil {
			return err
		}
		v.LifeCycle.LastCutover.FinalizedAt = time.Now().UTC()
		return tx.PutServer(ctx, v)
	})
}

// Delete forgets a disconnected server. It is hidden at once; its records go with its staging area.
func (e *Engine) Delete(ctx context.Context, s state.Scope, id string) error {
	return e.operate(ctx, s, id, OpDelete)
}

// operate fires what somebody called. more belongs to its transaction.
func (e *Engine) operate(ctx context.Context, s state.Scope, id string, on Trigger, more ...change) error {
	op := fmt.Sprintf("replication: %s", on)
	a, err := e.in(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return e.operateUnreplicated(ctx, s, id, on)
	}
	if err != nil {
		return fault.Wrap(op, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now().UTC()
	rec := a.current()
	before := rec.State
	if !move(&rec, on, now) {
		return refused(op, id, on, before)
	}
	also := append(more, intend(&rec, on, now)...)
	err = e.save(ctx, a, rec, also...)
	e.queue.add(id) // even after an error: the store may have kept it though it could not say so
	if err != nil {
		return fault.Wrap(op, err)
	}
	a.changed()
	return nil
}

// refused says why. RetryDataReplication has no conflict among its errors.
func refused(op, id string, on Trigger, in state.ReplicationState) error {
	kind := fault.Conflict
	if on == OpRetry {
		kind = fault.Invalid
	}
	return fault.New(kind, op, "%w", &control.ResourceError{Type: control.SourceServer, ID: id,
		Err: fmt.Errorf("%s is not possible while data replication is %s", on, in)})
}

// intend records what an operation wants besides the new state, and what else belongs to its transaction.
func intend(rec *state.Replication, on Trigger, now time.Time) []change {
	wipe := func(ctx context.Context, tx state.Tx) error { return tx.WipePoints(ctx, rec.ServerID) }
	switch on {
	case OpStart:
		rec.Intent = state.IntentRun
		return []change{live(*rec, lifecycle.Started)}
	case OpPause:
		rec.Intent = state.IntentPause
	case OpResume:
		rec.Intent = state.IntentRun
	case OpRetry:
		rec.Retry = true
	case OpStop:
		rec.Intent, rec.Teardown = state.IntentStop, true
		neverStarted(rec, now)
		forget(rec)
		return []change{idle(rec.ServerID), live(*rec, lifecycle.Stopped), wipe}
	case OpDisconnect, OpFinalize:
		rec.Intent, rec.Teardown = state.IntentDisconnect, true
		neverStarted(rec, now)
		forget(rec)
		return []change{idle(rec.ServerID), unrecovered(*rec), live(*rec, lifecycle.Disconnected), wipe} // a CUTOVER stays one
	case OpDelete:
		rec.Deleting, rec.Teardown = true, true
		return []change{idle(rec.ServerID), hide(*rec)}
	}
	return nil
}

// idle refuses while a job reads what an operation would take away.
func idle(serverID string) change {
	return func(ctx context.Context, tx state.Tx) error { return jobs.Idle(ctx, tx, serverID) }
}

// unrecovered refuses to let go of a DRS server that has a recovery instance: a failback needs both.
func unrecovered(rec state.Replication) change {
	return func(ctx context.Context, tx state.Tx) error {
		if rec.Scope.Service != state.DRS {
			return nil
		}
		have, _, err := tx.RecoveryInstances(ctx, rec.Scope, state.RecoveryInstanceFilter{ServerIDs: []string{rec.ServerID}}, state.Page{Limit: 1})
		if err != nil || len(have) == 0 {
			return err
		}
		return control.Refuse("replication", control.SourceServer, rec.ServerID, "has recovery instance %s", have[0].ID).
			WithHint("terminate the recovery instance, or disconnect and delete it")
	}
}

func hide(rec state.Replication) change {
	return func(ctx context.Context, tx state.Tx) error {
		v, err := tx.Server(ctx, rec.Scope, rec.ServerID)
		if err != nil {
			return err
		}
		v.Deleting = true
		return tx.PutServer(ctx, v)
	}
}

// changed drops the work under way: it was begun for another intent. The caller holds a.mu.
func (a *actor) changed() {
	a.generation++
	a.agent.retry, a.trouble = false, trouble{}
	if a.interrupt != nil {
		a.interrupt()
	}
}

// Registered tells the engine of a server whose agent has registered, the first time or again.
func (e *Engine) Registered(ctx context.Context, v state.Server) error {
	const op = "replication: registered"
	a, err := e.in(ctx, v.Scope, v.ID)
	if err != nil {
		return fault.Wrap(op, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e.queue.add(v.ID)
	rec := a.current()
	// Against the record and not against what the agent said before: that may have been stored by a process
	// that ended before it came here.
	if rec.State != state.Disconnected && sameDisks(rec, v) {
		return nil
	}
	now := time.Now().UTC()
	rec.Disks = sizes(v)
	also := []change{live(rec, lifecycle.Registered)}
	if move(&rec, Reinstalled, now) {
		rec.Intent = state.IntentRun
		also = append(also, e.may(v.Scope))
	}
	if err := e.save(ctx, a, rec, also...); err != nil {
		return fault.Wrap(op, err)
	}
	a.served = false
	a.changed()
	return nil
}

// sameDisks tells whether a record is about the disks that a server has now.
func sameDisks(rec state.Replication, v state.Server) bool {
	return slices.EqualFunc(rec.Disks, sizes(v), func(a, b state.DiskProgress) bool {
		return a.DeviceName == b.DeviceName && a.Total == b.Total
	})
}
