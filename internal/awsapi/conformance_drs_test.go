package awsapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) drsDomain() drsapi.Domain {
	return drsapi.Domain{Servers: i.servers, Replication: i.engine, Templates: i.templates, Points: i.points, Accounts: i.accounts, Region: region}
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

func drsServerIn(in state.ReplicationState) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		return conformance.Known{"SourceServerID": i.add(t, i.scope(state.DRS), in)}
	}
}

var drsFixtures = map[string]fixture{
	"CreateReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, false) },
	"DeleteReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, true) },
	"UpdateReplicationConfigurationTemplate": func(t *testing.T, i *installation) conformance.Known { return i.drsTemplate(t, true) },
	"StartReplication":                       drsServerIn(state.Stopped),
	"RetryDataReplication":                   drsServerIn(state.Stalled),
	"DeleteSourceServer":                     drsServerIn(state.Disconnected),
}

var drsRefused = map[string]string{}

var drsAbsent = []string{
	"AssociateSourceNetworkStack",
	"CreateExtendedSourceServer",
	"CreateLaunchConfigurationTemplate",
	"CreateSourceNetwork",
	"DeleteJob",
	"DeleteLaunchAction",
	"DeleteLaunchConfigurationTemplate",
	"DeleteRecoveryInstance",
	"DeleteSourceNetwork",
	"DescribeJobLogItems",
	"DescribeJobs",
	"DescribeLaunchConfigurationTemplates",
	"DescribeRecoveryInstances",
	"DescribeSourceNetworks",
	"DisconnectRecoveryInstance",
	"ExportSourceNetworkCfnTemplate",
	"GetFailbackReplicationConfiguration",
	"GetLaunchConfiguration",
	"ListExtensibleSourceServers",
	"ListLaunchActions",
	"ListStagingAccounts",
	"PutLaunchAction",
	"ReverseReplication",
	"StartFailbackLaunch",
	"StartRecovery",
	"StartSourceNetworkRecovery",
	"StartSourceNetworkReplication",
	"StopFailback",
	"StopSourceNetworkReplication",
	"TerminateRecoveryInstances",
	"UpdateFailbackReplicationConfiguration",
	"UpdateLaunchConfiguration",
	"UpdateLaunchConfigurationTemplate",
}
