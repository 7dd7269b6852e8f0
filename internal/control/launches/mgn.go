package launches

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Finalizer ends the replication of a server whose cutover is done; guard may refuse within its transaction.
type Finalizer interface {
	FinalizeCutover(ctx context.Context, s state.Scope, id string, guard func(context.Context, state.Tx, state.Server) error) error
}

// MGN launches tests and cutovers.
type MGN struct {
	store       state.Store
	jobs        *jobs.Jobs
	replication Finalizer
	launcher    Launcher
}

// NewMGN returns MGN's launches. Without a launcher everything is checked and nothing is launched.
func NewMGN(store state.Store, j *jobs.Jobs, replication Finalizer, launcher Launcher) *MGN {
	return &MGN{store, j, replication, launcher}
}

// action is one of the calls that make a job.
type action struct {
	by    state.JobInitiator
	kind  state.JobType
	check func(ctx context.Context, r state.Reader, v *state.Server) error // and what becomes of the server
	note  func(v *state.Server, job string, now time.Time)
}

// StartTest launches test machines of servers, next to whatever was launched of them before.
func (m *MGN) StartTest(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error) {
	return m.start(ctx, s, ids, tags, action{state.ByStartTest, state.JobLaunch, launch(lifecycle.StartTest),
		func(v *state.Server, job string, now time.Time) {
			v.LifeCycle.LastTest = state.LaunchRecord{InitiatedAt: now, JobID: job}
		}})
}

// StartCutover launches the machines that take over from servers.
func (m *MGN) StartCutover(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error) {
	return m.start(ctx, s, ids, tags, action{state.ByStartCutover, state.JobLaunch, launch(lifecycle.StartCutover),
		func(v *state.Server, job string, now time.Time) {
			v.LifeCycle.LastCutover = state.LaunchRecord{InitiatedAt: now, JobID: job}
		}})
}

// Terminate removes the machines that were launched of servers.
func (m *MGN) Terminate(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error) {
	return m.start(ctx, s, ids, tags, action{state.ByTerminate, state.JobTerminate, terminate, func(*state.Server, string, time.Time) {}})
}

// launch checks what is to be launched and moves its life cycle.
func launch(on lifecycle.Trigger) func(context.Context, state.Reader, *state.Server) error {
	return func(ctx context.Context, r state.Reader, v *state.Server) error {
		if err := lifecycle.Apply(v, on); err != nil {
			return err
		}
		rec, err := r.Replication(ctx, v.ID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if rec.RecoverableAt.IsZero() {
			return control.Refuse("launches", control.SourceServer, v.ID, "is not launchable: it has no recovery point")
		}
		return nil
	}
}

// inUse are the life cycle states whose launched machine is being worked with.
var inUse = []state.LifeCycleState{state.Testing, state.CuttingOver, state.Cutover}

func terminate(_ context.Context, _ state.Reader, v *state.Server) error {
	switch {
	case slices.Contains(inUse, v.LifeCycle.State):
		return control.Refuse("launches", control.SourceServer, v.ID, "its machine cannot be terminated in life cycle state %s", v.LifeCycle.State)
	case v.Migration.Launched.InstanceID == "":
		return control.Refuse("launches", control.SourceServer, v.ID, "has no launched machine")
	}
	return nil
}

// start makes the job of an action on all servers or on none.
func (m *MGN) start(ctx context.Context, s state.Scope, ids []string, tags map[string]string, a action) (j state.Job, err error) {
	op := fmt.Sprintf("launches: %s", a.by)
	err = m.store.Update(ctx, func(tx state.Tx) error {
		servers, err := m.candidates(ctx, tx, s, ids, a)
		if err != nil {
			return err
		}
		spec := jobs.Spec{Type: a.kind, InitiatedBy: a.by, Tags: tags}
		for i := range servers {
			spec.Participants = append(spec.Participants, state.Participant{ServerID: servers[i].ID, InstanceID: doomed(a, servers[i])})
		}
		if j, err = m.jobs.Create(ctx, tx, s, spec); err != nil {
			return err
		}
		if m.launcher == nil {
			return NoLauncher(op)
		}
		for i := range servers {
			a.note(&servers[i], j.ID, j.CreatedAt)
			if err := tx.PutServer(ctx, servers[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	m.launcher.Take(j)
	return j, nil
}

// doomed is the machine that a termination is about.
func doomed(a action, v state.Server) string {
	if a.kind == state.JobTerminate {
		return v.Migration.Launched.InstanceID
	}
	return ""
}

// candidates reads the servers and checks them all, so that a refusal tells of each that is in the way.
func (m *MGN) candidates(ctx context.Context, tx state.Tx, s state.Scope, ids []string, a action) ([]state.Server, error) {
	if err := jobs.Distinct(ids); err != nil { // whatever state they are in
		return nil, err
	}
	servers := make([]state.Server, len(ids))
	for i, id := range ids {
		v, err := tx.Server(ctx, s, id)
		if fault.Is(err, fault.NotFound) {
			return nil, control.Missing("launches", control.SourceServer, id)
		}
		if err != nil {
			return nil, err
		}
		servers[i] = v
	}
	if err := jobs.Idle(ctx, tx, ids...); err != nil {
		return nil, err
	}
	refused := control.Refusals{Kind: control.SourceServer}
	for i := range servers {
		err := a.check(ctx, tx, &servers[i])
		about, ok := errors.AsType[*control.ResourceError](err)
		switch {
		case err == nil:
		case !ok || !fault.Is(err, fault.Conflict):
			return nil, err
		default:
			refused.Add(servers[i].ID, about.Err)
		}
	}
	return servers, refused.Err("launches", "One or more of the Source Servers included in API call are in a state that does not allow this")
}

// FinalizeCutover ends a cutover: the server's replication is over, what was launched of it stays.
func (m *MGN) FinalizeCutover(ctx context.Context, s state.Scope, id string) error {
	return fault.Wrap("launches: finalize cutover", m.replication.FinalizeCutover(ctx, s, id, settled))
}

// settled refuses while an action that the cutover waits for has not succeeded.
func settled(ctx context.Context, tx state.Tx, v state.Server) error {
	j, err := tx.Job(ctx, v.Scope, v.LifeCycle.LastCutover.JobID)
	if fault.Is(err, fault.NotFound) {
		return nil // nobody knows any more: the job was deleted
	}
	if err != nil {
		return err
	}
	for _, p := range j.Participants {
		if p.ServerID != v.ID {
			continue
		}
		for _, run := range p.Runs {
			if run.Document.MustSucceed && run.Status != "SUCCESS" {
				return control.Refuse("launches", control.SourceServer, v.ID, "post-launch action %s must succeed before the cutover is finalised, and is %s",
					run.Document.ActionName, run.Status)
			}
		}
	}
	return nil
}
