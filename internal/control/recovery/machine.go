// Package recovery keeps recovery instances, the machines launched from source servers' data, and decides who
// may be recovered or terminated. What a job says is done by a launches.Launcher. internal/app assembles it,
// internal/awsapi calls it; whoever launches moves instances by the table here alone.
package recovery

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/state"
)

// Trigger is what moves a recovery instance's machine.
type Trigger string

// The triggers: one operation, which a state without a row refuses, and observations, which it ignores.
const (
	OpTerminate Trigger = "TerminateRecoveryInstances"
	Runs        Trigger = "runs"
	Stops       Trigger = "is stopping"
	Stopped     Trigger = "is stopped"
	Starts      Trigger = "is started"
	Ends        Trigger = "is shutting down for good"
	Gone        Trigger = "is terminated"
	Lost        Trigger = "cannot be found"
)

// Triggers lists all of them.
var Triggers = []Trigger{OpTerminate, Runs, Stops, Stopped, Starts, Ends, Gone, Lost}

// Row is one line of the table.
type Row struct {
	On   Trigger
	From []state.RecoveryInstanceState
	To   state.RecoveryInstanceState
}

var present = []state.RecoveryInstanceState{state.RIPending, state.RIRunning, state.RIStopping, state.RIStopped, state.RINotFound}

// Table is the machine of one recovery instance. It begins PENDING; a record whose machine is TERMINATED by a
// job goes with it.
var Table = []Row{
	{OpTerminate, present, state.RIShuttingDown},
	{Runs, []state.RecoveryInstanceState{state.RIPending, state.RIStopped, state.RIStopping, state.RINotFound}, state.RIRunning},
	{Stops, []state.RecoveryInstanceState{state.RIRunning}, state.RIStopping},
	{Stopped, []state.RecoveryInstanceState{state.RIPending, state.RIRunning, state.RIStopping, state.RINotFound}, state.RIStopped},
	{Starts, []state.RecoveryInstanceState{state.RIStopped}, state.RIPending},
	{Ends, present, state.RIShuttingDown},
	{Gone, append(slices.Clone(present), state.RIShuttingDown), state.RITerminated},
	{Lost, []state.RecoveryInstanceState{state.RIPending, state.RIRunning, state.RIStopping, state.RIStopped}, state.RINotFound},
}

// Move fires a trigger on a recovery instance's machine. OpTerminate that the state does not allow is
// fault.Conflict, an observation that does not fit changes nothing.
func Move(v *state.RecoveryInstance, on Trigger) error {
	for _, row := range Table {
		if row.On == on && slices.Contains(row.From, v.State) {
			v.State = row.To
			return nil
		}
	}
	if on == OpTerminate {
		return control.Refuse("recovery", failback.Kind, v.ID, "%s is not possible while its machine is %s", on, v.State)
	}
	return nil
}
