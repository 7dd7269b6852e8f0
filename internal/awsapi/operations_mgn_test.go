package awsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkmgn "github.com/aws/aws-sdk-go-v2/service/mgn"
	mgntypes "github.com/aws/aws-sdk-go-v2/service/mgn/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) mgn(k control.AccessKey) *sdkmgn.Client {
	return sdkmgn.New(sdkmgn.Options{Region: region, BaseEndpoint: &i.server.URL, HTTPClient: conformance.Client(i.server.Client()), Credentials: static(k), RetryMaxAttempts: 1})
}

// members asks by hand and returns the members of the answer, as clients other than the SDK see them.
func (i *installation) members(t *testing.T, operation string, values map[string]any) map[string]any {
	t.Helper()
	for _, ep := range mgn.New(mgn.Unavailable{}).Endpoints {
		if ep.Name != operation {
			continue
		}
		a := i.send(t, "mgn", ep.Operation, conformance.Case{Values: values})
		require.Less(t, a.Status, 300, a.Body)
		out := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(a.Body), &out))
		return out
	}
	require.Fail(t, "no such operation", operation)
	return nil
}

// The walk of a migration: applications and waves, their states, and what is refused on the way.
func TestApplicationsAndWaves(t *testing.T) {
	i, ctx := install(t), t.Context()
	c, sc := i.mgn(i.admin), i.scope(state.MGN)
	healthy, stalled := i.add(t, sc, state.Continuous), i.add(t, sc, state.Stalled)

	app, err := c.CreateApplication(ctx, &sdkmgn.CreateApplicationInput{Name: aws.String("shop"), Tags: map[string]string{"k": "v"}})
	require.NoError(t, err)
	require.Equal(t, arn(state.MGN, "application/"+*app.ApplicationID), *app.Arn)
	require.Nil(t, app.Description)
	require.Equal(t, mgntypes.ApplicationProgressStatusNotStarted, app.ApplicationAggregatedStatus.ProgressStatus)
	_, err = c.CreateApplication(ctx, &sdkmgn.CreateApplicationInput{Name: aws.String("shop")})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	other, err := c.CreateApplication(ctx, &sdkmgn.CreateApplicationInput{Name: aws.String("other"), AccountID: aws.String(account)})
	require.NoError(t, err)

	_, err = c.AssociateSourceServers(ctx, &sdkmgn.AssociateSourceServersInput{ApplicationID: app.ApplicationID, SourceServerIDs: []string{unknownServer}})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
	_, err = c.AssociateSourceServers(ctx, &sdkmgn.AssociateSourceServersInput{ApplicationID: app.ApplicationID, SourceServerIDs: []string{healthy, stalled}})
	require.NoError(t, err)
	_, err = c.AssociateSourceServers(ctx, &sdkmgn.AssociateSourceServersInput{ApplicationID: other.ApplicationID, SourceServerIDs: []string{healthy, stalled}})
	conflict, ok := errors.AsType[*mgntypes.ConflictException](err)
	require.True(t, ok, "%v", err)
	require.Len(t, conflict.Errors, 2, "each server's part in it")
	require.Equal(t, healthy, *conflict.Errors[0].ResourceId)
	require.Contains(t, *conflict.Errors[0].Message, *app.ApplicationID)

	servers, err := c.DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{Filters: &mgntypes.DescribeSourceServersRequestFilters{ApplicationIDs: []string{*app.ApplicationID}}})
	require.NoError(t, err)
	require.Len(t, servers.Items, 2)
	require.Equal(t, app.ApplicationID, servers.Items[0].ApplicationID)

	wave, err := c.CreateWave(ctx, &sdkmgn.CreateWaveInput{Name: aws.String("first"), Description: aws.String("of two")})
	require.NoError(t, err)
	_, err = c.AssociateApplications(ctx, &sdkmgn.AssociateApplicationsInput{WaveID: wave.WaveID, ApplicationIDs: []string{*app.ApplicationID}})
	require.NoError(t, err)
	waves, err := c.ListWaves(ctx, &sdkmgn.ListWavesInput{Filters: &mgntypes.ListWavesRequestFilters{WaveIDs: []string{*wave.WaveID}}})
	require.NoError(t, err)
	status := waves.Items[0].WaveAggregatedStatus
	require.Equal(t, []any{mgntypes.WaveHealthStatusError, mgntypes.WaveProgressStatusInProgress, int64(1)},
		[]any{status.HealthStatus, status.ProgressStatus, status.TotalApplications}, "one of its servers is stalled")
	require.NotEmpty(t, *status.ReplicationStartedDateTime)
	apps, err := c.ListApplications(ctx, &sdkmgn.ListApplicationsInput{Filters: &mgntypes.ListApplicationsRequestFilters{WaveIDs: []string{*wave.WaveID}}})
	require.NoError(t, err)
	require.Len(t, apps.Items, 1)
	require.Equal(t, wave.WaveID, apps.Items[0].WaveID)

	for _, call := range []func() error{
		func() error {
			_, err := c.DeleteApplication(ctx, &sdkmgn.DeleteApplicationInput{ApplicationID: app.ApplicationID})
			return err
		},
		func() error {
			_, err := c.ArchiveApplication(ctx, &sdkmgn.ArchiveApplicationInput{ApplicationID: app.ApplicationID})
			return err
		},
		func() error {
			_, err := c.ArchiveWave(ctx, &sdkmgn.ArchiveWaveInput{WaveID: wave.WaveID})
			return err
		},
		func() error {
			_, err := c.DeleteWave(ctx, &sdkmgn.DeleteWaveInput{WaveID: wave.WaveID})
			return err
		},
	} {
		require.ErrorAs(t, call(), new(*mgntypes.ConflictException))
	}
	for _, id := range []string{healthy, stalled} {
		_, err = c.DisconnectFromService(ctx, &sdkmgn.DisconnectFromServiceInput{SourceServerID: &id})
		require.NoError(t, err)
	}
	archived, err := c.ArchiveApplication(ctx, &sdkmgn.ArchiveApplicationInput{ApplicationID: app.ApplicationID})
	require.NoError(t, err)
	require.True(t, *archived.IsArchived)
	require.Empty(t, archived.ApplicationAggregatedStatus.HealthStatus)
	_, err = c.UnarchiveApplication(ctx, &sdkmgn.UnarchiveApplicationInput{ApplicationID: app.ApplicationID})
	require.NoError(t, err)

	_, err = i.mgn(i.stranger).UpdateApplication(ctx, &sdkmgn.UpdateApplicationInput{ApplicationID: app.ApplicationID, Name: aws.String("mine")})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException), "another account's")
	_, err = i.mgn(i.stranger).ListApplications(ctx, &sdkmgn.ListApplicationsInput{AccountID: aws.String(account)})
	require.Equal(t, "AccessDeniedException", code(err))
	require.NotContains(t, i.members(t, "ListWaves", nil), "nextToken", "absent members are left out")
}

// A token is of the list that it was given for.
func TestMGNPages(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	for n := range 5 {
		_, err := c.CreateApplication(ctx, &sdkmgn.CreateApplicationInput{Name: aws.String(fmt.Sprint("app ", n))})
		require.NoError(t, err)
	}
	var names []string
	in := &sdkmgn.ListApplicationsInput{MaxResults: aws.Int32(2)}
	pages := sdkmgn.NewListApplicationsPaginator(c, in)
	var token *string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		for _, a := range page.Items {
			names = append(names, *a.Name)
		}
		if page.NextToken != nil {
			token = page.NextToken
		}
	}
	require.Equal(t, []string{"app 0", "app 1", "app 2", "app 3", "app 4"}, names)
	_, err := c.ListApplications(ctx, &sdkmgn.ListApplicationsInput{NextToken: token, Filters: &mgntypes.ListApplicationsRequestFilters{IsArchived: aws.Bool(true)}})
	require.Equal(t, "ValidationException", code(err), "other filters are another list")
	_, err = c.ListWaves(ctx, &sdkmgn.ListWavesInput{NextToken: token})
	require.Equal(t, "ValidationException", code(err))
	_, err = i.mgn(i.stranger).ListApplications(ctx, &sdkmgn.ListApplicationsInput{NextToken: token})
	require.Equal(t, "ValidationException", code(err))
}

func TestConnectorsOnTheWire(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	made, err := c.CreateConnector(ctx, &sdkmgn.CreateConnectorInput{Name: aws.String("c"), SsmInstanceID: aws.String("mi-0123456789abcdef0"),
		SsmCommandConfig: &mgntypes.ConnectorSsmCommandConfig{S3OutputEnabled: aws.Bool(true), OutputS3BucketName: aws.String("logs"), CloudWatchOutputEnabled: aws.Bool(false)}})
	require.NoError(t, err)
	_, err = c.UpdateConnector(ctx, &sdkmgn.UpdateConnectorInput{ConnectorID: made.ConnectorID,
		SsmCommandConfig: &mgntypes.ConnectorSsmCommandConfig{S3OutputEnabled: aws.Bool(true), CloudWatchOutputEnabled: aws.Bool(false)}})
	bad, ok := errors.AsType[*mgntypes.ValidationException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "ssmCommandConfig.outputS3BucketName", *bad.FieldList[0].Name)

	id := i.add(t, i.scope(state.MGN), state.Continuous)
	server, err := c.UpdateSourceServer(ctx, &sdkmgn.UpdateSourceServerInput{SourceServerID: &id, ConnectorAction: &mgntypes.SourceServerConnectorAction{
		ConnectorArn: made.Arn, CredentialsSecretArn: aws.String("arn:aws:secretsmanager:us-east-1:000000000001:secret:s")}})
	require.NoError(t, err)
	require.Equal(t, made.Arn, server.ConnectorAction.ConnectorArn)
	_, err = c.UpdateSourceServerReplicationType(ctx, &sdkmgn.UpdateSourceServerReplicationTypeInput{SourceServerID: &id, ReplicationType: mgntypes.ReplicationTypeSnapshotShipping})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException), "no vCenter client has found it")
	_, err = c.DeleteConnector(ctx, &sdkmgn.DeleteConnectorInput{ConnectorID: made.ConnectorID})
	require.NoError(t, err)
	_, err = c.DeleteConnector(ctx, &sdkmgn.DeleteConnectorInput{ConnectorID: made.ConnectorID})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))

	vcenter := mgnVcenterClient(t, i)["VcenterClientID"].(string)
	clients, err := c.DescribeVcenterClients(ctx, &sdkmgn.DescribeVcenterClientsInput{MaxResults: aws.Int32(10)})
	require.NoError(t, err)
	require.Equal(t, vcenter, *clients.Items[0].VcenterClientID)
	_, err = c.DeleteVcenterClient(ctx, &sdkmgn.DeleteVcenterClientInput{VcenterClientID: &vcenter})
	require.NoError(t, err)
}

// Everything that has tags has them in its answers, and by its ARN.
func TestTagsOfEveryMGNResource(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	transfers := mgnTransfers(t, i)
	for kind, id := range map[string]any{
		"application": mgnApplication()(t, i)["ApplicationID"], "wave": mgnWave(t, i)["WaveID"], "connector": mgnConnector(t, i)["ConnectorID"],
		"vcenter-client": mgnVcenterClient(t, i)["VcenterClientID"], "launch-configuration-template": mgnLaunchTemplate(t, i)["LaunchConfigurationTemplateID"],
		"job": mgnJob(t, i)["JobID"], "network-migration-definition": mgnNetwork(t, i)["NetworkMigrationDefinitionID"],
		"import": transfers["ImportID"], "export": transfers["ExportID"], "source-server": i.add(t, i.scope(state.MGN), state.Continuous),
	} {
		name := aws.String(arn(state.MGN, kind+"/"+id.(string)))
		_, err := c.TagResource(ctx, &sdkmgn.TagResourceInput{ResourceArn: name, Tags: map[string]string{"a": "1", "b": "2"}})
		require.NoError(t, err, kind)
		_, err = c.UntagResource(ctx, &sdkmgn.UntagResourceInput{ResourceArn: name, TagKeys: []string{"a", "k"}})
		require.NoError(t, err, kind)
		tags, err := c.ListTagsForResource(ctx, &sdkmgn.ListTagsForResourceInput{ResourceArn: name})
		require.NoError(t, err, kind)
		require.Equal(t, map[string]string{"b": "2"}, tags.Tags, kind)
		_, err = i.mgn(i.stranger).ListTagsForResource(ctx, &sdkmgn.ListTagsForResourceInput{ResourceArn: name})
		require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException), kind)
		_, err = c.ListTagsForResource(ctx, &sdkmgn.ListTagsForResourceInput{ResourceArn: aws.String(arn(state.MGN, kind+"/none"))})
		require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException), kind)
	}
}

func TestMGNLaunchConfiguration(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	list, err := c.DescribeLaunchConfigurationTemplates(ctx, &sdkmgn.DescribeLaunchConfigurationTemplatesInput{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1, "initialisation makes one")
	lct := list.Items[0].LaunchConfigurationTemplateID
	_, err = c.UpdateLaunchConfigurationTemplate(ctx, &sdkmgn.UpdateLaunchConfigurationTemplateInput{LaunchConfigurationTemplateID: lct,
		LaunchDisposition: mgntypes.LaunchDispositionStopped, Licensing: &mgntypes.Licensing{OsByol: aws.Bool(false)}})
	require.NoError(t, err)
	_, err = c.PutTemplateAction(ctx, &sdkmgn.PutTemplateActionInput{LaunchConfigurationTemplateID: lct, ActionID: aws.String("a"), ActionName: aws.String("check"),
		DocumentIdentifier: aws.String("AWS-RunShellScript"), Order: aws.Int32(1001), OperatingSystem: aws.String("linux")})
	require.NoError(t, err)

	id := i.add(t, i.scope(state.MGN), state.Continuous)
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) error {
		v, err := tx.Server(ctx, i.scope(state.MGN), id)
		require.NoError(t, err)
		return launchconfig.NewMGNServers(i.store).Added(ctx, tx, v)
	}))
	shown := i.members(t, "GetLaunchConfiguration", map[string]any{"sourceServerID": id})
	for _, name := range []string{"bootMode", "copyPrivateIp", "copyTags", "enableMapAutoTagging", "launchDisposition", "licensing", "mapAutoTaggingMpeID",
		"name", "postLaunchActions", "sourceServerID", "targetInstanceTypeRightSizingMethod"} {
		require.Contains(t, shown, name, "defaults are shown too")
	}
	require.Equal(t, "STOPPED", shown["launchDisposition"])
	updated, err := c.UpdateLaunchConfiguration(ctx, &sdkmgn.UpdateLaunchConfigurationInput{SourceServerID: &id, CopyTags: aws.Bool(true),
		PostLaunchActions: &mgntypes.PostLaunchActions{SsmDocuments: []mgntypes.SsmDocument{{ActionName: aws.String("n"), SsmDocumentName: aws.String("AWS-doc"),
			MustSucceedForCutover: aws.Bool(true), Parameters: map[string][]mgntypes.SsmParameterStoreParameter{"p": {{ParameterName: aws.String("p"), ParameterType: mgntypes.SsmParameterStoreParameterTypeString}}},
			ExternalParameters: map[string]mgntypes.SsmExternalParameter{"q": &mgntypes.SsmExternalParameterMemberDynamicPath{Value: "sourceServerID"}}}}}})
	require.NoError(t, err)
	require.False(t, *updated.Licensing.OsByol, "what is not named stays")
	document := updated.PostLaunchActions.SsmDocuments[0]
	require.Equal(t, "p", *document.Parameters["p"][0].ParameterName)
	require.Equal(t, &mgntypes.SsmExternalParameterMemberDynamicPath{Value: "sourceServerID"}, document.ExternalParameters["q"])

	actions, err := c.ListSourceServerActions(ctx, &sdkmgn.ListSourceServerActionsInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Len(t, actions.Items, 1, "it came with the template")
	require.Equal(t, "$DEFAULT", *actions.Items[0].DocumentVersion)
	require.True(t, *actions.Items[0].Active)
	_, err = c.PutSourceServerAction(ctx, &sdkmgn.PutSourceServerActionInput{SourceServerID: &id, ActionID: aws.String("b"), ActionName: aws.String("n"),
		DocumentIdentifier: aws.String("d"), Order: aws.Int32(1001)})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException), "the place is taken")
	_, err = c.RemoveSourceServerAction(ctx, &sdkmgn.RemoveSourceServerActionInput{SourceServerID: &id, ActionID: aws.String("a")})
	require.NoError(t, err)
	_, err = c.DeleteLaunchConfigurationTemplate(ctx, &sdkmgn.DeleteLaunchConfigurationTemplateInput{LaunchConfigurationTemplateID: lct})
	require.NoError(t, err)
	_, err = c.ListTemplateActions(ctx, &sdkmgn.ListTemplateActionsInput{LaunchConfigurationTemplateID: lct})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
}

// Where nobody can launch, everything is checked first, and then the answer says plainly what is missing.
func TestMigrationWithoutALaunchProvider(t *testing.T) {
	i, ctx := install(t), t.Context()
	c, sc := i.mgn(i.admin), i.scope(state.MGN)
	ready, early := i.add(t, sc, state.Continuous), i.add(t, sc, state.InitialSync, func(v *state.Server) { v.LifeCycle.State = state.NotReady })
	_, err := c.StartTest(ctx, &sdkmgn.StartTestInput{SourceServerIDs: []string{unknownServer}})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException), "the model has no not-found error here")
	_, err = c.StartTest(ctx, &sdkmgn.StartTestInput{SourceServerIDs: []string{ready, ready}})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException))
	_, err = c.StartCutover(ctx, &sdkmgn.StartCutoverInput{SourceServerIDs: []string{ready, early}})
	conflict, ok := errors.AsType[*mgntypes.ConflictException](err)
	require.True(t, ok, "%v", err)
	require.Len(t, conflict.Errors, 2)
	_, err = c.StartTest(ctx, &sdkmgn.StartTestInput{SourceServerIDs: []string{ready}})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException))
	require.Contains(t, message(err), "no launch provider is configured on this installation")
	_, err = c.TerminateTargetInstances(ctx, &sdkmgn.TerminateTargetInstancesInput{SourceServerIDs: []string{ready}})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	all, err := c.DescribeJobs(ctx, &sdkmgn.DescribeJobsInput{})
	require.NoError(t, err)
	require.Empty(t, all.Items, "no job was made of what was refused")

	cutting := i.add(t, sc, state.Continuous, func(v *state.Server) { v.LifeCycle.State = state.CuttingOver })
	_, err = c.FinalizeCutover(ctx, &sdkmgn.FinalizeCutoverInput{SourceServerID: &ready})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	final, err := c.FinalizeCutover(ctx, &sdkmgn.FinalizeCutoverInput{SourceServerID: &cutting})
	require.NoError(t, err)
	require.Equal(t, mgntypes.LifeCycleStateCutover, final.LifeCycle.State)
	require.Equal(t, mgntypes.DataReplicationStateDisconnected, final.DataReplicationInfo.DataReplicationState)
	require.NotEmpty(t, *final.LifeCycle.LastCutover.Finalized.ApiCallDateTime)
	require.Nil(t, final.DataReplicationInfo.LagDuration)
}

func TestMGNJobs(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	first, second := mgnJob(t, i)["JobID"].(string), mgnJob(t, i)["JobID"].(string)
	all, err := c.DescribeJobs(ctx, &sdkmgn.DescribeJobsInput{})
	require.NoError(t, err)
	require.Equal(t, []string{second, first}, []string{*all.Items[0].JobID, *all.Items[1].JobID}, "newest first")
	j := all.Items[0]
	require.Equal(t, mgntypes.JobStatusCompleted, j.Status)
	p := j.ParticipatingServers[0]
	require.Equal(t, mgntypes.LaunchStatusLaunched, p.LaunchStatus)
	require.Equal(t, mgntypes.PostLaunchActionExecutionStatusSuccess, p.PostLaunchActionsStatus.PostLaunchActionsLaunchStatusList[0].ExecutionStatus)
	none, err := c.DescribeJobs(ctx, &sdkmgn.DescribeJobsInput{Filters: &mgntypes.DescribeJobsRequestFilters{ToDate: aws.String("2020-01-01T00:00:00Z")}})
	require.NoError(t, err)
	require.Empty(t, none.Items)
	log, err := c.DescribeJobLogItems(ctx, &sdkmgn.DescribeJobLogItemsInput{JobID: &first})
	require.NoError(t, err)
	require.Equal(t, mgntypes.JobLogEventJobStart, log.Items[0].Event)
	require.Equal(t, int32(3), *log.Items[2].EventData.MaxAttemptsCount)
	_, err = c.DescribeJobLogItems(ctx, &sdkmgn.DescribeJobLogItemsInput{JobID: aws.String("mgnjob-00000000000000000")})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException), "the model has no not-found error here")

	var running state.Job
	require.NoError(t, i.store.Update(ctx, func(tx state.Tx) (err error) {
		running, err = jobs.New(i.store, nil).Create(ctx, tx, i.scope(state.MGN), jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByStartTest,
			Participants: []state.Participant{{ServerID: i.add2(t, tx)}}})
		return err
	}))
	_, err = c.DeleteJob(ctx, &sdkmgn.DeleteJobInput{JobID: &running.ID})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	busy := running.Participants[0].ServerID
	_, err = c.StartTest(ctx, &sdkmgn.StartTestInput{SourceServerIDs: []string{busy}})
	require.Equal(t, "One or more of the Source Servers included in API call are currently being processed by a Job", message(err), "scripts look for it")
	_, err = c.DeleteJob(ctx, &sdkmgn.DeleteJobInput{JobID: &first})
	require.NoError(t, err)
	_, err = c.DeleteJob(ctx, &sdkmgn.DeleteJobInput{JobID: &first})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
}

// add2 puts a server into a transaction that is under way.
func (i *installation) add2(t *testing.T, tx state.Tx) string {
	v := state.Server{ID: control.NewID("s-"), Scope: i.scope(state.MGN), Identity: i.name(), CreatedAt: time.Now().UTC(), LifeCycle: state.LifeCycle{State: state.ReadyForTest}}
	require.NoError(t, tx.PutServer(t.Context(), v))
	return v.ID
}

func TestNetworkMigrations(t *testing.T) {
	i, ctx := install(t), t.Context()
	c := i.mgn(i.admin)
	made, err := c.CreateNetworkMigrationDefinition(ctx, &sdkmgn.CreateNetworkMigrationDefinitionInput{Name: aws.String("n"),
		TargetNetwork:         &mgntypes.TargetNetwork{Topology: mgntypes.TargetNetworkTopologyHubAndSpoke, InboundCidr: aws.String("10.1.0.0/16")},
		TargetS3Configuration: &mgntypes.TargetS3Configuration{S3Bucket: aws.String("b"), S3BucketOwner: aws.String(account)}})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), *made.CreatedAt, time.Minute)
	updated, err := c.UpdateNetworkMigrationDefinition(ctx, &sdkmgn.UpdateNetworkMigrationDefinitionInput{NetworkMigrationDefinitionID: made.NetworkMigrationDefinitionID,
		TargetNetwork: &mgntypes.TargetNetworkUpdate{Topology: mgntypes.TargetNetworkTopologyIsolatedVpc}})
	require.NoError(t, err)
	require.Equal(t, "10.1.0.0/16", *updated.TargetNetwork.InboundCidr)
	runs, err := c.ListNetworkMigrationExecutions(ctx, &sdkmgn.ListNetworkMigrationExecutionsInput{NetworkMigrationDefinitionID: made.NetworkMigrationDefinitionID, MaxResults: aws.Int32(1)})
	require.NoError(t, err)
	run := runs.Items[0].NetworkMigrationExecutionID
	_, err = c.StartNetworkMigrationMapping(ctx, &sdkmgn.StartNetworkMigrationMappingInput{NetworkMigrationDefinitionID: made.NetworkMigrationDefinitionID, NetworkMigrationExecutionID: run})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException))
	require.Contains(t, message(err), "has no meaning on this installation")
	mappings, err := c.ListNetworkMigrationMappings(ctx, &sdkmgn.ListNetworkMigrationMappingsInput{NetworkMigrationDefinitionID: made.NetworkMigrationDefinitionID, NetworkMigrationExecutionID: run})
	require.NoError(t, err)
	require.Empty(t, mappings.Items)
	_, err = c.StartImportFileEnrichment(ctx, &sdkmgn.StartImportFileEnrichmentInput{
		S3BucketSource: &mgntypes.EnrichmentSourceS3Configuration{S3Bucket: aws.String("b"), S3BucketOwner: aws.String(account), S3Key: aws.String("k")},
		S3BucketTarget: &mgntypes.EnrichmentTargetS3Configuration{S3Bucket: aws.String("b"), S3BucketOwner: aws.String(account), S3Key: aws.String("k")}})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException))
	_, err = c.GetNetworkMigrationDefinition(ctx, &sdkmgn.GetNetworkMigrationDefinitionInput{NetworkMigrationDefinitionID: aws.String("nmd-00000000000000000")})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
	_, err = c.DeleteNetworkMigrationDefinition(ctx, &sdkmgn.DeleteNetworkMigrationDefinitionInput{NetworkMigrationDefinitionID: made.NetworkMigrationDefinitionID})
	require.NoError(t, err)
}

// One account may act for the others, where the installation says so, and only that one.
func TestManagedAccounts(t *testing.T) {
	i, ctx := install(t), t.Context()
	list, err := i.mgn(i.admin).ListManagedAccounts(ctx, &sdkmgn.ListManagedAccountsInput{})
	require.NoError(t, err)
	require.Empty(t, list.Items, "nobody manages anybody")

	keys, err := access.Open(i.store, i.dir)
	require.NoError(t, err)
	d := i.mgnDomain()
	d.ManagementAccount = account
	endpoint := awsapi.New(awsapi.Config{Region: region, Access: keys, Accounts: i.accounts, Log: slog.New(slog.DiscardHandler)})
	endpoint.Serve(mgn.New(mgnapi.New(d)))
	i.server = httptest.NewTLSServer(endpoint)
	t.Cleanup(i.server.Close)
	manager, managed := i.mgn(i.admin), i.mgn(i.stranger)
	list, err = manager.ListManagedAccounts(ctx, &sdkmgn.ListManagedAccountsInput{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, otherAccount, *list.Items[0].AccountId)
	made, err := manager.CreateApplication(ctx, &sdkmgn.CreateApplicationInput{Name: aws.String("theirs"), AccountID: aws.String(otherAccount)})
	require.NoError(t, err)
	require.Contains(t, *made.Arn, otherAccount)
	theirs, err := managed.ListApplications(ctx, &sdkmgn.ListApplicationsInput{})
	require.NoError(t, err)
	require.Len(t, theirs.Items, 1)
	ours, err := manager.ListApplications(ctx, &sdkmgn.ListApplicationsInput{})
	require.NoError(t, err)
	require.Empty(t, ours.Items)
	_, err = manager.ListApplications(ctx, &sdkmgn.ListApplicationsInput{AccountID: aws.String("000000000003")})
	require.ErrorAs(t, err, new(*mgntypes.UninitializedAccountException))
	_, err = managed.ListApplications(ctx, &sdkmgn.ListApplicationsInput{AccountID: aws.String(account)})
	require.Equal(t, "AccessDeniedException", code(err))
	list, err = managed.ListManagedAccounts(ctx, &sdkmgn.ListManagedAccountsInput{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
}

func TestImportAndExportOnTheWire(t *testing.T) {
	i, ctx := install(t), t.Context()
	c, dir := i.mgn(i.admin), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, account, "inventory"), 0o700))
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, account, "inventory", name), []byte(content), 0o600))
	}
	write("good.csv", "mgn:wave:name,mgn:app:name,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework\nw,a,web-1,web-1.test\n")
	write("bad.csv", "mgn:wave:id\nwave-00000000000000000\n")
	var started []*mgntypes.ImportTask
	for _, key := range []string{"good.csv", "bad.csv"} {
		out, err := c.StartImport(ctx, &sdkmgn.StartImportInput{S3BucketSource: &mgntypes.S3BucketSource{S3Bucket: aws.String("inventory"), S3Key: &key}})
		require.NoError(t, err)
		require.Equal(t, mgntypes.ImportStatusPending, out.ImportTask.Status)
		started = append(started, out.ImportTask)
	}
	exported, err := c.StartExport(ctx, &sdkmgn.StartExportInput{S3Bucket: aws.String("inventory"), S3Key: aws.String("out.csv")})
	require.NoError(t, err)

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- transfers(i.store, i.servers, dir).Run(running) }()
	defer func() { stop(); require.NoError(t, <-done) }()
	require.Eventually(t, func() bool {
		out, err := c.ListExports(ctx, &sdkmgn.ListExportsInput{Filters: &mgntypes.ListExportsRequestFilters{ExportIDs: []string{*exported.ExportTask.ExportID}}})
		require.NoError(t, err)
		return out.Items[0].Status == mgntypes.ExportStatusSucceeded && out.Items[0].Summary.ServersCount == 1
	}, 20*time.Second, 20*time.Millisecond)

	imports, err := c.ListImports(ctx, &sdkmgn.ListImportsInput{})
	require.NoError(t, err)
	require.Equal(t, []mgntypes.ImportStatus{mgntypes.ImportStatusFailed, mgntypes.ImportStatusSucceeded}, []mgntypes.ImportStatus{imports.Items[0].Status, imports.Items[1].Status})
	require.Equal(t, int64(1), imports.Items[1].Summary.Servers.CreatedCount)
	wrong, err := c.ListImportErrors(ctx, &sdkmgn.ListImportErrorsInput{ImportID: started[1].ImportID})
	require.NoError(t, err)
	require.Equal(t, int64(2), wrong.Items[0].ErrorData.RowNumber)
	require.Contains(t, *wrong.Items[0].ErrorData.RawError, "wave-00000000000000000")
	_, err = c.ListImportErrors(ctx, &sdkmgn.ListImportErrorsInput{ImportID: aws.String("import-00000000000000000")})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException), "the model has no not-found error here")
	servers, err := c.DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{Filters: &mgntypes.DescribeSourceServersRequestFilters{
		LifeCycleStates: []mgntypes.LifeCycleState{mgntypes.LifeCycleStatePendingInstallation}}})
	require.NoError(t, err)
	require.Equal(t, "web-1", *servers.Items[0].UserProvidedID)
	require.Equal(t, mgntypes.DataReplicationStateStopped, servers.Items[0].DataReplicationInfo.DataReplicationState)
	_, err = c.StartReplication(ctx, &sdkmgn.StartReplicationInput{SourceServerID: servers.Items[0].SourceServerID})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException), "no agent is there")
	content, err := os.ReadFile(filepath.Join(dir, account, "inventory", "out.csv"))
	require.NoError(t, err)
	require.Contains(t, string(content), "web-1.test")
}

// RetryDataReplication takes a server that is STALLED, and no other; its answer is the whole server.
func TestRetryDataReplication(t *testing.T) {
	i, ctx := install(t), t.Context()
	c, sc := i.mgn(i.admin), i.scope(state.MGN)
	for _, at := range state.ReplicationStates {
		id := i.add(t, sc, at)
		v, err := c.RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: &id})
		if at != state.Stalled {
			require.ErrorAs(t, err, new(*mgntypes.ValidationException), "%s: it has no conflict among its errors", at)
			require.Contains(t, message(err), string(at))
			continue
		}
		require.NoError(t, err)
		r := v.DataReplicationInfo
		require.Equal(t, mgntypes.DataReplicationStateStalled, r.DataReplicationState, "until the agent's next handshake")
		require.Equal(t, mgntypes.DataReplicationErrorStringAgentNotSeen, r.DataReplicationError.Error)
		require.Equal(t, "silent", *r.DataReplicationError.RawError)
		require.Len(t, r.DataReplicationInitiation.Steps, 11)
		require.NotEmpty(t, *r.DataReplicationInitiation.NextAttemptDateTime)
		require.NotEmpty(t, *v.LifeCycle.ElapsedReplicationDuration)
		require.Equal(t, arn(state.MGN, "source-server/"+id), *v.Arn)
		require.NoError(t, i.store.View(ctx, func(reader state.Reader) error {
			rec, err := reader.Replication(ctx, id)
			require.True(t, rec.Retry)
			return err
		}))
	}
	_, err := c.RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: aws.String(unknownServer)})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
	theirs := i.add(t, sc, state.Stalled)
	_, err = i.mgn(i.stranger).RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: &theirs})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))
	planned := i.add(t, sc, state.Stopped, func(v *state.Server) { v.LifeCycle.State = state.PendingInstallation })
	_, err = c.RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: &planned})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException))
}
