package records_test

import (
	"testing"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// lists are the calls whose cost must not grow with the number of records.
var lists = map[string]func(state.Reader, *testing.T) error{
	"events": func(r state.Reader, t *testing.T) error {
		_, err := r.Events(t.Context(), "1", state.EventFilter{After: 5})
		return err
	},
	"events of a server": func(r state.Reader, t *testing.T) error {
		_, err := r.Events(t.Context(), "1", state.EventFilter{After: 5, Subject: "s-1"})
		return err
	},
	"webhooks": func(r state.Reader, t *testing.T) error {
		_, err := r.Webhooks(t.Context(), "1")
		return err
	},
	"lanes": func(r state.Reader, t *testing.T) error {
		_, err := r.Lanes(t.Context(), "wh-1", 10)
		return err
	},
	"servers": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{}, page)
		return err
	},
	"servers archived": func(r state.Reader, t *testing.T) error {
		yes := true
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{Archived: &yes}, page)
		return err
	},
	"servers by life cycle": func(r state.Reader, t *testing.T) error {
		f := state.ServerFilter{LifeCycleStates: []state.LifeCycleState{state.Testing, state.CuttingOver}}
		_, _, err := r.Servers(t.Context(), scope, f, page)
		return err
	},
	"servers by type": func(r state.Reader, t *testing.T) error {
		no := false
		f := state.ServerFilter{ReplicationTypes: []string{state.SnapshotShipping}, Archived: &no}
		_, _, err := r.Servers(t.Context(), scope, f, page)
		return err
	},
	"servers by id": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{IDs: []string{"s-10000000000000007"}}, page)
		return err
	},
	"servers by hardware": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{HardwareID: "x"}, page)
		return err
	},
	"servers staged elsewhere": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{StagingAccounts: []string{"2"}}, page)
		return err
	},
	"servers staged here": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{StagingAccounts: []string{scope.Account}}, page)
		return err
	},
	"servers that could be extended": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{ExtensibleBy: &state.Scope{Account: "2", Service: state.DRS}}, page)
		return err
	},
	"templates": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Templates(t.Context(), scope, page)
		return err
	},
	"points": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Points(t.Context(), "s-1", state.PointFilter{From: time.Now()}, page)
		return err
	},
	"points descending": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Points(t.Context(), "s-1", state.PointFilter{Descending: true}, page)
		return err
	},
	"servers by application": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{ApplicationIDs: []string{"app-1"}}, page)
		return err
	},
	"servers by the user's id": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Servers(t.Context(), scope, state.ServerFilter{UserProvidedID: "mine"}, page)
		return err
	},
	"applications": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Applications(t.Context(), scope, state.ApplicationFilter{}, page)
		return err
	},
	"applications of a wave": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Applications(t.Context(), scope, state.ApplicationFilter{WaveIDs: []string{"wave-1"}}, page)
		return err
	},
	"waves": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Waves(t.Context(), scope, state.WaveFilter{}, page)
		return err
	},
	"connectors": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Connectors(t.Context(), scope, nil, page)
		return err
	},
	"counts": func(r state.Reader, t *testing.T) error {
		if _, err := r.CountApplications(t.Context(), scope, true); err != nil {
			return err
		}
		_, err := r.CountInWaves(t.Context(), scope, []string{"wave-1"})
		return err
	},
	"members": func(r state.Reader, t *testing.T) error {
		if _, err := r.ApplicationMembers(t.Context(), scope, []string{"app-1", "app-2"}); err != nil {
			return err
		}
		_, err := r.WaveMembers(t.Context(), scope, []string{"wave-1"})
		return err
	},
	"initialised accounts": func(r state.Reader, t *testing.T) error {
		_, _, err := r.InitialisedAccounts(t.Context(), state.MGN, state.Page{After: "1"})
		return err
	},
	"actions": func(r state.Reader, t *testing.T) error {
		_, _, err := r.PostLaunchActions(t.Context(), "s-1", nil, state.Page{After: "5"})
		return err
	},
	"launch templates of MGN": func(r state.Reader, t *testing.T) error {
		_, _, err := r.MGNLaunchTemplates(t.Context(), scope, nil, page)
		return err
	},
	"transfers": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Transfers(t.Context(), scope, state.Import, nil, page)
		return err
	},
	"unfinished transfers": func(r state.Reader, t *testing.T) error {
		_, _, err := r.UnfinishedTransfers(t.Context(), page)
		return err
	},
	"network executions": func(r state.Reader, t *testing.T) error {
		_, _, err := r.NetworkExecutions(t.Context(), scope, "nmd-1", state.ExecutionFilter{}, page)
		return err
	},
	"jobs": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Jobs(t.Context(), scope, state.JobFilter{From: time.Now()}, page)
		return err
	},
	"unfinished jobs": func(r state.Reader, t *testing.T) error {
		_, _, err := r.UnfinishedJobs(t.Context(), page)
		return err
	},
	"job log": func(r state.Reader, t *testing.T) error {
		_, _, err := r.JobLog(t.Context(), "job-1", state.Page{After: "5"})
		return err
	},
	"busy subjects": func(r state.Reader, t *testing.T) error {
		_, err := r.BusyIn(t.Context(), []string{"s-1", "s-2"})
		return err
	},
	"launch templates": func(r state.Reader, t *testing.T) error {
		_, _, err := r.DRSLaunchTemplates(t.Context(), scope, page)
		return err
	},
	"launch actions": func(r state.Reader, t *testing.T) error {
		_, _, err := r.DRSLaunchActions(t.Context(), "s-1", nil, page)
		return err
	},
	"source networks": func(r state.Reader, t *testing.T) error {
		_, _, err := r.SourceNetworks(t.Context(), scope, state.SourceNetworkFilter{OriginRegion: "x"}, page)
		return err
	},
	"extensions": func(r state.Reader, t *testing.T) error {
		_, err := r.Extensions(t.Context(), []string{"s-1", "s-2"})
		return err
	},
	"extensions of": func(r state.Reader, t *testing.T) error {
		_, err := r.ExtensionsOf(t.Context(), scope, "1", []string{"s-1", "s-2"})
		return err
	},
	"staging accounts": func(r state.Reader, t *testing.T) error {
		_, _, err := r.StagingAccounts(t.Context(), scope, page)
		return err
	},
	"recovery instances": func(r state.Reader, t *testing.T) error {
		_, _, err := r.RecoveryInstances(t.Context(), scope, state.RecoveryInstanceFilter{}, page)
		return err
	},
	"pins": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Pins(t.Context(), scope, page)
		return err
	},
	"pins of a server": func(r state.Reader, t *testing.T) error {
		_, err := r.ServerPins(t.Context(), "s-1")
		return err
	},
	"pins of an owner": func(r state.Reader, t *testing.T) error {
		_, err := r.OwnerPins(t.Context(), "job-1")
		return err
	},
	"accounts": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Accounts(t.Context(), page)
		return err
	},
	"users": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Users(t.Context(), "1", page)
		return err
	},
	"sessions": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Sessions(t.Context(), "1", page)
		return err
	},
	"ec2 launch templates": func(r state.Reader, t *testing.T) error {
		_, _, err := r.LaunchTemplates(t.Context(), "1", state.LaunchTemplateFilter{}, page)
		return err
	},
	"launch template versions": func(r state.Reader, t *testing.T) error {
		_, _, err := r.LaunchTemplateVersions(t.Context(), "lt-1", state.Page{After: "5"})
		return err
	},
	"replications": func(r state.Reader, t *testing.T) error {
		_, _, err := r.Replications(t.Context(), state.ReplicationFilter{}, page)
		return err
	},
	"replications by state": func(r state.Reader, t *testing.T) error {
		f := state.ReplicationFilter{States: []state.ReplicationState{state.Continuous}}
		_, _, err := r.Replications(t.Context(), f, page)
		return err
	},
}

var (
	scope = state.Scope{Account: "1", Service: state.DRS}
	page  = state.Page{After: "5.s-1"}
)
