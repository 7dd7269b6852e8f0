package state

import "time"

// ReplicationState is dataReplicationState of both APIs.
type ReplicationState string

// The states of one server's data replication. Their transitions are the table in control/replication.
const (
	Stopped          ReplicationState = "STOPPED"
	Initiating       ReplicationState = "INITIATING"
	InitialSync      ReplicationState = "INITIAL_SYNC"
	Backlog          ReplicationState = "BACKLOG"
	CreatingSnapshot ReplicationState = "CREATING_SNAPSHOT"
	Continuous       ReplicationState = "CONTINUOUS"
	Paused           ReplicationState = "PAUSED"
	Rescan           ReplicationState = "RESCAN"
	Stalled          ReplicationState = "STALLED"
	Disconnected     ReplicationState = "DISCONNECTED"
)

// ReplicationStates lists all of them in the order people meet them.
var ReplicationStates = []ReplicationState{
	Stopped, Initiating, InitialSync, Backlog, CreatingSnapshot, Continuous, Paused, Rescan, Stalled, Disconnected,
}

// Intent is what the operator wants of a server's replication.
type Intent string

// The intents.
const (
	IntentRun        Intent = "RUN"
	IntentPause      Intent = "PAUSE"
	IntentStop       Intent = "STOP"
	IntentDisconnect Intent = "DISCONNECT"
)

// ErrorCode is dataReplicationError.error.
type ErrorCode string

// Error codes that are not the failure of an initiation step (those are FAILED_TO_ + the step).
const (
	AgentNotSeen     ErrorCode = "AGENT_NOT_SEEN"
	SnapshotsFailure ErrorCode = "SNAPSHOTS_FAILURE"
	NotConverging    ErrorCode = "NOT_CONVERGING"
	UnstableNetwork  ErrorCode = "UNSTABLE_NETWORK"
)

// ReplicationError is why a server is STALLED.
type ReplicationError struct {
	Code ErrorCode
	Raw  string
}

// StepName is a data replication initiation step.
type StepName string

// The steps, in order.
const (
	StepWait         StepName = "WAIT"
	StepAccess       StepName = "CREATE_SECURITY_GROUP"
	StepLaunch       StepName = "LAUNCH_REPLICATION_SERVER"
	StepBoot         StepName = "BOOT_REPLICATION_SERVER"
	StepAuthenticate StepName = "AUTHENTICATE_WITH_SERVICE"
	StepSoftware     StepName = "DOWNLOAD_REPLICATION_SOFTWARE"
	StepCreateDisks  StepName = "CREATE_STAGING_DISKS"
	StepAttachDisks  StepName = "ATTACH_STAGING_DISKS"
	StepPair         StepName = "PAIR_REPLICATION_SERVER_WITH_AGENT"
	StepConnect      StepName = "CONNECT_AGENT_TO_REPLICATION_SERVER"
	StepTransfer     StepName = "START_DATA_TRANSFER"
)

// StepNames are the eleven steps in order.
var StepNames = []StepName{
	StepWait, StepAccess, StepLaunch, StepBoot, StepAuthenticate, StepSoftware,
	StepCreateDisks, StepAttachDisks, StepPair, StepConnect, StepTransfer,
}

// StepStatus is how far a step is.
type StepStatus string

// The step statuses.
const (
	NotStarted StepStatus = "NOT_STARTED"
	InProgress StepStatus = "IN_PROGRESS"
	Succeeded  StepStatus = "SUCCEEDED"
	Failed     StepStatus = "FAILED"
	Skipped    StepStatus = "SKIPPED"
)

// Step is one initiation step of an attempt.
type Step struct {
	Name      StepName
	Status    StepStatus
	StartedAt time.Time `json:",omitzero"`
	EndedAt   time.Time `json:",omitzero"`
}

// Attempt is one run through the initiation steps.
type Attempt struct {
	ID            uint64    // grows by one per attempt of a server; the agent confirms it
	StartedAt     time.Time `json:",omitzero"`
	NextAttemptAt time.Time `json:",omitzero"`
	Steps         []Step    `json:",omitzero"`
}

// DiskProgress is measured progress of one disk.
type DiskProgress struct {
	DeviceName                               string
	Total, Replicated, Rescanned, Backlogged uint64 `json:",omitzero"`
}

// Replication is the data replication of one server: what is wanted, and what was last recorded.
type Replication struct {
	ServerID string
	Scope    Scope
	Intent   Intent
	State    ReplicationState
	// Resume is the state to go back to when a stall or a pause ends.
	Resume  ReplicationState  `json:",omitzero"`
	Error   *ReplicationError `json:",omitzero"`
	ErrorAt time.Time         `json:",omitzero"` // since when
	Attempt Attempt           `json:",omitzero"`
	// Retry asks for a new attempt at the agent's next handshake.
	Retry bool `json:",omitzero"`
	// Staged means a staging area may exist on the replication server. Teardown means it must go.
	Staged   bool `json:",omitzero"`
	Teardown bool `json:",omitzero"`
	// Deleting means the server's records go when the teardown is done.
	Deleting bool `json:",omitzero"`
	// Complete means a first copy was finished in the present staging area.
	Complete bool `json:",omitzero"`
	// PointDue means CONTINUOUS has to be preceded by a recovery point.
	PointDue bool `json:",omitzero"`

	FirstByteAt   time.Time      `json:",omitzero"`
	LastSeenAt    time.Time      `json:",omitzero"`
	LastPointAt   time.Time      `json:",omitzero"`
	RecoverableAt time.Time      `json:",omitzero"` // time of the newest durable recoverable position; zero when there is none
	Disks         []DiskProgress `json:",omitzero"`
	Finding       *Finding       `json:",omitzero"` // the newest that was told of; never changed in place
}

// Finding is that a verify pass found that journal and disks differed. It is known by journal and epoch.
type Finding struct {
	Journal string
	Epoch   uint64    // that corrects it: states before it may be wrong
	Since   time.Time // they were last proven to be the same, by the agent's clock; zero: never before
	Bytes   uint64    // that differed
	Absent  uint64    // of these: that the journal had nothing of
}

// Same tells whether two findings, either of which may be none, are one.
func (f *Finding) Same(o *Finding) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.Journal == o.Journal && f.Epoch == o.Epoch
}

// Point is a recovery point.
type Point struct {
	ID       string
	Scope    Scope
	ServerID string
	Expected time.Time // the scheduled instant
	At       time.Time // what the position's data is true for
	Position uint64
	// Consistency is ApplicationConsistent for points that an agent made for that.
	Consistency Consistency
}
