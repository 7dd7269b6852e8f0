// Package failback is the way of a recovery instance back: its states, its configuration, and what stands
// against a failback. internal/app assembles it, internal/awsapi operates it; whoever carries a failback out
// moves it by the table here alone.
package failback

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kind is what errors call a recovery instance.
const Kind = "RecoveryInstance"

// Trigger is what moves a failback.
type Trigger string

// The operations. A state without a row refuses one, but for StopFailback: where there is nothing to stop it
// does nothing.
const (
	OpReverse Trigger = "ReverseReplication"
	OpLaunch  Trigger = "StartFailbackLaunch"
	OpStop    Trigger = "StopFailback"
)

// The observations. A state without a row ignores one.
const (
	Linked      Trigger = "client linked"   // a failback client has the instance's data sent to it
	Synced      Trigger = "synchronised"    // everything is there, newer writes follow
	Lagging     Trigger = "fell behind"     // of what is synchronised
	Failed      Trigger = "failed"          // data cannot flow
	Recovered   Trigger = "works again"     // it can
	LaunchDone  Trigger = "launched"        // the original machine runs from what was sent back
	OutOfReach  Trigger = "out of reach"    // the reversed side cannot be read
	WithinReach Trigger = "reachable again" // it can
)

// Operations and Observations list the triggers.
var (
	Operations   = []Trigger{OpReverse, OpLaunch, OpStop}
	Observations = []Trigger{Linked, Synced, Lagging, Failed, Recovered, LaunchDone, OutOfReach, WithinReach}
)

// Row is one line of the table.
type Row struct {
	On   Trigger
	From []state.FailbackState
	To   state.FailbackState
}

// Table is the failback of one recovery instance. FAILBACK_NOT_STARTED begins the way over a failback client,
// FAILBACK_NOT_READY_FOR_LAUNCH that of replication reversed within AWS.
var Table = []Row{
	{OpReverse, []state.FailbackState{state.FailbackNotReady}, state.FailbackNotReady},
	{OpLaunch, []state.FailbackState{state.FailbackReadyForLaunch}, state.FailbackReadyForLaunch}, // the job does the rest
	{OpStop, []state.FailbackState{state.FailbackInProgress, state.FailbackReadyForLaunch, state.FailbackError}, state.FailbackNotStarted},

	{Linked, []state.FailbackState{state.FailbackNotStarted, state.FailbackCompleted, state.FailbackError}, state.FailbackInProgress},
	{Synced, []state.FailbackState{state.FailbackInProgress, state.FailbackNotReady}, state.FailbackReadyForLaunch},
	{Lagging, []state.FailbackState{state.FailbackReadyForLaunch}, state.FailbackInProgress},
	{Failed, []state.FailbackState{state.FailbackInProgress, state.FailbackReadyForLaunch}, state.FailbackError},
	{Recovered, []state.FailbackState{state.FailbackError}, state.FailbackInProgress},
	{LaunchDone, []state.FailbackState{state.FailbackReadyForLaunch}, state.FailbackCompleted},
	{OutOfReach, []state.FailbackState{state.FailbackNotReady}, state.FailbackNotAvailable},
	{WithinReach, []state.FailbackState{state.FailbackNotAvailable}, state.FailbackNotReady},
}

// Next is where a trigger leads; ok is false when the table has no row.
func Next(from state.FailbackState, on Trigger) (to state.FailbackState, ok bool) {
	for _, row := range Table {
		if row.On == on && slices.Contains(row.From, from) {
			return row.To, true
		}
	}
	return from, false
}

// Move fires a trigger on a recovery instance's failback: what the state does not allow of an operation is
// fault.Conflict, an observation that does not fit changes nothing.
func Move(v *state.RecoveryInstance, on Trigger) error {
	to, ok := Next(v.Failback.State, on)
	if !ok && slices.Contains(Operations, on) && on != OpStop {
		return control.Refuse("failback", Kind, v.ID, "%s is not possible while its failback is %s", on, v.Failback.State)
	}
	v.Failback.State = to
	return nil
}

// Fresh is the failback of a recovery instance that was just launched.
func Fresh(originAWS bool) state.Failback {
	f := state.Failback{State: state.FailbackNotStarted, Replication: state.ReplicationNotStarted, Config: DefaultConfig()}
	if originAWS {
		f.State = state.FailbackNotReady
	}
	return f
}

// DefaultConfig is the failback replication configuration that a recovery instance begins with.
func DefaultConfig() state.FailbackConfig {
	return state.FailbackConfig{Name: "Failback Replication Configuration", InternetProtocol: "IPV4"}
}
