package networks

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// Trigger is what moves a source network's replication.
type Trigger string

// The triggers: operations, which a status without a row refuses, and observations, which it ignores.
const (
	OpStart  Trigger = "StartSourceNetworkReplication"
	OpStop   Trigger = "StopSourceNetworkReplication"
	OpDelete Trigger = "DeleteSourceNetwork"
	Found    Trigger = "servers found"
	NotFound Trigger = "nothing found"
)

// Triggers lists all of them.
var Triggers = []Trigger{OpStart, OpStop, OpDelete, Found, NotFound}

// Row is one line of the table.
type Row struct {
	On   Trigger
	From []state.NetworkStatus
	To   state.NetworkStatus
}

// Table is the replication of one source network. DeleteSourceNetwork ends it.
var Table = []Row{
	{OpStart, []state.NetworkStatus{state.NetworkStopped, state.NetworkError}, state.NetworkInProgress},
	{OpStop, []state.NetworkStatus{state.NetworkInProgress, state.NetworkProtected, state.NetworkError}, state.NetworkStopped},
	{OpDelete, []state.NetworkStatus{state.NetworkStopped, state.NetworkError}, state.NetworkStopped},
	{Found, []state.NetworkStatus{state.NetworkInProgress, state.NetworkProtected, state.NetworkError}, state.NetworkProtected},
	{NotFound, []state.NetworkStatus{state.NetworkInProgress, state.NetworkProtected, state.NetworkError}, state.NetworkError},
}

// move fires a trigger; a refusal is fault.Conflict and changes nothing.
func move(v *state.SourceNetwork, on Trigger, details string) error {
	for _, row := range Table {
		if row.On == on && slices.Contains(row.From, v.Status) {
			v.Status, v.StatusDetails = row.To, details
			return nil
		}
	}
	if on == Found || on == NotFound {
		return nil
	}
	return control.Refuse("source networks", Kind, v.ID, "%s is not possible while replication is %s", on, v.Status)
}
