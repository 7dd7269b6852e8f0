package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// failed is the error code of a failed step.
func failed(s state.StepName) state.ErrorCode { return state.ErrorCode("FAILED_TO_" + string(s)) }

// initiate does the current step of the attempt, or leaves INITIATING when all are done.
func (e *Engine) initiate(ctx context.Context, a *actor, v view) (time.Duration, error) {
	if v.lost {
		return e.stall(ctx, a, v, state.AgentNotSeen, unseen(v))
	}
	step := currentStep(&v.rec)
	if step == nil {
		a.mu.Lock()
		a.served = true
		a.mu.Unlock()
		v.served = true
		return e.observe(ctx, a, v)
	}
	if step.Status != state.InProgress {
		return e.apply(ctx, a, v, func(r *state.Replication) bool { begin(r, step.Name, v.now); return true })
	}
	if limit, waits := waitLimits[step.Name]; waits {
		return e.await(ctx, a, v, *step, limit)
	}
	var skipped []state.StepName
	stale, err := e.slow(ctx, a, v, func(ctx context.Context) (err error) {
		skipped, err = e.act(ctx, v, step.Name)
		return err
	})
	if stale || ctx.Err() != nil {
		return 0, nil // the step stays as it is; whoever comes next does it again
	}
	if err != nil {
		return e.fail(ctx, a, v, step.Name, err.Error())
	}
	return e.apply(ctx, a, v, func(r *state.Replication) bool { finish(r, step.Name, skipped, time.Now().UTC()); return true })
}

func unseen(v view) string {
	if v.rec.LastSeenAt.IsZero() {
		return "the agent has never been seen"
	}
	raw := "the agent was last seen at " + v.rec.LastSeenAt.Format(time.RFC3339)
	if told := v.agent.report.LastError; told != "" {
		raw += "; it said: " + told
	}
	return raw
}

func (e *Engine) fail(ctx context.Context, a *actor, v view, step state.StepName, raw string) (time.Duration, error) {
	now := time.Now().UTC()
	return e.apply(ctx, a, v, func(r *state.Replication) bool {
		if !stall(r, StepFailed, failed(step), raw, now) {
			return false
		}
		if s := stepOf(r, step); s != nil {
			s.Status, s.EndedAt = state.Failed, now
		}
		return true
	})
}

// act does the work of a step that acts. skipped are the steps that were not needed, the step itself
// among them when what it makes was there already.
func (e *Engine) act(ctx context.Context, v view, step state.StepName) (skipped []state.StepName, err error) {
	id := v.rec.ServerID
	reused := false
	switch step {
	case state.StepWait: // it was our turn
	case state.StepAccess:
		err = e.server.Admit(ctx, id)
	case state.StepLaunch:
		if reused, err = e.server.Launch(ctx); reused {
			return []state.StepName{state.StepLaunch, state.StepBoot, state.StepAuthenticate}, err
		}
	case state.StepBoot:
		err = e.server.Boot(ctx)
	case state.StepAuthenticate:
		err = e.server.Authenticate(ctx)
	case state.StepSoftware:
		var s state.Server
		if s, err = e.sourceServer(ctx, v); err == nil {
			err = e.server.CheckSoftware(ctx, s.Agent.WireVersions)
		}
	case state.StepCreateDisks:
		var s state.Server
		if s, err = e.sourceServer(ctx, v); err == nil {
			reused, err = e.server.CreateStaging(ctx, id, stagingDisks(s))
		}
	case state.StepAttachDisks:
		reused, err = e.server.AttachStaging(ctx, id)
	default:
		err = fault.New(fault.Bug, "replication: initiate", "no step %q", step)
	}
	if reused {
		skipped = []state.StepName{step}
	}
	return skipped, err
}

func (e *Engine) sourceServer(ctx context.Context, v view) (s state.Server, err error) {
	err = e.store.View(ctx, func(r state.Reader) error {
		s, err = r.Server(ctx, v.rec.Scope, v.rec.ServerID)
		return err
	})
	return s, err
}

func stagingDisks(s state.Server) []StagingDisk {
	var out []StagingDisk
	for _, d := range s.Replicated() {
		out = append(out, StagingDisk{Index: d.Index, DeviceName: d.DeviceName, Bytes: d.Bytes})
	}
	return out
}

// waitLimits are the steps that the agent has to do, and how long they are waited for.
var waitLimits = map[state.StepName]time.Duration{
	state.StepPair:     pairLimit,
	state.StepConnect:  connectLimit,
	state.StepTransfer: transferLimit,
}

func (e *Engine) await(ctx context.Context, a *actor, v view, step state.Step, limit time.Duration) (time.Duration, error) {
	switch {
	case waited(step.Name, v):
		return e.apply(ctx, a, v, func(r *state.Replication) bool { finish(r, step.Name, nil, v.now); return true })
	case v.now.Sub(step.StartedAt) >= limit:
		raw := fmt.Sprintf("%s within %s", waitedFor[step.Name], limit)
		if told := v.agent.report.LastError; told != "" {
			raw += "; the agent says: " + told
		}
		return e.fail(ctx, a, v, step.Name, raw)
	}
	return pollEvery, nil
}

var waitedFor = map[state.StepName]string{
	state.StepPair:     "the agent did not confirm the replication server's address",
	state.StepConnect:  "the agent did not connect to the replication server's data port",
	state.StepTransfer: "no data became durable",
}

// waited tells that the agent has done its part of a step.
func waited(step state.StepName, v view) bool {
	switch step {
	case state.StepPair:
		return v.agent.report.AttemptID == v.rec.Attempt.ID
	case state.StepConnect:
		return v.status.Connected
	case state.StepTransfer:
		return v.status.BaselineComplete || v.status.LastFrameAt.After(v.rec.Attempt.StartedAt)
	}
	return false
}

func stepOf(r *state.Replication, name state.StepName) *state.Step {
	for i := range r.Attempt.Steps {
		if r.Attempt.Steps[i].Name == name {
			return &r.Attempt.Steps[i]
		}
	}
	return nil
}

func begin(r *state.Replication, name state.StepName, now time.Time) {
	if s := stepOf(r, name); s != nil {
		s.Status, s.StartedAt, s.EndedAt = state.InProgress, now, time.Time{}
	}
	if name == state.StepCreateDisks {
		r.Staged = true // before it is: whatever happens next, the teardown must look for it
	}
}

// finish ends a step, and begins the next one in the same breath.
func finish(r *state.Replication, name state.StepName, skipped []state.StepName, now time.Time) {
	if s := stepOf(r, name); s != nil {
		s.Status, s.EndedAt = state.Succeeded, now
	}
	for _, name := range skipped {
		if s := stepOf(r, name); s != nil {
			s.Status, s.EndedAt = state.Skipped, now
			if s.StartedAt.IsZero() {
				s.StartedAt = now
			}
		}
	}
	if s := currentStep(r); s != nil {
		begin(r, s.Name, now)
	}
}
