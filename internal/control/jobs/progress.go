package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Unfinished lists the jobs of all accounts that are not COMPLETED, oldest first: what whoever carries jobs out
// begins with after a restart.
func (v *Jobs) Unfinished(ctx context.Context) (all []state.Job, err error) {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		var items []state.Job
		err = v.store.View(ctx, func(r state.Reader) error {
			items, page.After, err = r.UnfinishedJobs(ctx, page)
			return err
		})
		if err != nil {
			return nil, fault.Wrap("jobs: unfinished", err)
		}
		all = append(all, items...)
		if page.After == "" {
			return all, nil
		}
	}
}

// Begin moves a PENDING job to STARTED and logs it.
func (v *Jobs) Begin(ctx context.Context, s state.Scope, id string) error {
	err := v.change(ctx, s, id, func(tx state.Tx, j *state.Job) error { return begin(ctx, tx, j) })
	return fault.Wrap("jobs: begin", err)
}

func begin(ctx context.Context, tx state.Tx, j *state.Job) error {
	if err := moveJob(j, Begin); err != nil {
		return err
	}
	return tx.AddJobEvent(ctx, state.JobEvent{JobID: j.ID, At: time.Now().UTC(), Event: state.JobStart})
}

// Move moves one participant. note, when not nil, adds what was learned of it; events are logged; and also, when not
// nil, runs in the same transaction with what the participant has become.
func (v *Jobs) Move(ctx context.Context, s state.Scope, id, subject string, on Trigger, note func(*state.Participant),
	also func(context.Context, state.Tx, state.Participant) error, events ...state.JobEvent) error {
	err := v.change(ctx, s, id, func(tx state.Tx, j *state.Job) error {
		i := slices.IndexFunc(j.Participants, func(p state.Participant) bool { return p.Subject() == subject })
		if i < 0 {
			return control.Missing("jobs", "Participant", subject)
		}
		j.Participants = slices.Clone(j.Participants)
		p := &j.Participants[i]
		if err := moveParticipant(id, p, on); err != nil {
			return err
		}
		if note != nil {
			note(p)
		}
		if also != nil {
			if err := also(ctx, tx, *p); err != nil {
				return err
			}
		}
		return record(ctx, tx, id, events)
	})
	return fault.Wrap("jobs: move", err)
}

// Record appends events to a job's log. An event without a time happened now.
func (v *Jobs) Record(ctx context.Context, s state.Scope, id string, events ...state.JobEvent) error {
	err := v.store.Update(ctx, func(tx state.Tx) error {
		if _, err := get(ctx, tx, s, id); err != nil {
			return err
		}
		return record(ctx, tx, id, events)
	})
	return fault.Wrap("jobs: record", err)
}

func record(ctx context.Context, tx state.Tx, id string, events []state.JobEvent) error {
	for _, e := range events {
		e.JobID = id
		if e.At.IsZero() {
			e.At = time.Now().UTC()
		}
		if err := tx.AddJobEvent(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Finish completes a STARTED job whose participants are all settled, and logs it.
func (v *Jobs) Finish(ctx context.Context, s state.Scope, id string) error {
	err := v.change(ctx, s, id, func(tx state.Tx, j *state.Job) error { return finish(ctx, tx, j) })
	return fault.Wrap("jobs: finish", err)
}

func finish(ctx context.Context, tx state.Tx, j *state.Job) error {
	if i := slices.IndexFunc(j.Participants, func(p state.Participant) bool { return !settled(p) }); i >= 0 {
		return control.Refuse("jobs", control.Job, j.ID, "%s is still %s", j.Participants[i].Subject(), j.Participants[i].Status)
	}
	if err := moveJob(j, Finish); err != nil {
		return err
	}
	j.EndedAt = time.Now().UTC()
	return tx.AddJobEvent(ctx, state.JobEvent{JobID: j.ID, At: j.EndedAt, Event: state.JobEnd})
}

// Within takes a stored job from wherever it stands to COMPLETED in the caller's transaction, for work that is nothing but
// records of the same transaction: such a job cannot be left half done. started and done are what its log says of each
// participant.
func Within(ctx context.Context, tx state.Tx, j state.Job, started, done func(state.Participant) state.JobEvent) error {
	const op = "jobs: within"
	if j.Status == state.JobPending {
		if err := begin(ctx, tx, &j); err != nil {
			return fault.Wrap(op, err)
		}
	}
	j.Participants = slices.Clone(j.Participants)
	for i := range j.Participants {
		p := &j.Participants[i]
		for _, step := range []struct {
			from state.LaunchStatus
			on   Trigger
			say  func(state.Participant) state.JobEvent
		}{{state.LaunchPending, Proceed, started}, {state.LaunchInProgress, Succeed, done}} {
			if p.Status != step.from {
				continue
			}
			if err := moveParticipant(j.ID, p, step.on); err != nil {
				return fault.Wrap(op, err)
			}
			if err := record(ctx, tx, j.ID, []state.JobEvent{step.say(*p)}); err != nil {
				return fault.Wrap(op, err)
			}
		}
	}
	if err := finish(ctx, tx, &j); err != nil {
		return fault.Wrap(op, err)
	}
	return fault.Wrap(op, tx.PutJob(ctx, j))
}
