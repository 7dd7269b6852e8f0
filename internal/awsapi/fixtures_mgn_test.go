package awsapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// name is one that nothing of this installation has.
func (i *installation) name() string {
	i.made++
	return fmt.Sprint("thing-", i.made)
}

// mgnApplication makes an application, with a server in it where one is asked for.
func mgnApplication(with ...func(*state.Server)) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		sc, keep := i.scope(state.MGN), inventory.NewApplications(i.store, nil)
		v, err := keep.Create(t.Context(), sc, i.name(), "", nil)
		require.NoError(t, err)
		known := conformance.Known{"ApplicationID": v.ID, "ApplicationName": i.name(), "WaveID": mgnWave(t, i)["WaveID"]}
		for _, change := range with {
			id := i.add(t, sc, state.Disconnected, change)
			require.NoError(t, keep.Associate(t.Context(), sc, v.ID, []string{id}))
			known["SourceServerID"] = id
		}
		return known
	}
}

func mgnWave(t *testing.T, i *installation) conformance.Known {
	v, err := inventory.NewWaves(i.store, nil).Create(t.Context(), i.scope(state.MGN), i.name(), "", nil)
	require.NoError(t, err)
	return conformance.Known{"WaveID": v.ID, "WaveName": i.name()}
}

// mgnWaveOf makes a wave and an application, in it or not.
func mgnWaveOf(associated bool) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		known := mgnApplication()(t, i)
		if associated {
			require.NoError(t, inventory.NewWaves(i.store, nil).Associate(t.Context(), i.scope(state.MGN),
				known["WaveID"].(string), []string{known["ApplicationID"].(string)}))
		}
		return known
	}
}

func mgnConnector(t *testing.T, i *installation) conformance.Known {
	v, err := inventory.NewConnectors(i.store).Create(t.Context(), i.scope(state.MGN), "c", "i-0123456789abcdef0", nil, nil)
	require.NoError(t, err)
	return conformance.Known{"ConnectorID": v.ID, "connectorArn": arn(state.MGN, "connector/"+v.ID), "SsmInstanceID": "i-0123456789abcdef0",
		"credentialsSecretArn": "arn:aws:secretsmanager:us-east-1:000000000001:secret:s"}
}

func mgnVcenterClient(t *testing.T, i *installation) conformance.Known {
	v := state.VcenterClient{ID: control.NewID("vcc-"), Scope: i.scope(state.MGN), Hostname: "vcenter.test", LastSeenAt: time.Now().UTC(),
		Tags: map[string]string{}, ServerTags: map[string]string{}, CreatedAt: time.Now().UTC()}
	require.NoError(t, i.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutVcenterClient(t.Context(), v) }))
	return conformance.Known{"VcenterClientID": v.ID}
}

// mgnShippable is a stopped server that a vCenter client has found, so that its replication type may change.
func mgnShippable(t *testing.T, i *installation) conformance.Known {
	return conformance.Known{"SourceServerID": i.add(t, i.scope(state.MGN), state.Stopped, func(v *state.Server) {
		v.LifeCycle.State, v.Migration.VcenterClientID = state.LifeCycleStopped, "vcc-00000000000000000"
	})}
}

// mgnLaunchTemplate makes a launch configuration template with an action, and knows members that depend on each other.
func mgnLaunchTemplate(t *testing.T, i *installation) conformance.Known {
	v, err := launchconfig.NewMGNTemplates(i.store).Create(t.Context(), i.scope(state.MGN), launchconfig.MGNPatch{}, nil)
	require.NoError(t, err)
	return conformance.Known{"LaunchConfigurationTemplateID": v.ID, "volumeType": "gp3", "ActionID": i.action(t, v.ID),
		"externalParameters": map[string]any{"other": map[string]any{"dynamicPath": "sourceServerID"}}}
}

func (i *installation) action(t *testing.T, owner string) string {
	i.made++
	a, err := launchconfig.NewMGNActions(i.store).Put(t.Context(), i.scope(state.MGN), state.PostLaunchAction{
		Owner: owner, ID: i.name(), Order: 5000, Name: "n", Document: "AWS-RunShellScript"})
	require.NoError(t, err)
	return a.ID
}

func mgnServerAction(t *testing.T, i *installation) conformance.Known {
	id := i.add(t, i.scope(state.MGN), state.Continuous)
	return conformance.Known{"SourceServerID": id, "ActionID": i.action(t, id)}
}

// mgnNetwork makes a network migration definition and knows its execution.
func mgnNetwork(t *testing.T, i *installation) conformance.Known {
	sc, keep := i.scope(state.MGN), networkmigration.New(i.store)
	v, err := keep.Create(t.Context(), sc, networkmigration.Patch{Name: new("n"), Topology: new("ISOLATED_VPC"), TargetBucket: new("b"), TargetOwner: new(account)}, nil)
	require.NoError(t, err)
	runs, _, err := keep.Executions(t.Context(), sc, v.ID, state.ExecutionFilter{}, state.Page{})
	require.NoError(t, err)
	return conformance.Known{"NetworkMigrationDefinitionID": v.ID, "NetworkMigrationExecutionID": runs[0].ID,
		"sourceConfigurations": []any{map[string]any{"sourceEnvironment": "NSX", "sourceS3Configuration": map[string]any{
			"s3Bucket": "b", "s3BucketOwner": account, "s3Key": "k"}}}}
}

// mgnJob makes a job that is over, with everything that one can tell.
func mgnJob(t *testing.T, i *installation) conformance.Known {
	ctx, sc, keep := t.Context(), i.scope(state.MGN), jobs.New(i.store, nil)
	var j state.Job
	id := i.add(t, sc, state.Continuous)
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) (err error) {
		j, err = keep.Create(ctx, tx, sc, jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByStartTest, Participants: []state.Participant{{ServerID: id}},
			Tags: map[string]string{"k": "v"}})
		return err
	}))
	require.NoError(t, keep.Begin(ctx, sc, j.ID))
	require.NoError(t, keep.Move(ctx, sc, j.ID, id, jobs.Proceed, nil, nil, state.JobEvent{Event: state.SnapshotStart, ServerID: id}))
	require.NoError(t, keep.Move(ctx, sc, j.ID, id, jobs.Succeed, func(p *state.Participant) {
		p.InstanceID, p.ActionsReadyAt = "i-0123456789abcdef0", time.Now().UTC()
		p.Runs = []state.ActionRun{{Document: state.SSMDocument{ActionName: "a", Document: "AWS-RunShellScript", MustSucceed: true, Timeout: 60},
			DocumentType: "COMMAND", ExecutionID: "e", Status: "SUCCESS"}}
	}, nil, state.JobEvent{Event: state.ConversionEnd, ServerID: id, ConversionServerID: "i-0123456789abcdef1", TargetInstanceID: "i-0123456789abcdef0",
		RawError: "none", Attempt: 1, MaxAttempts: 3}))
	require.NoError(t, keep.Finish(ctx, sc, j.ID))
	return conformance.Known{"JobID": j.ID, "ISO8601DatetimeString": "2026-11-22T10:00:00Z"}
}

func mgnBucket(*testing.T, *installation) conformance.Known {
	return conformance.Known{"S3BucketName": "inventory", "S3Key": "a.csv", "ClientIdempotencyToken": "", "AccountID": account}
}

// mgnTransfers makes an import and an export, each with an error that tells everything.
func mgnTransfers(t *testing.T, i *installation) conformance.Known {
	known, now := mgnBucket(t, i), time.Now().UTC()
	for kind, member := range map[state.TransferKind]string{state.Import: "ImportID", state.Export: "ExportID"} {
		x := state.Transfer{ID: control.NewID(string(kind) + "-"), Scope: i.scope(state.MGN), Kind: kind, Bucket: "inventory", Key: "a.csv", BucketOwner: account,
			Status: state.TransferFailed, CreatedAt: now, EndedAt: now, Tags: map[string]string{"k": "v"}}
		known[member] = x.ID
		require.NoError(t, i.store.Update(t.Context(), func(tx state.Tx) error {
			require.NoError(t, tx.PutTransfer(t.Context(), x))
			return tx.AddTransferErrors(t.Context(), x.ID, []state.TransferError{{At: now, Validation: true, Row: 2, RawError: "why", AccountID: account,
				ServerID: "s-00000000000000000", ApplicationID: "app-00000000000000000", WaveID: "wave-00000000000000000"}})
		}))
	}
	return known
}
