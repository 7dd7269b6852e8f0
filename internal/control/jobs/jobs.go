// Package jobs keeps the jobs of both services: who takes part in a launch or a termination, how far each is,
// and the log that clients read. Its tables are the only way a job moves. internal/control/launches and what
// carries launches out drive it; internal/awsapi lists and deletes.
package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// codes are the quotas that bound the jobs of an account in a service.
var codes = map[state.Service]struct{ concurrent, perJob, inAllJobs quotas.Code }{
	state.MGN: {quotas.MGNJobs, quotas.MGNPerJob, quotas.MGNInAllJobs},
	state.DRS: {quotas.DRSJobs, quotas.DRSPerJob, quotas.DRSInAllJobs},
}

var prefixes = map[state.Service]string{state.MGN: "mgnjob-", state.DRS: "drsjob-"}

// busy is what the real service says, to the letter: scripts look for it.
const busy = "One or more of the Source Servers included in API call are currently being processed by a Job"

// Jobs are the jobs in a store.
type Jobs struct {
	store  state.Store
	limits *quotas.Limits
}

// New returns the jobs in store. nil limits are the default ones.
func New(store state.Store, limits *quotas.Limits) *Jobs { return &Jobs{store, limits} }

// Spec is a job to make.
type Spec struct {
	Type         state.JobType
	InitiatedBy  state.JobInitiator
	Participants []state.Participant // their status is set
	Tags         map[string]string
}

// Create makes a PENDING job in the caller's transaction, together with whatever else the call changes. It refuses
// with fault.Invalid a subject that is named twice, with fault.Conflict one that is in another unfinished job, and
// with control.ErrQuota what is too much.
func (v *Jobs) Create(ctx context.Context, tx state.Tx, s state.Scope, spec Spec) (state.Job, error) {
	const op = "jobs: create"
	j := state.Job{
		ID: control.NewID(prefixes[s.Service]), Scope: s, Type: spec.Type, InitiatedBy: spec.InitiatedBy,
		Status: state.JobPending, CreatedAt: time.Now().UTC(), Participants: slices.Clone(spec.Participants),
	}
	subjects := make([]string, len(j.Participants))
	for i := range j.Participants {
		j.Participants[i].Status = state.LaunchPending
		subjects[i] = j.Participants[i].Subject()
	}
	if err := v.fits(ctx, tx, s, subjects); err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	var err error
	if j.Tags, err = control.AddTags(nil, spec.Tags); err != nil {
		return state.Job{}, fault.Wrap(op, err)
	}
	return j, fault.Wrap(op, tx.PutJob(ctx, j))
}

func (v *Jobs) fits(ctx context.Context, r state.Reader, s state.Scope, subjects []string) error {
	const op = "jobs"
	if len(subjects) == 0 {
		return fault.New(fault.Invalid, op, "a job needs a participant")
	}
	if err := Distinct(subjects); err != nil {
		return err
	}
	if err := Idle(ctx, r, subjects...); err != nil {
		return err
	}
	running, inAll, err := r.JobLoad(ctx, s)
	if err != nil {
		return err
	}
	c := codes[s.Service]
	if err := v.limits.Fits(ctx, r, s, c.perJob, control.Job, "", len(subjects)); err != nil {
		return err
	}
	if err := v.limits.Fits(ctx, r, s, c.concurrent, control.Job, "", running+1); err != nil {
		return err
	}
	return v.limits.Fits(ctx, r, s, c.inAllJobs, control.Job, "", inAll+len(subjects))
}

// Distinct refuses with fault.Invalid a list that names one subject twice.
func Distinct(subjects []string) error {
	seen := map[string]bool{}
	for _, v := range subjects {
		if seen[v] {
			return fault.New(fault.Invalid, "jobs", "%s is named twice", v)
		}
		seen[v] = true
	}
	return nil
}

// Idle refuses with fault.Conflict when any of the subjects is in an unfinished job.
func Idle(ctx context.Context, r state.Reader, subjects ...string) error {
	in, err := r.BusyIn(ctx, subjects)
	if err != nil || len(in) == 0 {
		return err
	}
	all := &control.ResourceErrors{Message: busy}
	for _, id := range subjects {
		if job, ok := in[id]; ok {
			all.Each = append(all.Each, &control.ResourceError{Type: control.SourceServer, ID: id,
				Err: fault.New(fault.Conflict, "jobs", "is being processed by %s", job)})
		}
	}
	return fault.New(fault.Conflict, "jobs", "%w", all)
}

// Get returns one job.
func (v *Jobs) Get(ctx context.Context, s state.Scope, id string) (out state.Job, err error) {
	err = v.store.View(ctx, func(r state.Reader) error {
		out, err = get(ctx, r, s, id)
		return err
	})
	return out, fault.Wrap("jobs: get", err)
}

func get(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Job, error) {
	out, err := r.Job(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return out, control.Missing("jobs", control.Job, id)
	}
	return out, err
}

// List returns the scope's jobs, newest first.
func (v *Jobs) List(ctx context.Context, s state.Scope, f state.JobFilter, p state.Page) (items []state.Job, next string, err error) {
	err = v.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Jobs(ctx, s, f, p)
		return err
	})
	return items, next, fault.Wrap("jobs: list", err)
}

// Log returns one job's events, oldest first.
func (v *Jobs) Log(ctx context.Context, s state.Scope, id string, p state.Page) (items []state.JobEvent, next string, err error) {
	err = v.store.View(ctx, func(r state.Reader) error {
		if _, err := get(ctx, r, s, id); err != nil {
			return err
		}
		items, next, err = r.JobLog(ctx, id, p)
		return err
	})
	return items, next, fault.Wrap("jobs: log", err)
}

// Delete forgets a completed job and its log.
func (v *Jobs) Delete(ctx context.Context, s state.Scope, id string) error {
	err := v.store.Update(ctx, func(tx state.Tx) error {
		j, err := get(ctx, tx, s, id)
		if err != nil {
			return err
		}
		if j.Status != state.JobCompleted {
			return control.Refuse("jobs", control.Job, id, "is %s; only a COMPLETED job can be deleted", j.Status)
		}
		return tx.DeleteJob(ctx, s, id)
	})
	return fault.Wrap("jobs: delete", err)
}

// Tag adds or overwrites tags.
func (v *Jobs) Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error {
	err := v.change(ctx, s, id, func(_ state.Tx, j *state.Job) (err error) {
		j.Tags, err = control.AddTags(j.Tags, tags)
		return err
	})
	return fault.Wrap("jobs: tag", err)
}

// Untag removes tags by key.
func (v *Jobs) Untag(ctx context.Context, s state.Scope, id string, keys []string) error {
	err := v.change(ctx, s, id, func(_ state.Tx, j *state.Job) error {
		j.Tags = control.RemoveTags(j.Tags, keys)
		return nil
	})
	return fault.Wrap("jobs: untag", err)
}

func (v *Jobs) change(ctx context.Context, s state.Scope, id string, fn func(state.Tx, *state.Job) error) error {
	return v.store.Update(ctx, func(tx state.Tx) error {
		j, err := get(ctx, tx, s, id)
		if err != nil {
			return err
		}
		if err := fn(tx, &j); err != nil {
			return err
		}
		return tx.PutJob(ctx, j)
	})
}
