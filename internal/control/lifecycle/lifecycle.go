// Package lifecycle is the table of MGN's life cycle states. The control packages that move a server
// along it import it: servers, replication and the ones that launch.
package lifecycle

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// Trigger is what moves a server's life cycle.
type Trigger string

// The triggers. The first group tells of something that happened, and a state without a row for it
// stays; the second is somebody's wish, and a state without a row refuses it.
const (
	Imported     Trigger = "imported"     // an inventory names it; no agent is there yet
	Registered   Trigger = "registered"   // an agent came (back) to a server that was not replicating
	Started      Trigger = "started"      // replication was started
	Stopped      Trigger = "stopped"      // replication was stopped
	Launchable   Trigger = "launchable"   // the first recovery point exists
	Disconnected Trigger = "disconnected" // replication ended for good

	StartTest           Trigger = "StartTest"
	StartCutover        Trigger = "StartCutover"
	FinalizeCutover     Trigger = "FinalizeCutover"
	MarkReadyForTest    Trigger = "ChangeServerLifeCycleState READY_FOR_TEST"
	MarkReadyForCutover Trigger = "ChangeServerLifeCycleState READY_FOR_CUTOVER"
	MarkCutover         Trigger = "ChangeServerLifeCycleState CUTOVER"
)

// Triggers lists all of them.
var Triggers = []Trigger{Imported, Registered, Started, Stopped, Launchable, Disconnected,
	StartTest, StartCutover, FinalizeCutover, MarkReadyForTest, MarkReadyForCutover, MarkCutover}

var wishes = []Trigger{StartTest, StartCutover, FinalizeCutover, MarkReadyForTest, MarkReadyForCutover, MarkCutover}

// Wish tells whether a trigger is somebody's wish.
func Wish(on Trigger) bool { return slices.Contains(wishes, on) }

// Row is one line of the table.
type Row struct {
	On   Trigger
	From []state.LifeCycleState
	To   state.LifeCycleState
}

// Table is the life cycle.
var Table = []Row{
	{Imported, []state.LifeCycleState{state.LifeCycleNone}, state.PendingInstallation},
	{Registered, []state.LifeCycleState{state.LifeCycleNone, state.LifeDisconnected, state.Cutover, state.Discovered, state.PendingInstallation}, state.NotReady},
	{Started, []state.LifeCycleState{state.LifeCycleStopped, state.Discovered}, state.NotReady},
	{Stopped, []state.LifeCycleState{state.LifeCycleNone, state.NotReady, state.ReadyForTest, state.Testing, state.ReadyForCutover, state.CuttingOver}, state.LifeCycleStopped},
	{Launchable, []state.LifeCycleState{state.NotReady}, state.ReadyForTest},
	{Disconnected, []state.LifeCycleState{state.LifeCycleStopped, state.NotReady, state.ReadyForTest, state.Testing, state.ReadyForCutover, state.CuttingOver, state.Discovered, state.PendingInstallation}, state.LifeDisconnected},

	{StartTest, []state.LifeCycleState{state.ReadyForTest, state.Testing, state.ReadyForCutover}, state.Testing},
	{StartCutover, []state.LifeCycleState{state.ReadyForCutover, state.CuttingOver}, state.CuttingOver},
	{FinalizeCutover, []state.LifeCycleState{state.CuttingOver}, state.Cutover},
	{MarkReadyForTest, []state.LifeCycleState{state.Testing, state.ReadyForCutover}, state.ReadyForTest},
	{MarkReadyForCutover, []state.LifeCycleState{state.Testing, state.CuttingOver, state.Cutover}, state.ReadyForCutover},
	// Migration tools disconnect first and mark the cutover afterwards.
	{MarkCutover, []state.LifeCycleState{state.CuttingOver, state.LifeDisconnected}, state.Cutover},
}

// Apply moves an MGN server; a DRS server has no life cycle state and is left alone. A wish that the
// state does not allow is fault.Conflict.
func Apply(v *state.Server, on Trigger) error {
	if v.Scope.Service != state.MGN {
		return nil
	}
	for _, row := range Table {
		if row.On == on && slices.Contains(row.From, v.LifeCycle.State) {
			v.LifeCycle.State = row.To
			return nil
		}
	}
	if Wish(on) {
		return control.Refuse("lifecycle", control.SourceServer, v.ID, "%s is not possible in life cycle state %s", on, v.LifeCycle.State)
	}
	return nil
}
