package awsapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) drsDomain() drsapi.Domain {
	elsewhere := extended.New(i.store, i.servers)
	return onlyDRS(i.store, drsapi.Domain{Servers: elsewhere.Servers(i.servers), Replication: elsewhere.Replication(i.engine),
		Points: elsewhere.Points(i.points), Templates: i.templates, Accounts: i.accounts, Region: region})
}

// onlyDRS adds what only DRS has over a store.
func onlyDRS(store state.Store, d drsapi.Domain) drsapi.Domain {
	all, elsewhere := jobs.New(store, nil), extended.New(store, servers.New(store))
	d.Jobs, d.Extensions, d.Networks = all, elsewhere, networks.New(store, all, shelf{})
	d.Recoveries = recovery.New(store, all, elsewhere, nil)
	d.Failbacks = failback.New(recovery.Keeper(store), all, nil)
	d.LaunchTemplates, d.LaunchConfigs, d.LaunchActions =
		launchconfig.NewDRSTemplates(store), launchconfig.NewDRSServers(store), launchconfig.NewDRSActions(store)
	return d
}

// shelf takes what is put into buckets.
type shelf struct{}

func (shelf) Put(context.Context, buckets.Object, []byte) error { return nil }

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

// drsNetwork makes a source network that is in the given status.
func drsNetwork(status state.NetworkStatus) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		ctx, sc, keep := t.Context(), i.scope(state.DRS), networks.New(i.store, jobs.New(i.store, nil), shelf{})
		i.made++
		v, err := keep.Create(ctx, sc, fmt.Sprintf("vpc-%08x", i.made), account, region, map[string]string{"k": "v"})
		require.NoError(t, err)
		if status != state.NetworkStopped {
			i.add(t, sc, state.Continuous)
			_, err = keep.Start(ctx, sc, v.ID)
			require.NoError(t, err)
			_, _, err = keep.List(ctx, sc, state.SourceNetworkFilter{IDs: []string{v.ID}}, state.Page{})
			require.NoError(t, err)
		}
		known := i.drsLaunchTemplate(t, true)
		known["SourceNetworkID"] = v.ID
		return known
	}
}

// drsStaged makes a server in another account that this one may extend.
func drsStaged(t *testing.T, i *installation) conformance.Known {
	ctx, stage := t.Context(), state.Scope{Account: otherAccount, Service: state.DRS}
	id := i.add(t, stage, state.Continuous)
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) error {
		return tx.PutRole(ctx, state.Role{Account: otherAccount, Name: extended.RolePrefix + account, Trust: []string{account}})
	}))
	return conformance.Known{"SourceServerARN": "arn:aws:drs:" + region + ":" + otherAccount + ":source-server/" + id, "stagingAccountID": otherAccount}
}

// drsExtended extends one.
func drsExtended(t *testing.T, i *installation) conformance.Known {
	known := drsStaged(t, i)
	id := known["SourceServerARN"].(string)
	v, err := extended.New(i.store, i.servers).Extend(t.Context(), i.scope(state.DRS), otherAccount, id[len(id)-19:], nil)
	require.NoError(t, err)
	known["SourceServerID"], known["StagingSourceServerARN"] = v.ID, id
	known["stagingAccountIDs"] = []any{otherAccount}
	return known
}

// drsInstance makes a recovery instance.
func drsInstance(change ...func(*state.RecoveryInstance)) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		ctx, sc, now := t.Context(), i.scope(state.DRS), time.Now().UTC()
		i.made++
		server := i.add(t, sc, state.Continuous)
		v := state.RecoveryInstance{ID: fmt.Sprintf("i-%017x", i.made), Scope: sc, ServerID: server, JobID: "drsjob-00000000000000001", CreatedAt: now,
			Tags: map[string]string{"k": "v"}, State: state.RIRunning, PointAt: now, AgentVersion: "1.0.0", AgentLastSeenAt: now, Failback: failback.Fresh(false),
			Properties: state.SourceProperties{UpdatedAt: now, OS: "Linux", RAMBytes: 1 << 30, Hints: state.Hints{Hostname: "web"}},
			Disks:      []state.RecoveryDisk{{DeviceName: "/dev/vda", Bytes: 1 << 30, VolumeID: "vol-01234567"}}}
		for _, fn := range change {
			fn(&v)
		}
		require.NoError(t, i.store.Update(ctx, func(tx state.Tx) error { return tx.PutRecoveryInstance(ctx, v) }))
		return conformance.Known{"RecoveryInstanceID": v.ID, "SourceServerID": server}
	}
}

func disconnected(v *state.RecoveryInstance) {
	v.Disconnected, v.Failback.Replication = true, state.Disconnected
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
	"CreateExtendedSourceServer":             drsStaged,
	"ListExtensibleSourceServers":            drsStaged,
	"ListStagingAccounts":                    drsExtended,
	"DescribeSourceServers":                  drsExtended,
	"AssociateSourceNetworkStack":            drsNetwork(state.NetworkProtected),
	"DeleteSourceNetwork":                    drsNetwork(state.NetworkStopped),
	"DescribeSourceNetworks":                 drsNetwork(state.NetworkProtected),
	"ExportSourceNetworkCfnTemplate":         drsNetwork(state.NetworkProtected),
	"StartSourceNetworkRecovery":             drsNetwork(state.NetworkProtected),
	"StartSourceNetworkReplication":          drsNetwork(state.NetworkStopped),
	"StopSourceNetworkReplication":           drsNetwork(state.NetworkProtected),
	"DeleteRecoveryInstance":                 drsInstance(disconnected),
	"DescribeRecoveryInstances":              drsInstance(),
	"DisconnectRecoveryInstance":             drsInstance(),
	"GetFailbackReplicationConfiguration":    drsInstance(),
	"UpdateFailbackReplicationConfiguration": drsInstance(),
	"StopFailback":                           drsInstance(func(v *state.RecoveryInstance) { v.Failback.State = state.FailbackInProgress }),
	"StartFailbackLaunch":                    drsInstance(func(v *state.RecoveryInstance) { v.Failback.State = state.FailbackReadyForLaunch }),
	"TerminateRecoveryInstances":             drsInstance(),
	"ReverseReplication":                     drsInstance(func(v *state.RecoveryInstance) { v.OriginAWS, v.Failback = true, failback.Fresh(true) }),
	"StartReplication":                       drsServerIn(state.Stopped),
	"RetryDataReplication":                   drsServerIn(state.Stalled),
	"DeleteSourceServer":                     drsServerIn(state.Disconnected),
}

const (
	noLauncher = "no launch provider is configured in this test"
	noNetworks = "nothing here deploys networks"
)

var drsRefused = map[string]string{
	"ReverseReplication":         "nothing here receives data in AWS",
	"StartFailbackLaunch":        noLauncher,
	"StartRecovery":              noLauncher,
	"StartSourceNetworkRecovery": noNetworks,
	"TerminateRecoveryInstances": noLauncher,
}

var drsAbsent = []string{}
