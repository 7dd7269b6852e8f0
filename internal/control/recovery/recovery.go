package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Links tells which servers are extended from another account.
type Links interface {
	// Source is where a server's data is: its own scope and id, or the staging server's. A tie that is broken is
	// fault.Conflict.
	Source(ctx context.Context, r state.Reader, v state.Server) (state.Scope, string, error)
}

// Recoveries keeps recovery instances, and makes the jobs that launch and terminate them.
type Recoveries struct {
	resource.Keeper[state.RecoveryInstance]
	jobs     *jobs.Jobs
	links    Links
	launcher launches.Launcher
}

// New returns the recovery instances in store. Without a launcher everything is checked and nothing is launched.
func New(store state.Store, j *jobs.Jobs, links Links, launcher launches.Launcher) *Recoveries {
	return &Recoveries{jobs: j, links: links, launcher: launcher, Keeper: Keeper(store)}
}

// Keeper keeps the records of recovery instances.
func Keeper(store state.Store) resource.Keeper[state.RecoveryInstance] {
	return resource.Keeper[state.RecoveryInstance]{
		Store: store, Kind: failback.Kind, Read: state.Reader.RecoveryInstance, Write: state.Tx.PutRecoveryInstance,
		Tagged: func(v *state.RecoveryInstance) *map[string]string { return &v.Tags },
	}
}

// List returns recovery instances, oldest first.
func (v *Recoveries) List(ctx context.Context, s state.Scope, f state.RecoveryInstanceFilter, p state.Page) (items []state.RecoveryInstance, next string, err error) {
	err = v.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.RecoveryInstances(ctx, s, f, p)
		return err
	})
	return items, next, fault.Wrap("recovery instances: list", err)
}

// Target is a server that is to be recovered, at a recovery point or, without one, as it is.
type Target struct {
	ServerID, SnapshotID string
}

// Types of a launch, as DRS spells them.
const (
	TypeRecovery = "RECOVERY"
	TypeDrill    = "DRILL"
)

// Start makes the job that launches recovery instances of all targets, or of none.
func (v *Recoveries) Start(ctx context.Context, s state.Scope, targets []Target, drill bool, tags map[string]string) (j state.Job, err error) {
	const op = "recovery: start"
	by, kind := state.ByStartRecovery, TypeRecovery
	if drill {
		by, kind = state.ByStartDrill, TypeDrill
	}
	err = v.Store.Update(ctx, func(tx state.Tx) error {
		servers, err := v.launchable(ctx, tx, s, targets)
		if err != nil {
			return err
		}
		spec := jobs.Spec{Type: state.JobLaunch, InitiatedBy: by, Tags: tags}
		for _, t := range targets {
			spec.Participants = append(spec.Participants, state.Participant{ServerID: t.ServerID, SnapshotID: t.SnapshotID})
		}
		if j, err = v.jobs.Create(ctx, tx, s, spec); err != nil {
			return err
		}
		if v.launcher == nil {
			return launches.NoLauncher(op)
		}
		for _, x := range servers {
			x.LifeCycle.LastLaunch = state.DRSLaunch{InitiatedAt: j.CreatedAt, JobID: j.ID, Type: kind, Status: string(state.LaunchPending)}
			if err := tx.PutServer(ctx, x); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	v.launcher.Take(j)
	return j, nil
}

// launchable reads the targets and checks them all, so that a refusal tells of each that is in the way.
func (v *Recoveries) launchable(ctx context.Context, tx state.Tx, s state.Scope, targets []Target) ([]state.Server, error) {
	servers, ids := make([]state.Server, len(targets)), make([]string, len(targets))
	for i, t := range targets {
		x, err := tx.Server(ctx, s, t.ServerID)
		if fault.Is(err, fault.NotFound) {
			return nil, control.Missing("recovery", control.SourceServer, t.ServerID)
		}
		if err != nil {
			return nil, err
		}
		servers[i], ids[i] = x, t.ServerID
	}
	if err := jobs.Idle(ctx, tx, ids...); err != nil {
		return nil, err
	}
	refused := control.Refusals{Kind: control.SourceServer}
	for i, t := range targets {
		why, err := v.obstacle(ctx, tx, servers[i], t.SnapshotID)
		if err != nil {
			return nil, err
		}
		if why != nil {
			refused.Add(t.ServerID, why)
		}
	}
	return servers, refused.Err("recovery", "One or more of the Source Servers included in API call cannot be recovered")
}

// obstacle is why a server cannot be launched; nil when it can.
func (v *Recoveries) obstacle(ctx context.Context, r state.Reader, x state.Server, snapshot string) (why, err error) {
	scope, id, err := v.links.Source(ctx, r, x)
	if fault.Is(err, fault.Conflict) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err := r.Replication(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if rec.RecoverableAt.IsZero() {
		return errors.New("is not launchable: it has no recovery point"), nil
	}
	if snapshot == "" {
		return nil, nil
	}
	p, err := r.Point(ctx, scope, snapshot)
	if fault.Is(err, fault.NotFound) || err == nil && p.ServerID != id {
		return fmt.Errorf("has no recovery snapshot %s", snapshot), nil
	}
	return nil, err
}

// Terminate makes the job that ends recovery instances with their machines.
func (v *Recoveries) Terminate(ctx context.Context, s state.Scope, ids []string) (j state.Job, err error) {
	const op = "recovery: terminate"
	err = v.Store.Update(ctx, func(tx state.Tx) error {
		spec := jobs.Spec{Type: state.JobTerminate, InitiatedBy: state.ByTerminateRecoveryInstances}
		refused := control.Refusals{Kind: failback.Kind}
		for _, id := range ids {
			x, err := v.In(ctx, tx, s, id)
			if err != nil {
				return err
			}
			err = Move(&x, OpTerminate)
			if x.Failback.ReversedServer != "" {
				err = fmt.Errorf("replicates in reverse to source server %s; stop that first", x.Failback.ReversedServer)
			}
			if err != nil {
				refused.Add(id, cause(err))
			}
			spec.Participants = append(spec.Participants, state.Participant{ServerID: x.ServerID, RecoveryInstanceID: id, InstanceID: id})
		}
		if err := refused.Err("recovery", "One or more of the recovery instances included in API call cannot be terminated"); err != nil {
			return err
		}
		if j, err = v.jobs.Create(ctx, tx, s, spec); err != nil {
			return err
		}
		if v.launcher == nil {
			return launches.NoLauncher(op)
		}
		return nil
	})
	if err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	v.launcher.Take(j)
	return j, nil
}

// cause is what a refusal says without naming its resource again.
func cause(err error) error {
	if r, ok := errors.AsType[*control.ResourceError](err); ok {
		return r.Err
	}
	return err
}

// Disconnect ends the replication of a recovery instance; its machine and its record stay.
func (v *Recoveries) Disconnect(ctx context.Context, s state.Scope, id string) error {
	_, err := v.Change(ctx, s, id, func(tx state.Tx, x *state.RecoveryInstance) error {
		switch {
		case x.Failback.ReversedServer != "":
			return control.Refuse("recovery", failback.Kind, id, "replicates in reverse to source server %s and cannot be disconnected", x.Failback.ReversedServer)
		case x.Disconnected:
			return control.Refuse("recovery", failback.Kind, id, "is disconnected already")
		}
		if err := jobs.Idle(ctx, tx, id, x.ServerID); err != nil {
			return err
		}
		x.Disconnected, x.Failback.Replication, x.Failback.Error = true, state.Disconnected, nil
		x.Failback.InitiatedAt, x.Failback.FirstByteAt = time.Time{}, time.Time{}
		return failback.Move(x, failback.OpStop)
	})
	return err
}

// Delete forgets a recovery instance whose machine stays.
func (v *Recoveries) Delete(ctx context.Context, s state.Scope, id string) error {
	return v.Remove(ctx, s, id, func(tx state.Tx, x state.RecoveryInstance) error {
		if !x.Disconnected && x.Failback.ReversedServer == "" {
			return control.Refuse("recovery", failback.Kind, id, "must be disconnected before it is deleted")
		}
		return jobs.Idle(ctx, tx, id, x.ServerID)
	}, state.Tx.DeleteRecoveryInstance)
}
