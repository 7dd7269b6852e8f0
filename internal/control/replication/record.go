package replication

import (
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// NewRecord is the replication of a server that was just added. It runs unless stopped.
func NewRecord(v state.Server, stopped bool, now time.Time) state.Replication {
	r := state.Replication{ServerID: v.ID, Scope: v.Scope, Intent: state.IntentRun, State: state.Initiating, Disks: sizes(v)}
	if stopped {
		r.Intent, r.State = state.IntentStop, state.Stopped
		neverStarted(&r, now)
		return r
	}
	beginAttempt(&r, now, true)
	return r
}

func sizes(v state.Server) []state.DiskProgress {
	var out []state.DiskProgress
	for _, d := range v.Replicated() {
		out = append(out, state.DiskProgress{DeviceName: d.DeviceName, Total: d.Bytes})
	}
	return out
}

func clone(r state.Replication) state.Replication {
	r.Attempt.Steps = slices.Clone(r.Attempt.Steps)
	r.Disks = slices.Clone(r.Disks)
	if r.Error != nil {
		e := *r.Error
		r.Error = &e
	}
	return r
}

// move fires a trigger on a record. It reports false, and changes nothing, when the table has no row.
func move(r *state.Replication, on Trigger, now time.Time) bool {
	to, ok := next(r.Scope.Service, r.State, r.Resume, on)
	if !ok {
		return false
	}
	interrupted := to == state.Stalled || to == state.Paused
	if interrupted && r.State != state.Stalled && r.State != state.Paused {
		r.Resume = r.State
	}
	r.State = to
	if !interrupted {
		r.Resume = ""
	}
	if to != state.Stalled {
		r.Error, r.ErrorAt, r.Retry = nil, time.Time{}, false
	}
	if to == state.Initiating {
		// A path that is only repaired keeps the window; a start or another attempt has its own.
		beginAttempt(r, now, on != PathLost && on != Unstall || !now.Before(r.Attempt.NextAttemptAt))
	}
	return true
}

// stall fires on with the error it comes with.
func stall(r *state.Replication, on Trigger, code state.ErrorCode, raw string, now time.Time) bool {
	if !move(r, on, now) {
		return false
	}
	r.Error, r.ErrorAt = &state.ReplicationError{Code: code, Raw: raw}, now
	return true
}

func beginAttempt(r *state.Replication, now time.Time, window bool) {
	r.Attempt.ID++
	r.Attempt.StartedAt = now
	r.Attempt.Steps = freshSteps()
	if window {
		r.Attempt.NextAttemptAt = ceilMinute(now.Add(AttemptWindow))
	}
}

// neverStarted is the attempt shown of a server whose replication is off.
func neverStarted(r *state.Replication, now time.Time) {
	r.Attempt = state.Attempt{ID: r.Attempt.ID, StartedAt: now, NextAttemptAt: ceilMinute(now), Steps: freshSteps()}
}

func freshSteps() []state.Step {
	steps := make([]state.Step, len(state.StepNames))
	for i, name := range state.StepNames {
		steps[i] = state.Step{Name: name, Status: state.NotStarted}
	}
	return steps
}

func ceilMinute(t time.Time) time.Time {
	if c := t.Truncate(time.Minute); c.Before(t) {
		return c.Add(time.Minute)
	}
	return t
}

// currentStep is the first step that is not done; nil when all are.
func currentStep(r *state.Replication) *state.Step {
	for i := range r.Attempt.Steps {
		if s := &r.Attempt.Steps[i]; s.Status != state.Succeeded && s.Status != state.Skipped {
			return s
		}
	}
	return nil
}

// forget drops what was measured of a staging area that has gone. Sizes stay unless all is over.
func forget(r *state.Replication) {
	r.Complete, r.PointDue = false, false
	r.RecoverableAt, r.LastPointAt = time.Time{}, time.Time{}
	for i, d := range r.Disks {
		r.Disks[i] = state.DiskProgress{DeviceName: d.DeviceName, Total: d.Total}
		if r.State == state.Disconnected {
			r.Disks[i].Total = 0
		}
	}
}
