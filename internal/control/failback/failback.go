package failback

import (
	"context"
	"errors"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Failbacks operates the failback of recovery instances.
type Failbacks struct {
	instances resource.Keeper[state.RecoveryInstance]
	jobs      *jobs.Jobs
	launcher  launches.Launcher
}

// New returns the failbacks of the recovery instances in a store. Without a launcher everything is checked and
// nothing fails back.
func New(instances resource.Keeper[state.RecoveryInstance], j *jobs.Jobs, launcher launches.Launcher) *Failbacks {
	return &Failbacks{instances, j, launcher}
}

// Config returns one recovery instance's failback replication configuration.
func (f *Failbacks) Config(ctx context.Context, s state.Scope, id string) (state.FailbackConfig, error) {
	v, err := f.instances.Get(ctx, s, id)
	return v.Failback.Config, err
}

// Patch is a partial configuration; nil members keep their value.
type Patch struct {
	Name             *string
	BandwidthMbps    *int64
	UsePrivateIP     *bool
	InternetProtocol *string
}

// UpdateConfig changes the members that p names.
func (f *Failbacks) UpdateConfig(ctx context.Context, s state.Scope, id string, p Patch) error {
	_, err := f.instances.Change(ctx, s, id, func(_ state.Tx, v *state.RecoveryInstance) error {
		c := &v.Failback.Config
		set(&c.Name, p.Name)
		set(&c.BandwidthMbps, p.BandwidthMbps)
		set(&c.UsePrivateIP, p.UsePrivateIP)
		set(&c.InternetProtocol, p.InternetProtocol)
		return nil
	})
	return err
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Stop ends a failback that is under way. There being none is no error.
func (f *Failbacks) Stop(ctx context.Context, s state.Scope, id string) error {
	_, err := f.instances.Change(ctx, s, id, func(_ state.Tx, v *state.RecoveryInstance) error {
		if _, ok := Next(v.Failback.State, OpStop); ok {
			keep := v.Failback.Config
			v.Failback = state.Failback{State: v.Failback.State, Replication: state.ReplicationNotStarted, Config: keep}
		}
		return Move(v, OpStop)
	})
	return err
}

// Launch makes the job that starts the original machines from what was sent back, of all recovery instances or
// of none.
func (f *Failbacks) Launch(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (j state.Job, err error) {
	const op = "failback: launch"
	err = f.instances.Store.Update(ctx, func(tx state.Tx) error {
		spec := jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByFailback, Tags: tags}
		var ready []state.RecoveryInstance
		refused := control.Refusals{Kind: Kind}
		for _, id := range ids {
			v, err := f.instances.In(ctx, tx, s, id)
			if err != nil {
				return err
			}
			if about, ok := errors.AsType[*control.ResourceError](Move(&v, OpLaunch)); ok {
				refused.Add(id, about.Err)
			}
			ready = append(ready, v)
			spec.Participants = append(spec.Participants, state.Participant{ServerID: v.ServerID, RecoveryInstanceID: id})
		}
		if err := refused.Err("failback", "One or more of the recovery instances included in API call are not ready for failback"); err != nil {
			return err
		}
		if j, err = f.jobs.Create(ctx, tx, s, spec); err != nil {
			return err
		}
		if f.launcher == nil {
			return launches.NoLauncher(op)
		}
		for _, v := range ready {
			v.Failback.JobID = j.ID
			if err := tx.PutRecoveryInstance(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	f.launcher.Take(j)
	return j, nil
}

// Reverse checks everything that reversing a recovery instance's replication needs, and refuses: nothing here can
// receive data in AWS.
func (f *Failbacks) Reverse(ctx context.Context, s state.Scope, id string) error {
	const op = "failback: reverse"
	v, err := f.instances.Get(ctx, s, id)
	if err != nil {
		return fault.Wrap(op, err)
	}
	switch {
	case !v.OriginAWS:
		return control.Misfit(op, "recoveryInstanceID", "%s did not originate in AWS", id).
			WithHint("fail it back with the failback client: understudy failback")
	case v.Disconnected:
		return control.Refuse(op, Kind, id, "the replication agent is not connected")
	case v.Failback.ReversedServer != "":
		return control.Refuse(op, Kind, id, "replicates in reverse already")
	}
	if err := Move(&v, OpReverse); err != nil {
		return fault.Wrap(op, err)
	}
	return fault.New(fault.Unsupported, op, "no launch provider is configured that replicates back into AWS").
		WithHint("fail it back with the failback client: understudy failback")
}
