package awsapi_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) drs(k control.AccessKey) *sdkdrs.Client {
	return sdkdrs.New(sdkdrs.Options{Region: region, BaseEndpoint: &i.server.URL, HTTPClient: conformance.Client(i.server.Client()), Credentials: static(k), RetryMaxAttempts: 1})
}

// Where nobody can launch, everything is checked first, and then the answer says plainly what is missing.
func TestRecoveryWithoutALaunchProvider(t *testing.T) {
	i, ctx := install(t), t.Context()
	c, sc := i.drs(i.admin), i.scope(state.DRS)
	id, early := i.add(t, sc, state.Continuous), i.add(t, sc, state.InitialSync)
	start := func(id string) error {
		_, err := c.StartRecovery(ctx, &sdkdrs.StartRecoveryInput{IsDrill: aws.Bool(true),
			SourceServers: []drstypes.StartRecoveryRequestSourceServer{{SourceServerID: &id}}})
		return err
	}
	for server, says := range map[string]string{unknownServer: "does not exist", early: "no recovery point", id: "no launch provider is configured"} {
		err := start(server)
		require.ErrorAs(t, err, new(*drstypes.ConflictException), "the model has no other error here")
		require.Contains(t, message(err), says)
	}
	known := drsInstance(func(v *state.RecoveryInstance) { v.Failback.State = state.FailbackReadyForLaunch })(t, i)
	machine := known["RecoveryInstanceID"].(string)
	_, err := c.TerminateRecoveryInstances(ctx, &sdkdrs.TerminateRecoveryInstancesInput{RecoveryInstanceIDs: []string{machine}})
	require.ErrorAs(t, err, new(*drstypes.ConflictException))
	_, err = c.StartFailbackLaunch(ctx, &sdkdrs.StartFailbackLaunchInput{RecoveryInstanceIDs: []string{machine}})
	require.ErrorAs(t, err, new(*drstypes.ValidationException))
	require.Contains(t, message(err), "no launch provider is configured")
	_, err = c.ReverseReplication(ctx, &sdkdrs.ReverseReplicationInput{RecoveryInstanceID: &machine})
	require.ErrorAs(t, err, new(*drstypes.ValidationException))

	jobs, err := c.DescribeJobs(ctx, &sdkdrs.DescribeJobsInput{})
	require.NoError(t, err)
	require.Empty(t, jobs.Items, "no job was made of what was refused")
	out, err := c.DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{id}}})
	require.NoError(t, err)
	require.Equal(t, drstypes.LastLaunchResultNotStarted, out.Items[0].LastLaunchResult)
}

func TestExtendedSourceServers(t *testing.T) {
	i, ctx := install(t), t.Context()
	stage, target := i.drs(i.stranger), i.drs(i.admin)
	id := i.add(t, state.Scope{Account: otherAccount, Service: state.DRS}, state.Continuous)
	theirs := "arn:aws:drs:" + region + ":" + otherAccount + ":source-server/" + id
	_, err := target.CreateExtendedSourceServer(ctx, &sdkdrs.CreateExtendedSourceServerInput{SourceServerArn: &theirs})
	require.ErrorAs(t, err, new(*drstypes.AccessDeniedException), "nobody allowed it")
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) error {
		return tx.PutRole(ctx, state.Role{Account: otherAccount, Name: extended.RolePrefix + account, Trust: []string{account}})
	}))
	_, err = target.CreateExtendedSourceServer(ctx, &sdkdrs.CreateExtendedSourceServerInput{
		SourceServerArn: aws.String("arn:aws:drs:eu-west-9:" + otherAccount + ":source-server/" + id)})
	require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException), "another region's")

	could, err := target.ListExtensibleSourceServers(ctx, &sdkdrs.ListExtensibleSourceServersInput{StagingAccountID: aws.String(otherAccount)})
	require.NoError(t, err)
	require.Equal(t, theirs, *could.Items[0].Arn)
	require.Equal(t, "web", *could.Items[0].Hostname)
	made, err := target.CreateExtendedSourceServer(ctx, &sdkdrs.CreateExtendedSourceServerInput{SourceServerArn: &theirs, Tags: map[string]string{"a": "b"}})
	require.NoError(t, err)
	v := made.SourceServer
	require.Equal(t, &drstypes.StagingArea{Status: drstypes.ExtensionStatusExtended, StagingAccountID: aws.String(otherAccount), StagingSourceServerArn: &theirs}, v.StagingArea)
	require.Equal(t, drstypes.DataReplicationStateContinuous, v.DataReplicationInfo.DataReplicationState)
	require.Equal(t, map[string]string{"a": "b"}, v.Tags)
	could, err = target.ListExtensibleSourceServers(ctx, &sdkdrs.ListExtensibleSourceServersInput{StagingAccountID: aws.String(otherAccount)})
	require.NoError(t, err)
	require.Empty(t, could.Items)
	staging, err := target.ListStagingAccounts(ctx, &sdkdrs.ListStagingAccountsInput{})
	require.NoError(t, err)
	require.Equal(t, []drstypes.Account{{AccountID: aws.String(otherAccount)}}, staging.Accounts)

	for staged, want := range map[string]int{otherAccount: 1, account: 0} {
		out, err := target.DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{
			Filters: &drstypes.DescribeSourceServersRequestFilters{StagingAccountIDs: []string{staged}}})
		require.NoError(t, err)
		require.Len(t, out.Items, want)
	}
	for range 3 { // of this account, before and after it
		i.add(t, i.scope(state.DRS), state.Continuous)
	}
	short, err := target.DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{MaxResults: aws.Int32(1),
		Filters: &drstypes.DescribeSourceServersRequestFilters{StagingAccountIDs: []string{otherAccount}}})
	require.NoError(t, err)
	require.Len(t, short.Items, 1)
	require.Nil(t, short.NextToken, "the filter is before the page")
	_, err = target.StopReplication(ctx, &sdkdrs.StopReplicationInput{SourceServerID: v.SourceServerID})
	require.ErrorAs(t, err, new(*drstypes.ConflictException))
	_, err = stage.StopReplication(ctx, &sdkdrs.StopReplicationInput{SourceServerID: v.SourceServerID})
	require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException), "the extension is not the staging account's")

	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteRole(ctx, otherAccount, extended.RolePrefix+account) }))
	out, err := target.DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{
		Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{*v.SourceServerID}}})
	require.NoError(t, err)
	require.Equal(t, drstypes.ExtensionStatusExtensionError, out.Items[0].StagingArea.Status)
	require.NotEmpty(t, *out.Items[0].StagingArea.ErrorMessage)
	_, err = target.DeleteSourceServer(ctx, &sdkdrs.DeleteSourceServerInput{SourceServerID: v.SourceServerID})
	require.NoError(t, err)
}

func TestSourceServersShowTheirNetworkAndTheirRecoveryInstance(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.drs(i.admin)
	network := drsNetwork(state.NetworkProtected)(t, i)["SourceNetworkID"].(string)
	known := drsInstance()(t, i)
	out, err := c.DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{
		Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{known["SourceServerID"].(string)}}})
	require.NoError(t, err)
	require.Equal(t, network, *out.Items[0].SourceNetworkID)
	require.Equal(t, known["RecoveryInstanceID"], *out.Items[0].RecoveryInstanceId)
	_, err = c.DisconnectSourceServer(ctx, &sdkdrs.DisconnectSourceServerInput{SourceServerID: out.Items[0].SourceServerID})
	require.ErrorAs(t, err, new(*drstypes.ConflictException), "while it has a recovery instance")
	require.Contains(t, message(err), known["RecoveryInstanceID"])

	exported, err := c.ExportSourceNetworkCfnTemplate(ctx, &sdkdrs.ExportSourceNetworkCfnTemplateInput{SourceNetworkID: &network})
	require.NoError(t, err)
	require.Equal(t, "s3://networks/source-networks/"+network+".json", *exported.S3DestinationUrl)
	_, err = c.StartSourceNetworkRecovery(ctx, &sdkdrs.StartSourceNetworkRecoveryInput{
		SourceNetworks: []drstypes.StartSourceNetworkRecoveryRequestNetworkEntry{{SourceNetworkID: &network}}})
	require.ErrorAs(t, err, new(*drstypes.ValidationException))
	require.Contains(t, message(err), "no network provider is configured")
	_, err = c.CreateSourceNetwork(ctx, &sdkdrs.CreateSourceNetworkInput{VpcID: aws.String("vpc-0123456789abcdef0"), OriginAccountID: aws.String(account), OriginRegion: aws.String(region)})
	require.NoError(t, err)
	_, err = c.CreateSourceNetwork(ctx, &sdkdrs.CreateSourceNetworkInput{VpcID: aws.String("vpc-0123456789abcdef0"), OriginAccountID: aws.String(account), OriginRegion: aws.String(region)})
	require.ErrorAs(t, err, new(*drstypes.ConflictException))
}

// The tag operations find every kind of resource that has tags.
func TestTagsOfEveryDRSResource(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.drs(i.admin)
	network := drsNetwork(state.NetworkStopped)(t, i)["SourceNetworkID"].(string)
	arns := []string{
		"job/" + drsJob(t, i)["JobID"].(string),
		"launch-configuration-template/" + i.drsLaunchTemplate(t, true)["LaunchConfigurationTemplateID"].(string),
		"recovery-instance/" + drsInstance()(t, i)["RecoveryInstanceID"].(string),
		"replication-configuration-template/" + i.drsTemplate(t, true)["ReplicationConfigurationTemplateID"].(string),
		"source-network/" + network,
		"source-server/" + i.add(t, i.scope(state.DRS), state.Continuous),
	}
	for _, resource := range arns {
		name := arn(state.DRS, resource)
		_, err := c.TagResource(ctx, &sdkdrs.TagResourceInput{ResourceArn: &name, Tags: map[string]string{"new": "tag", "k": "other"}})
		require.NoError(t, err, resource)
		_, err = c.UntagResource(ctx, &sdkdrs.UntagResourceInput{ResourceArn: &name, TagKeys: []string{"k"}})
		require.NoError(t, err, resource)
		got, err := c.ListTagsForResource(ctx, &sdkdrs.ListTagsForResourceInput{ResourceArn: &name})
		require.NoError(t, err, resource)
		require.Equal(t, map[string]string{"new": "tag"}, got.Tags, resource)
		foreign := "arn:aws:drs:" + region + ":" + otherAccount + ":" + resource
		_, err = c.ListTagsForResource(ctx, &sdkdrs.ListTagsForResourceInput{ResourceArn: &foreign})
		require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException), resource)
	}
}

func TestFailbackConfiguration(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.drs(i.admin)
	id := drsInstance()(t, i)["RecoveryInstanceID"].(string)
	_, err := c.UpdateFailbackReplicationConfiguration(ctx, &sdkdrs.UpdateFailbackReplicationConfigurationInput{RecoveryInstanceID: &id, BandwidthThrottling: 25})
	require.NoError(t, err)
	got, err := c.GetFailbackReplicationConfiguration(ctx, &sdkdrs.GetFailbackReplicationConfigurationInput{RecoveryInstanceID: &id})
	require.NoError(t, err)
	require.EqualValues(t, 25, got.BandwidthThrottling)
	require.Equal(t, failback.DefaultConfig().Name, *got.Name)
	require.False(t, *got.UsePrivateIP)
	_, err = c.StopFailback(ctx, &sdkdrs.StopFailbackInput{RecoveryInstanceID: &id})
	require.NoError(t, err, "there being nothing to stop is no error")
	_, err = c.DeleteRecoveryInstance(ctx, &sdkdrs.DeleteRecoveryInstanceInput{RecoveryInstanceID: &id})
	require.ErrorAs(t, err, new(*drstypes.ConflictException))
	_, err = c.DisconnectRecoveryInstance(ctx, &sdkdrs.DisconnectRecoveryInstanceInput{RecoveryInstanceID: &id})
	require.NoError(t, err)
	_, err = c.DeleteRecoveryInstance(ctx, &sdkdrs.DeleteRecoveryInstanceInput{RecoveryInstanceID: &id})
	require.NoError(t, err)
	_, err = c.DeleteRecoveryInstance(ctx, &sdkdrs.DeleteRecoveryInstanceInput{RecoveryInstanceID: &id})
	require.ErrorAs(t, err, new(*drstypes.ConflictException), "the model has no not-found error here")
}

// StartReplication answers with the server as it is from that moment on: initiating, nothing of it begun.
func TestStartReplicationToTheLetter(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.drs(i.admin)
	id := i.add(t, i.scope(state.DRS), state.Stopped)
	before := time.Now().UTC().Truncate(time.Microsecond)
	out, err := c.StartReplication(ctx, &sdkdrs.StartReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	v := out.SourceServer
	require.Equal(t, drstypes.DataReplicationStateInitiating, v.DataReplicationInfo.DataReplicationState)
	require.Nil(t, v.DataReplicationInfo.DataReplicationError)
	require.Nil(t, v.DataReplicationInfo.LagDuration, "not launchable yet")
	require.Nil(t, v.DataReplicationInfo.EtaDateTime)
	initiation := v.DataReplicationInfo.DataReplicationInitiation
	require.Len(t, initiation.Steps, 11)
	for n, s := range initiation.Steps {
		require.Equal(t, string(state.StepNames[n]), string(s.Name))
		require.Equal(t, drstypes.DataReplicationInitiationStepStatusNotStarted, s.Status)
	}
	started, err := time.Parse(time.RFC3339Nano, *initiation.StartDateTime)
	require.NoError(t, err)
	require.False(t, started.Before(before))
	next, err := time.Parse(time.RFC3339Nano, *initiation.NextAttemptDateTime)
	require.NoError(t, err)
	require.Zero(t, next.Second()+next.Nanosecond(), "a whole minute")
	require.GreaterOrEqual(t, next.Sub(started), 30*time.Minute)
	require.Less(t, next.Sub(started), 31*time.Minute)
	require.Len(t, v.DataReplicationInfo.ReplicatedDisks, 1)
	require.Equal(t, drstypes.LastLaunchResultNotStarted, v.LastLaunchResult)
	require.Equal(t, &drstypes.LifeCycleLastLaunch{Initiated: &drstypes.LifeCycleLastLaunchInitiated{}}, v.LifeCycle.LastLaunch)
	require.Equal(t, drstypes.ExtensionStatusNotExtended, v.StagingArea.Status)
	require.Equal(t, account, *v.StagingArea.StagingAccountID)
	require.Equal(t, drstypes.ReplicationDirectionFailover, v.ReplicationDirection)

	for _, in := range state.ReplicationStates {
		if in == state.Stopped || in == state.Paused { // DRS has no PAUSED
			continue
		}
		id := i.add(t, i.scope(state.DRS), in)
		_, err = c.StartReplication(ctx, &sdkdrs.StartReplicationInput{SourceServerID: &id})
		refused, ok := errors.AsType[*drstypes.ConflictException](err)
		require.True(t, ok, "%s: %v", in, err)
		require.Equal(t, id, *refused.ResourceId)
		require.Contains(t, *refused.Message, string(in))
	}
	_, err = c.StartReplication(ctx, &sdkdrs.StartReplicationInput{SourceServerID: aws.String(unknownServer)})
	require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException))
}

// RetryDataReplication waits for the agent's next handshake, so its answer still shows the stall.
func TestRetryDataReplicationToTheLetter(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.drs(i.admin)
	for _, in := range state.ReplicationStates {
		if in == state.Paused {
			continue
		}
		id := i.add(t, i.scope(state.DRS), in)
		//nolint:staticcheck // deprecated by its service, still in the API
		v, err := c.RetryDataReplication(ctx, &sdkdrs.RetryDataReplicationInput{SourceServerID: &id})
		if in != state.Stalled {
			require.ErrorAs(t, err, new(*drstypes.ValidationException), "%s", in)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, drstypes.DataReplicationStateStalled, v.DataReplicationInfo.DataReplicationState)
		require.Equal(t, &drstypes.DataReplicationError{Error: drstypes.DataReplicationErrorStringAgentNotSeen, RawError: aws.String("silent")},
			v.DataReplicationInfo.DataReplicationError)
		told, err := i.engine.Handshake(ctx, i.scope(state.DRS), id, replication.Report{})
		require.NoError(t, err)
		require.Equal(t, state.IntentRun, told.Desired)
	}
}
