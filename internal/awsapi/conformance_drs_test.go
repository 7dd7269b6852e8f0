package awsapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) drsDomain() drsapi.Domain {
	return onlyDRS(i.store, drsapi.Domain{Servers: i.servers, Replication: i.engine, Templates: i.templates, Points: i.points,
		Accounts: i.accounts, Region: region})
}

// onlyDRS adds what only DRS has over a store.
func onlyDRS(store state.Store, d drsapi.Domain) drsapi.Domain {
	d.Jobs = jobs.New(store, nil)
	d.LaunchTemplates, d.LaunchConfigs, d.LaunchActions =
		launchconfig.NewDRSTemplates(store), launchconfig.NewDRSServers(store), launchconfig.NewDRSActions(store)
	return d
}

// drsPITPolicy is the only shape of policy that DRS takes.
func drsPITPolicy() []any {
	rule := func(id int64, units string, interval, retention int64) any {
		return map[string]any{"ruleID": id, "units": units, "interval": interval, "retentionDuration": retention, "enabled": true}
	}
	return []any{rule(1, "MINUTE", 10, 60), rule(2, "HOUR", 1, 24), rule(3, "DAY", 1, 7)}
}

func drsGeneral(t *testing.T, i *installation) conformance.Known {
	id := i.add(t, i.scope(state.DRS), state.Continuous)
	return conformance.Known{
		"SourceServerID":        id,
		"resourceArn":           arn(state.DRS, "source-server/"+id),
		"AccountID":             account,
		"deviceName":            "/dev/vda",
		"PITPolicy":             drsPITPolicy(),
		"nextToken":             "", // every list begins at its beginning
		"ISO8601DatetimeString": "2026-11-22T10:00:00Z",
	}
}

func (i *installation) drsTemplate(t *testing.T, exists bool) conformance.Known {
	sc := i.scope(state.DRS)
	list, _, err := i.templates.List(t.Context(), sc, nil, state.Page{})
	require.NoError(t, err)
	for _, v := range list {
		require.NoError(t, i.templates.Delete(t.Context(), sc, v.ID))
	}
	if !exists {
		return nil
	}
	v, err := i.templates.Create(t.Context(), sc, control.ConfigPatch{StagingAreaSubnetID: new(templates.NoSubnet),
		PITPolicy: new(templates.DefaultPITPolicy())}, nil)
	require.NoError(t, err)
	return conformance.Known{"ReplicationConfigurationTemplateID": v.ID}
}

// drsLaunchTemplate makes the account's launch configuration template anew, or removes it.
func (i *installation) drsLaunchTemplate(t *testing.T, exists bool) conformance.Known {
	sc, keep := i.scope(state.DRS), launchconfig.NewDRSTemplates(i.store)
	list, _, err := keep.List(t.Context(), sc, nil, state.Page{})
	require.NoError(t, err)
	for _, v := range list {
		require.NoError(t, keep.Delete(t.Context(), sc, v.ID))
	}
	known := conformance.Known{"exportBucketArn": "arn:aws:s3:::networks"}
	if exists {
		v, err := keep.Create(t.Context(), sc, launchconfig.DRSPatch{ExportBucketARN: new("arn:aws:s3:::networks")}, nil)
		require.NoError(t, err)
		known["LaunchConfigurationTemplateID"] = v.ID
	}
	return known
}

const actionID = "01234567-89ab-cdef-0123-456789abcdef"

// drsAction puts an action on a server.
func drsAction(t *testing.T, i *installation) conformance.Known {
	id := i.add(t, i.scope(state.DRS), state.Continuous)
	_, err := launchconfig.NewDRSActions(i.store).Put(t.Context(), i.scope(state.DRS), state.DRSLaunchAction{
		Resource: id, ID: actionID, Code: "AWS-RunShellScript", Version: "$DEFAULT", Name: "n", Category: "OTHER", Order: 2})
	require.NoError(t, err)
	return conformance.Known{"LaunchActionResourceId": id, "LaunchActionId": actionID}
}

// drsJob makes a job and completes it.
func drsJob(t *testing.T, i *installation) conformance.Known {
	ctx, sc, keep := t.Context(), i.scope(state.DRS), jobs.New(i.store, nil)
	id := i.add(t, sc, state.Continuous)
	var j state.Job
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) (err error) {
		j, err = keep.Create(ctx, tx, sc, jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByStartDrill,
			Participants: []state.Participant{{ServerID: id}}, Tags: map[string]string{"k": "v"}})
		return err
	}))
	require.NoError(t, keep.Begin(ctx, sc, j.ID))
	require.NoError(t, keep.Move(ctx, sc, j.ID, id, jobs.Fail, nil, nil, state.JobEvent{Event: state.LaunchFail, ServerID: id, RawError: "no power"}))
	require.NoError(t, keep.Finish(ctx, sc, j.ID))
	return conformance.Known{"JobID": j.ID}
}

func drsServerIn(in state.ReplicationState) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		return conformance.Known{"SourceServerID": i.add(t, i.scope(state.DRS), in)}
	}
}

var drsFixtures = map[string]fixture{
	"CreateReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, false) },
	"DeleteReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, true) },
	"UpdateReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, true) },
	"CreateLaunchConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.drsLaunchTemplate(t, false) },
	"DeleteLaunchConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.drsLaunchTemplate(t, true) },
	"DescribeLaunchConfigurationTemplates":   func(t *testing.T, i *installation) conformance.Known { return i.drsLaunchTemplate(t, true) },
	"UpdateLaunchConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.drsLaunchTemplate(t, true) },
	"PutLaunchAction":                        drsAction,
	"ListLaunchActions":                      drsAction,
	"DeleteLaunchAction":                     drsAction,
	"DeleteJob":                              drsJob,
	"DescribeJobs":                           drsJob,
	"DescribeJobLogItems":                    drsJob,
	"StartReplication":                       drsServerIn(state.Stopped),
	"RetryDataReplication":                   drsServerIn(state.Stalled),
	"DeleteSourceServer":                     drsServerIn(state.Disconnected),
}

var drsRefused = map[string]string{}

var drsAbsent = []string{
	"AssociateSourceNetworkStack",
	"CreateExtendedSourceServer",
	"CreateSourceNetwork",
	"DeleteRecoveryInstance",
	"DeleteSourceNetwork",
	"DescribeRecoveryInstances",
	"DescribeSourceNetworks",
	"DisconnectRecoveryInstance",
	"ExportSourceNetworkCfnTemplate",
	"GetFailbackReplicationConfiguration",
	"ListExtensibleSourceServers",
	"ListStagingAccounts",
	"ReverseReplication",
	"StartFailbackLaunch",
	"StartRecovery",
	"StartSourceNetworkRecovery",
	"StartSourceNetworkReplication",
	"StopFailback",
	"StopSourceNetworkReplication",
	"TerminateRecoveryInstances",
	"UpdateFailbackReplicationConfiguration",
}
