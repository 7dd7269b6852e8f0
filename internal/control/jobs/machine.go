package jobs

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// Trigger is what moves a job or one of its participants.
type Trigger string

// The triggers. Begin and Finish move a job, the others a participant.
const (
	Begin     Trigger = "begin"     // somebody works on the job
	Finish    Trigger = "finish"    // every participant is settled
	Proceed   Trigger = "proceed"   // somebody works on this participant
	Succeed   Trigger = "succeed"   // its machine was launched
	Fail      Trigger = "fail"      // it was not, or could not be terminated
	Terminate Trigger = "terminate" // its machine is gone
)

// Triggers lists all of them.
var Triggers = []Trigger{Begin, Finish, Proceed, Succeed, Fail, Terminate}

// JobRow and ParticipantRow are lines of the tables. A status without a row for a trigger refuses it.
type (
	JobRow struct {
		On   Trigger
		From []state.JobStatus
		To   state.JobStatus
	}
	ParticipantRow struct {
		On   Trigger
		From []state.LaunchStatus
		To   state.LaunchStatus
	}
)

// JobTable is the life of a job. There is no way around STARTED, and none back.
var JobTable = []JobRow{
	{Begin, []state.JobStatus{state.JobPending}, state.JobStarted},
	{Finish, []state.JobStatus{state.JobStarted}, state.JobCompleted},
}

// ParticipantTable is the life of one participant in a job.
var ParticipantTable = []ParticipantRow{
	{Proceed, []state.LaunchStatus{state.LaunchPending}, state.LaunchInProgress},
	{Succeed, []state.LaunchStatus{state.LaunchInProgress}, state.Launched},
	{Fail, []state.LaunchStatus{state.LaunchPending, state.LaunchInProgress}, state.LaunchFailed},
	// LAUNCHED: a later job may clean up what this one launched.
	{Terminate, []state.LaunchStatus{state.LaunchInProgress, state.Launched}, state.LaunchTerminated},
}

const opMove = "jobs: move"

// moveJob fires a trigger on a job.
func moveJob(j *state.Job, on Trigger) error {
	for _, row := range JobTable {
		if row.On == on && slices.Contains(row.From, j.Status) {
			j.Status = row.To
			return nil
		}
	}
	return control.Refuse(opMove, control.Job, j.ID, "a %s job cannot %s", j.Status, on)
}

// moveParticipant fires a trigger on one participant.
func moveParticipant(jobID string, p *state.Participant, on Trigger) error {
	for _, row := range ParticipantTable {
		if row.On == on && slices.Contains(row.From, p.Status) {
			p.Status = row.To
			return nil
		}
	}
	return control.Refuse(opMove, control.Job, jobID, "%s is %s and cannot %s", p.Subject(), p.Status, on)
}

// settled reports whether nothing more will be done with a participant.
func settled(p state.Participant) bool {
	return p.Status != state.LaunchPending && p.Status != state.LaunchInProgress
}
