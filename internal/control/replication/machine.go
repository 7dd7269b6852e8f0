package replication

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/state"
)

// Trigger is what moves one server's data replication: an operation that somebody called or something
// that the reconciler observed.
type Trigger string

// The operations. A state without a row for one refuses it.
const (
	OpStart      Trigger = "StartReplication"
	OpStop       Trigger = "StopReplication"
	OpPause      Trigger = "PauseReplication"
	OpResume     Trigger = "ResumeReplication"
	OpRetry      Trigger = "RetryDataReplication"
	OpDisconnect Trigger = "Disconnect"
	OpFinalize   Trigger = "FinalizeCutover"
	OpDelete     Trigger = "DeleteSourceServer"
)

// The observations. A state without a row for one ignores it.
const (
	Reinstalled  Trigger = "reinstalled"   // an agent registered again
	StepFailed   Trigger = "step failed"   // an initiation step failed or timed out
	AttemptDue   Trigger = "attempt due"   // next attempt's time has come, a retry was asked for, or what failed works now
	PathLost     Trigger = "path lost"     // the replication server does not serve the source server any more
	Stall        Trigger = "stall"         // data cannot flow
	Unstall      Trigger = "unstall"       // it can again
	CopySeen     Trigger = "copying"       // a first copy is under way
	RescanSeen   Trigger = "rescanning"    // a rescan is under way
	BacklogSeen  Trigger = "backlogged"    // the copy is whole, but newer writes are waiting
	DrainedSeen  Trigger = "drained"       // the replica is up to date
	PointMissing Trigger = "point missing" // as drained, and no recovery point was made since the copy
	PointTaken   Trigger = "point taken"
)

// Operations and Observations list the triggers.
var (
	Operations   = []Trigger{OpStart, OpStop, OpPause, OpResume, OpRetry, OpDisconnect, OpFinalize, OpDelete}
	Observations = []Trigger{Reinstalled, StepFailed, AttemptDue, PathLost, Stall, Unstall,
		CopySeen, RescanSeen, BacklogSeen, DrainedSeen, PointMissing, PointTaken}
)

// back in a row's To stands for the state that a pause or a stall interrupted.
const back state.ReplicationState = "(back)"

// Row is one line of the table.
type Row struct {
	On   Trigger
	From []state.ReplicationState
	To   state.ReplicationState
	// MGNOnly: DRS has no such operation.
	MGNOnly bool
}

// flowing are the states in which data moves or could.
var flowing = []state.ReplicationState{state.InitialSync, state.Rescan, state.Backlog, state.CreatingSnapshot, state.Continuous}

func and(list []state.ReplicationState, more ...state.ReplicationState) []state.ReplicationState {
	return append(slices.Clone(list), more...)
}

// Table is the state machine of one server's data replication.
var Table = []Row{
	{On: OpStart, From: []state.ReplicationState{state.Stopped}, To: state.Initiating},
	{On: OpStop, From: and(flowing, state.Initiating, state.Stalled, state.Paused), To: state.Stopped},
	{On: OpPause, From: and(flowing, state.Initiating, state.Stalled), To: state.Paused, MGNOnly: true},
	{On: OpResume, From: []state.ReplicationState{state.Paused}, To: back, MGNOnly: true},
	{On: OpRetry, From: []state.ReplicationState{state.Stalled}, To: state.Stalled}, // acts at the next handshake
	{On: OpDisconnect, From: and(flowing, state.Initiating, state.Stalled, state.Paused, state.Stopped), To: state.Disconnected},
	{On: OpFinalize, From: and(flowing, state.Initiating, state.Stalled, state.Paused, state.Stopped), To: state.Disconnected, MGNOnly: true},
	{On: OpDelete, From: []state.ReplicationState{state.Disconnected}, To: state.Disconnected},

	{On: Reinstalled, From: and(flowing, state.Initiating, state.Stalled, state.Disconnected), To: state.Initiating},
	{On: StepFailed, From: []state.ReplicationState{state.Initiating}, To: state.Stalled},
	{On: AttemptDue, From: []state.ReplicationState{state.Stalled}, To: state.Initiating},
	{On: PathLost, From: flowing, To: state.Initiating},
	{On: Stall, From: and(flowing, state.Initiating), To: state.Stalled},
	{On: Unstall, From: []state.ReplicationState{state.Stalled}, To: back},

	{On: CopySeen, From: []state.ReplicationState{state.Initiating, state.Rescan, state.Backlog, state.CreatingSnapshot, state.Continuous}, To: state.InitialSync},
	{On: RescanSeen, From: []state.ReplicationState{state.Initiating, state.InitialSync, state.Backlog, state.CreatingSnapshot, state.Continuous}, To: state.Rescan},
	{On: BacklogSeen, From: []state.ReplicationState{state.Initiating, state.InitialSync, state.Rescan, state.CreatingSnapshot, state.Continuous}, To: state.Backlog},
	{On: DrainedSeen, From: []state.ReplicationState{state.Backlog}, To: state.Continuous},
	{On: PointMissing, From: []state.ReplicationState{state.Backlog}, To: state.CreatingSnapshot},
	{On: PointTaken, From: []state.ReplicationState{state.CreatingSnapshot}, To: state.Continuous},
}

// next finds where a trigger leads. resume is the state a pause or stall interrupted. ok is false when
// the table has no row.
func next(s state.Service, from, resume state.ReplicationState, on Trigger) (to state.ReplicationState, ok bool) {
	for _, row := range Table {
		if row.On != on || !slices.Contains(row.From, from) || row.MGNOnly && s != state.MGN {
			continue
		}
		if row.To == back {
			return resumeTo(resume), true
		}
		return row.To, true
	}
	return from, false
}

// resumeTo is where replication goes on after a pause or stall. What was up to date no longer is; what
// cannot be told begins anew.
func resumeTo(before state.ReplicationState) state.ReplicationState {
	switch before {
	case state.InitialSync, state.Rescan, state.Backlog:
		return before
	case state.CreatingSnapshot, state.Continuous:
		return state.Backlog
	}
	return state.Initiating
}
