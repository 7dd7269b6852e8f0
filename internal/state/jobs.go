package state

import (
	"context"
	"time"
)

// JobStatus is a job's status in both APIs. There is no failed job: failure is each participant's.
type JobStatus string

// The job statuses. Their transitions are a table in control/jobs.
const (
	JobPending   JobStatus = "PENDING"
	JobStarted   JobStatus = "STARTED"
	JobCompleted JobStatus = "COMPLETED"
)

// JobStatuses lists all of them in order.
var JobStatuses = []JobStatus{JobPending, JobStarted, JobCompleted}

// JobType is what kind of work a job does.
type JobType string

// The job types.
const (
	JobLaunch                  JobType = "LAUNCH"
	JobTerminate               JobType = "TERMINATE"
	JobCreateConvertedSnapshot JobType = "CREATE_CONVERTED_SNAPSHOT" // DRS
)

// JobInitiator is the call that made a job, as both APIs spell it.
type JobInitiator string

// The initiators. StartTest to Terminate are MGN's, the others DRS's; Diagnostic is both services'.
const (
	ByStartTest                  JobInitiator = "START_TEST"
	ByStartCutover               JobInitiator = "START_CUTOVER"
	ByTerminate                  JobInitiator = "TERMINATE"
	ByDiagnostic                 JobInitiator = "DIAGNOSTIC"
	ByStartRecovery              JobInitiator = "START_RECOVERY"
	ByStartDrill                 JobInitiator = "START_DRILL"
	ByFailback                   JobInitiator = "FAILBACK"
	ByTerminateRecoveryInstances JobInitiator = "TERMINATE_RECOVERY_INSTANCES"
	ByTargetAccount              JobInitiator = "TARGET_ACCOUNT"
	ByCreateNetworkRecovery      JobInitiator = "CREATE_NETWORK_RECOVERY"
	ByUpdateNetworkRecovery      JobInitiator = "UPDATE_NETWORK_RECOVERY"
	ByAssociateNetworkRecovery   JobInitiator = "ASSOCIATE_NETWORK_RECOVERY"
)

// LaunchStatus is how far a job is with one participant.
type LaunchStatus string

// The launch statuses. Their transitions are a table in control/jobs.
const (
	LaunchPending    LaunchStatus = "PENDING"
	LaunchInProgress LaunchStatus = "IN_PROGRESS"
	Launched         LaunchStatus = "LAUNCHED"
	LaunchFailed     LaunchStatus = "FAILED"
	LaunchTerminated LaunchStatus = "TERMINATED"
)

// LaunchStatuses lists all of them.
var LaunchStatuses = []LaunchStatus{LaunchPending, LaunchInProgress, Launched, LaunchFailed, LaunchTerminated}

// Job is a launch, a termination or a network's recovery, with everybody who takes part in it.
type Job struct {
	ID           string
	Scope        Scope
	Type         JobType
	InitiatedBy  JobInitiator
	Status       JobStatus
	CreatedAt    time.Time
	EndedAt      time.Time // zero until it is COMPLETED
	Participants []Participant
	Tags         map[string]string
}

// Participant is one source server, recovery instance or source network in a job.
type Participant struct {
	ServerID           string
	RecoveryInstanceID string // DRS
	SourceNetworkID    string // DRS
	SnapshotID         string // DRS: the recovery point that was asked for; empty is the newest
	Status             LaunchStatus
	InstanceID         string // of the launched machine
	// ActionsReadyAt is when the launched machine could take actions; Runs are those it was given.
	ActionsReadyAt time.Time
	Runs           []ActionRun
}

// Subject is what a participant must not be in two unfinished jobs with: its server, or what it has instead.
func (p *Participant) Subject() string {
	switch {
	case p.ServerID != "":
		return p.ServerID
	case p.RecoveryInstanceID != "":
		return p.RecoveryInstanceID
	}
	return p.SourceNetworkID
}

// ActionRun is one post-launch action on a launched machine.
type ActionRun struct {
	ActionID      string // DRS; MGN tells what was run instead
	Document      SSMDocument
	DocumentType  string // AUTOMATION or COMMAND
	ExecutionID   string
	Status        string // IN_PROGRESS, SUCCESS or FAILED in MGN's words, SUCCEEDED in DRS's
	FailureReason string
}

// JobEventName is the kind of a job log item.
type JobEventName string

// The events that both services log.
const (
	JobStart              JobEventName = "JOB_START"
	ServerSkipped         JobEventName = "SERVER_SKIPPED"
	CleanupStart          JobEventName = "CLEANUP_START"
	CleanupEnd            JobEventName = "CLEANUP_END"
	CleanupFail           JobEventName = "CLEANUP_FAIL"
	SnapshotStart         JobEventName = "SNAPSHOT_START"
	SnapshotEnd           JobEventName = "SNAPSHOT_END"
	SnapshotFail          JobEventName = "SNAPSHOT_FAIL"
	UsingPreviousSnapshot JobEventName = "USING_PREVIOUS_SNAPSHOT"
	ConversionStart       JobEventName = "CONVERSION_START"
	ConversionEnd         JobEventName = "CONVERSION_END"
	ConversionFail        JobEventName = "CONVERSION_FAIL"
	LaunchStart           JobEventName = "LAUNCH_START"
	LaunchEnd             JobEventName = "LAUNCH_END" // DRS sends it although its model does not list it
	LaunchFail            JobEventName = "LAUNCH_FAILED"
	JobCancel             JobEventName = "JOB_CANCEL"
	JobEnd                JobEventName = "JOB_END"
)

// JobEvent is one line of a job's log. Members that say nothing are empty.
type JobEvent struct {
	JobID              string
	Seq                int64 // given by the store: 1, 2, ... within a job
	At                 time.Time
	Event              JobEventName
	ServerID           string
	SourceNetworkID    string
	ConversionServerID string
	TargetInstanceID   string
	RawError           string
	Attempt            int32
	MaxAttempts        int32
}

// JobFilter narrows a list of jobs; a zero member does not. Times are of creation, both ends included.
type JobFilter struct {
	IDs      []string
	From, To time.Time
}

// JobReader reads jobs. It is part of Reader.
type JobReader interface {
	Job(ctx context.Context, s Scope, id string) (Job, error)
	// Jobs lists a scope's jobs, newest first.
	Jobs(ctx context.Context, s Scope, f JobFilter, p Page) (items []Job, next string, err error)
	// UnfinishedJobs lists the jobs of all scopes that are not COMPLETED, oldest first.
	UnfinishedJobs(ctx context.Context, p Page) (items []Job, next string, err error)
	// JobLog lists one job's events, oldest first.
	JobLog(ctx context.Context, jobID string, p Page) (items []JobEvent, next string, err error)
	// BusyIn tells which of the subjects are in an unfinished job, and in which.
	BusyIn(ctx context.Context, subjects []string) (jobs map[string]string, err error)
	// JobLoad counts a scope's unfinished jobs and the subjects in them.
	JobLoad(ctx context.Context, s Scope) (jobs, subjects int, err error)
}

// JobTx writes jobs. It is part of Tx.
type JobTx interface {
	// PutJob refuses with fault.Conflict a subject that is in another unfinished job.
	PutJob(ctx context.Context, j Job) error
	// DeleteJob removes a job with its log.
	DeleteJob(ctx context.Context, s Scope, id string) error
	// AddJobEvent appends to a job's log.
	AddJobEvent(ctx context.Context, e JobEvent) error
}
