package awsapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	sdkmgn "github.com/aws/aws-sdk-go-v2/service/mgn"
	mgntypes "github.com/aws/aws-sdk-go-v2/service/mgn/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
)

const unknownServer = "s-0fffffffffffffff0"

// The bytes of a server, as clients other than the SDK see them.
func TestSourceServerOnTheWire(t *testing.T) {
	w, _ := initialized(t)
	id := w.add(state.MGN, account, 1)
	w.infos[id].Lag = new(90*time.Second + 5*time.Microsecond)
	_, body := w.do(t, "mgn", http.MethodPost, "/DescribeSourceServers", `{"filters":{}}`, nil)
	require.JSONEq(t, `{"items":[{
		"arn":"arn:aws:mgn:us-east-1:000000000001:source-server/s-00000000000000001",
		"sourceServerID":"s-00000000000000001","isArchived":false,"replicationType":"AGENT_BASED","tags":{},"fqdnForActionFramework":"web.test",
		"dataReplicationInfo":{
			"dataReplicationState":"CONTINUOUS","lagDuration":"PT1M30.000005S","lastSnapshotDateTime":"2026-11-20T09:00:00.000000Z",
			"replicatorId":"i-0123456789abcdef0",
			"dataReplicationInitiation":{"startDateTime":"2026-11-20T08:30:00.000000Z","nextAttemptDateTime":"2026-11-20T09:01:00.000000Z","steps":[
				{"name":"WAIT","status":"SKIPPED"},{"name":"CREATE_SECURITY_GROUP","status":"NOT_STARTED"},
				{"name":"LAUNCH_REPLICATION_SERVER","status":"NOT_STARTED"},{"name":"BOOT_REPLICATION_SERVER","status":"NOT_STARTED"},
				{"name":"AUTHENTICATE_WITH_SERVICE","status":"NOT_STARTED"},{"name":"DOWNLOAD_REPLICATION_SOFTWARE","status":"NOT_STARTED"},
				{"name":"CREATE_STAGING_DISKS","status":"NOT_STARTED"},{"name":"ATTACH_STAGING_DISKS","status":"NOT_STARTED"},
				{"name":"PAIR_REPLICATION_SERVER_WITH_AGENT","status":"NOT_STARTED"},{"name":"CONNECT_AGENT_TO_REPLICATION_SERVER","status":"NOT_STARTED"},
				{"name":"START_DATA_TRANSFER","status":"SUCCEEDED"}]},
			"replicatedDisks":[{"deviceName":"/dev/vda","totalStorageBytes":10737418240,"replicatedStorageBytes":10737418240,
				"rescannedStorageBytes":10737418240,"backloggedStorageBytes":0}]},
		"lifeCycle":{"state":"READY_FOR_TEST","addedToServiceDateTime":"2026-11-20T08:30:00.000000Z","elapsedReplicationDuration":"P2DT1H3S",
			"firstByteDateTime":"2026-11-20T08:31:00.000000Z","lastSeenByServiceDateTime":"2026-11-20T09:30:00.000000Z",
			"lastTest":{"initiated":{},"reverted":{},"finalized":{}},"lastCutover":{"initiated":{},"reverted":{},"finalized":{}}},
		"sourceProperties":{"lastUpdatedDateTime":"2026-11-20T08:30:00.000000Z","os":{"fullString":"Linux version 6.12"},"ramBytes":4294967296,
			"cpus":[{"cores":1,"modelName":"x86"}],"disks":[{"deviceName":"/dev/vda","bytes":10737418240}],
			"networkInterfaces":[{"macAddress":"52:54:00:12:34:56","ips":["192.0.2.7"],"isPrimary":true}],
			"identificationHints":{"hostname":"web-1","fqdn":"web.test","vmPath":"/dc/vm/web"}}
	}]}`, body)
}

func TestDRSReplication(t *testing.T) {
	w, ctx := initialized(t)
	c := w.drs(w.user)
	id := w.add(state.DRS, account, 1)

	_, err := c.StartReplication(ctx, &sdkdrs.StartReplicationInput{SourceServerID: &id})
	busy, ok := errors.AsType[*drstypes.ConflictException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, id, *busy.ResourceId)
	require.Equal(t, "SourceServer", *busy.ResourceType)
	require.Equal(t, "SourceServer "+id+": is CONTINUOUS (look at its state first)", *busy.Message)

	stopped, err := c.StopReplication(ctx, &sdkdrs.StopReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, drstypes.DataReplicationStateStopped, stopped.SourceServer.DataReplicationInfo.DataReplicationState)
	started, err := c.StartReplication(ctx, &sdkdrs.StartReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, drstypes.DataReplicationStateInitiating, started.SourceServer.DataReplicationInfo.DataReplicationState)
	require.Len(t, started.SourceServer.DataReplicationInfo.DataReplicationInitiation.Steps, 11)

	//nolint:staticcheck // deprecated by its service, still in the API
	_, err = c.RetryDataReplication(ctx, &sdkdrs.RetryDataReplicationInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*drstypes.ValidationException))
	w.infos[id].State = state.Stalled
	w.infos[id].Error = &state.ReplicationError{Code: state.AgentNotSeen, Raw: "silent for 10 min"}
	//nolint:staticcheck // as above
	retried, err := c.RetryDataReplication(ctx, &sdkdrs.RetryDataReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, drstypes.DataReplicationErrorStringAgentNotSeen, retried.DataReplicationInfo.DataReplicationError.Error)

	_, err = c.DeleteSourceServer(ctx, &sdkdrs.DeleteSourceServerInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*drstypes.ConflictException))
	disconnected, err := c.DisconnectSourceServer(ctx, &sdkdrs.DisconnectSourceServerInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, drstypes.DataReplicationStateDisconnected, disconnected.DataReplicationInfo.DataReplicationState)
	_, err = c.DeleteSourceServer(ctx, &sdkdrs.DeleteSourceServerInput{SourceServerID: &id})
	require.NoError(t, err)

	_, err = c.StopReplication(ctx, &sdkdrs.StopReplicationInput{SourceServerID: aws.String(unknownServer)})
	gone, ok := errors.AsType[*drstypes.ResourceNotFoundException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, unknownServer, *gone.ResourceId)
}

func TestMGNReplication(t *testing.T) {
	w, ctx := initialized(t)
	c := w.mgn(w.user)
	id := w.add(state.MGN, account, 1)

	_, err := c.ResumeReplication(ctx, &sdkmgn.ResumeReplicationInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	paused, err := c.PauseReplication(ctx, &sdkmgn.PauseReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, mgntypes.DataReplicationStatePaused, paused.DataReplicationInfo.DataReplicationState)
	resumed, err := c.ResumeReplication(ctx, &sdkmgn.ResumeReplicationInput{SourceServerID: &id, AccountID: aws.String(account)})
	require.NoError(t, err)
	require.Equal(t, mgntypes.DataReplicationStateBacklog, resumed.DataReplicationInfo.DataReplicationState)

	_, err = c.RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*mgntypes.ValidationException), "the model has no conflict here")
	_, err = c.RetryDataReplication(ctx, &sdkmgn.RetryDataReplicationInput{SourceServerID: aws.String(unknownServer)})
	require.ErrorAs(t, err, new(*mgntypes.ResourceNotFoundException))

	w.quota = true
	_, err = c.StartReplication(ctx, &sdkmgn.StartReplicationInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*mgntypes.ServiceQuotaExceededException))

	w.infos[id].State = state.Continuous
	_, err = c.StopReplication(ctx, &sdkmgn.StopReplicationInput{SourceServerID: &id})
	require.NoError(t, err)
	_, err = c.DisconnectFromService(ctx, &sdkmgn.DisconnectFromServiceInput{SourceServerID: &id})
	require.NoError(t, err)
	archived, err := c.MarkAsArchived(ctx, &sdkmgn.MarkAsArchivedInput{SourceServerID: &id})
	require.NoError(t, err)
	require.True(t, *archived.IsArchived)
	_, err = c.ChangeServerLifeCycleState(ctx, &sdkmgn.ChangeServerLifeCycleStateInput{SourceServerID: &id,
		LifeCycle: &mgntypes.ChangeServerLifeCycleStateSourceServerLifecycle{State: mgntypes.ChangeServerLifeCycleStateSourceServerLifecycleStateReadyForCutover}})
	require.ErrorAs(t, err, new(*mgntypes.ConflictException))
	_, err = c.DeleteSourceServer(ctx, &sdkmgn.DeleteSourceServerInput{SourceServerID: &id})
	require.NoError(t, err)
}

func TestOtherAccountsAreOutOfReach(t *testing.T) {
	w, ctx := initialized(t)
	id := w.add(state.MGN, "000000000002", 1)
	_, err := w.mgn(w.admin).StopReplication(ctx, &sdkmgn.StopReplicationInput{SourceServerID: &id})
	require.Equal(t, "ResourceNotFoundException", code(err))
	for _, call := range []error{
		second(w.mgn(w.admin).StopReplication(ctx, &sdkmgn.StopReplicationInput{SourceServerID: &id, AccountID: aws.String("000000000002")})),
		second(w.mgn(w.admin).DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{AccountID: aws.String("000000000002")})),
		second(w.mgn(w.admin).DeleteSourceServer(ctx, &sdkmgn.DeleteSourceServerInput{SourceServerID: &id, AccountID: aws.String("000000000002")})),
		second(w.mgn(w.admin).GetReplicationConfiguration(ctx, &sdkmgn.GetReplicationConfigurationInput{SourceServerID: &id, AccountID: aws.String("000000000002")})),
		second(w.mgn(w.admin).UpdateReplicationConfiguration(ctx, &sdkmgn.UpdateReplicationConfigurationInput{SourceServerID: &id, AccountID: aws.String("000000000002")})),
	} {
		require.Equal(t, "AccessDeniedException", code(call))
	}
}

func second[T any](_ T, err error) error { return err }

func TestPagination(t *testing.T) {
	w, ctx := initialized(t)
	for n := range 5 {
		w.add(state.MGN, account, n)
	}
	w.servers["s-00000000000000004"].Archived = true
	c := w.mgn(w.user)
	var ids []string
	pages := sdkmgn.NewDescribeSourceServersPaginator(c, &sdkmgn.DescribeSourceServersInput{MaxResults: aws.Int32(2)})
	for n := 0; pages.HasMorePages(); n++ {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		require.Len(t, page.Items, 2)
		require.Equal(t, n == 0, page.NextToken != nil, "no token on the last page")
		for _, s := range page.Items {
			ids = append(ids, *s.SourceServerID)
		}
	}
	require.Equal(t, []string{"s-00000000000000000", "s-00000000000000001", "s-00000000000000002", "s-00000000000000003"}, ids)

	first, err := c.DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{MaxResults: aws.Int32(2)})
	require.NoError(t, err)
	for _, in := range []*sdkmgn.DescribeSourceServersInput{
		{NextToken: first.NextToken, Filters: &mgntypes.DescribeSourceServersRequestFilters{IsArchived: aws.Bool(true)}},
		{NextToken: aws.String("made-up")},
		{NextToken: aws.String("bm9uc2Vuc2U")},
	} {
		_, err = c.DescribeSourceServers(ctx, in)
		require.ErrorAs(t, err, new(*mgntypes.ValidationException), "a token belongs to its filters")
	}

	for want, filter := range map[int]*mgntypes.DescribeSourceServersRequestFilters{
		4: nil,
		1: {IsArchived: aws.Bool(true)},
		2: {SourceServerIDs: []string{"s-00000000000000004", "s-00000000000000001", unknownServer}},
		0: {ApplicationIDs: []string{"app-00000000000000001"}},
	} {
		out, err := c.DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{Filters: filter})
		require.NoError(t, err)
		require.Len(t, out.Items, want)
		require.NotNil(t, out.Items)
	}
}

func TestDRSFilters(t *testing.T) {
	w, ctx := initialized(t)
	w.add(state.DRS, account, 1)
	count := func(f drstypes.DescribeSourceServersRequestFilters) int {
		out, err := w.drs(w.user).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{Filters: &f, MaxResults: aws.Int32(100_000)})
		require.NoError(t, err)
		return len(out.Items)
	}
	require.Equal(t, 1, count(drstypes.DescribeSourceServersRequestFilters{}))
	require.Equal(t, 1, count(drstypes.DescribeSourceServersRequestFilters{StagingAccountIDs: []string{account}}))
	require.Equal(t, 0, count(drstypes.DescribeSourceServersRequestFilters{StagingAccountIDs: []string{"000000000002"}}))
	require.Equal(t, 0, count(drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{unknownServer}}))
}

func TestTags(t *testing.T) {
	w, ctx := initialized(t)
	d := w.drs(w.user)
	id := w.add(state.DRS, account, 1)
	arn := "arn:aws:drs:us-east-1:000000000001:source-server/" + id
	_, err := d.TagResource(ctx, &sdkdrs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": "1", "b c/é": "2", "d": ""}})
	require.NoError(t, err)
	_, err = d.UntagResource(ctx, &sdkdrs.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a", "b c/é"}})
	require.NoError(t, err)
	tags, err := d.ListTagsForResource(ctx, &sdkdrs.ListTagsForResourceInput{ResourceArn: &arn})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"d": ""}, tags.Tags)
	for _, other := range []string{
		"arn:aws:drs:us-east-1:000000000001:source-server/" + unknownServer,
		"arn:aws:drs:us-east-1:000000000002:source-server/" + id,
		"arn:aws:drs:eu-west-1:000000000001:source-server/" + id,
		"arn:aws:mgn:us-east-1:000000000001:source-server/" + id,
		"arn:aws:drs:us-east-1:000000000001:job/drsjob-00000000000000001",
		"arn:aws:drs:us-east-1:000000000001:source-server",
	} {
		_, err = d.ListTagsForResource(ctx, &sdkdrs.ListTagsForResourceInput{ResourceArn: aws.String(other)})
		require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException), other)
	}
	resp, answer := w.do(t, "drs", http.MethodDelete, "/tags/"+url.PathEscape(arn), "", nil)
	require.Equal(t, "ValidationException", resp.Header.Get("x-amzn-ErrorType"))
	require.Contains(t, answer, "tagKeys")
}

// Clients that send half of a UTF-16 pair exist, as JavaScript cuts texts in the middle of one.
func TestTextThatIsNone(t *testing.T) {
	w, _ := initialized(t)
	id := w.add(state.DRS, account, 1)
	path := "/tags/" + url.PathEscape("arn:aws:drs:us-east-1:000000000001:source-server/"+id)
	resp, answer := w.do(t, "drs", http.MethodPost, path, `{"tags":{"cut":"half \ud83d"}}`, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode, answer)
	_, answer = w.do(t, "drs", http.MethodGet, path, "", nil)
	require.JSONEq(t, `{"tags":{"cut":"half \ufffd"}}`, answer)
	require.True(t, utf8.ValidString(answer))
	resp, answer = w.do(t, "drs", http.MethodGet, "/tags/arn%ff", "", nil)
	require.Less(t, resp.StatusCode, http.StatusInternalServerError, answer)
	require.True(t, utf8.ValidString(answer))
}

func TestDRSTemplates(t *testing.T) {
	w, ctx := initialized(t)
	c := w.drs(w.admin)
	in := &sdkdrs.CreateReplicationConfigurationTemplateInput{
		AssociateDefaultSecurityGroup: aws.Bool(true), BandwidthThrottling: 50, CreatePublicIP: aws.Bool(false),
		DataPlaneRouting: drstypes.ReplicationConfigurationDataPlaneRoutingPrivateIp, DefaultLargeStagingDiskType: drstypes.ReplicationConfigurationDefaultLargeStagingDiskTypeGp3,
		EbsEncryption: drstypes.ReplicationConfigurationEbsEncryptionDefault, ReplicationServerInstanceType: aws.String("t3.small"),
		ReplicationServersSecurityGroupsIDs: []string{}, StagingAreaSubnetId: aws.String("subnet-0123abcd"), StagingAreaTags: map[string]string{},
		UseDedicatedReplicationServer: aws.Bool(false), Tags: map[string]string{"env": "test"},
		PitPolicy: []drstypes.PITPolicyRule{
			{RuleID: 1, Units: drstypes.PITPolicyRuleUnitsMinute, Interval: aws.Int32(10), RetentionDuration: aws.Int32(60), Enabled: aws.Bool(true)},
			{RuleID: 2, Units: drstypes.PITPolicyRuleUnitsHour, Interval: aws.Int32(1), RetentionDuration: aws.Int32(24), Enabled: aws.Bool(true)},
			{RuleID: 3, Units: drstypes.PITPolicyRuleUnitsDay, Interval: aws.Int32(1), RetentionDuration: aws.Int32(14), Enabled: aws.Bool(true)},
		},
	}
	made, err := c.CreateReplicationConfigurationTemplate(ctx, in)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"env": "test"}, made.Tags)
	require.Equal(t, int64(50), made.BandwidthThrottling)
	require.Equal(t, in.PitPolicy, made.PitPolicy)
	require.Equal(t, "arn:aws:drs:us-east-1:000000000001:replication-configuration-template/"+*made.ReplicationConfigurationTemplateID, *made.Arn)

	_, err = c.CreateReplicationConfigurationTemplate(ctx, in)
	require.ErrorAs(t, err, new(*drstypes.ServiceQuotaExceededException), "one template per account")

	in.PitPolicy = in.PitPolicy[:1]
	_, err = c.UpdateReplicationConfigurationTemplate(ctx, &sdkdrs.UpdateReplicationConfigurationTemplateInput{
		ReplicationConfigurationTemplateID: made.ReplicationConfigurationTemplateID, PitPolicy: in.PitPolicy})
	require.ErrorAs(t, err, new(*drstypes.ValidationException))
	updated, err := c.UpdateReplicationConfigurationTemplate(ctx, &sdkdrs.UpdateReplicationConfigurationTemplateInput{
		ReplicationConfigurationTemplateID: made.ReplicationConfigurationTemplateID, CreatePublicIP: aws.Bool(true)})
	require.NoError(t, err)
	require.True(t, *updated.CreatePublicIP)
	require.True(t, *updated.AssociateDefaultSecurityGroup, "what is not named stays")

	list, err := c.DescribeReplicationConfigurationTemplates(ctx, &sdkdrs.DescribeReplicationConfigurationTemplatesInput{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	_, err = c.TagResource(ctx, &sdkdrs.TagResourceInput{ResourceArn: made.Arn, Tags: map[string]string{"more": "yes"}})
	require.NoError(t, err)
	_, err = c.DeleteReplicationConfigurationTemplate(ctx, &sdkdrs.DeleteReplicationConfigurationTemplateInput{ReplicationConfigurationTemplateID: made.ReplicationConfigurationTemplateID})
	require.NoError(t, err)
	_, err = c.DeleteReplicationConfigurationTemplate(ctx, &sdkdrs.DeleteReplicationConfigurationTemplateInput{ReplicationConfigurationTemplateID: made.ReplicationConfigurationTemplateID})
	require.ErrorAs(t, err, new(*drstypes.ResourceNotFoundException))
}

// MGN has its template from the beginning; a second is refused with a code that its model does not list.
func TestMGNTemplates(t *testing.T) {
	w, ctx := initialized(t)
	c := w.mgn(w.admin)
	list, err := c.DescribeReplicationConfigurationTemplates(ctx, &sdkmgn.DescribeReplicationConfigurationTemplatesInput{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	id := list.Items[0].ReplicationConfigurationTemplateID
	in := &sdkmgn.CreateReplicationConfigurationTemplateInput{
		AssociateDefaultSecurityGroup: aws.Bool(true), BandwidthThrottling: 5, CreatePublicIP: aws.Bool(true),
		DataPlaneRouting:            mgntypes.ReplicationConfigurationDataPlaneRoutingPublicIp,
		DefaultLargeStagingDiskType: mgntypes.ReplicationConfigurationDefaultLargeStagingDiskTypeGp3,
		EbsEncryption:               mgntypes.ReplicationConfigurationEbsEncryptionDefault, ReplicationServerInstanceType: aws.String("t3.small"),
		ReplicationServersSecurityGroupsIDs: []string{}, StagingAreaSubnetId: aws.String("subnet-0123abcd"), StagingAreaTags: map[string]string{"k": "v"},
		UseDedicatedReplicationServer: aws.Bool(true), UseFipsEndpoint: aws.Bool(true),
	}
	_, err = c.CreateReplicationConfigurationTemplate(ctx, in)
	require.Equal(t, "ServiceQuotaExceededException", code(err))
	updated, err := c.UpdateReplicationConfigurationTemplate(ctx, &sdkmgn.UpdateReplicationConfigurationTemplateInput{
		ReplicationConfigurationTemplateID: id, StagingAreaTags: map[string]string{"x": "y"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x": "y"}, updated.StagingAreaTags)
	_, err = c.DeleteReplicationConfigurationTemplate(ctx, &sdkmgn.DeleteReplicationConfigurationTemplateInput{ReplicationConfigurationTemplateID: id})
	require.NoError(t, err)
	made, err := c.CreateReplicationConfigurationTemplate(ctx, in)
	require.NoError(t, err)
	require.True(t, *made.UseFipsEndpoint)
	require.True(t, *made.UseDedicatedReplicationServer)
	require.Equal(t, in.StagingAreaTags, made.StagingAreaTags)
}

func TestReplicationConfiguration(t *testing.T) {
	w, ctx := initialized(t)
	id := w.add(state.DRS, account, 1)
	d := w.drs(w.user)
	_, err := d.UpdateReplicationConfiguration(ctx, &sdkdrs.UpdateReplicationConfigurationInput{SourceServerID: &id, Name: aws.String("bad")})
	bad, ok := errors.AsType[*drstypes.ValidationException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, drstypes.ValidationExceptionReasonFieldValidationFailed, bad.Reason)
	require.Equal(t, "name", *bad.FieldList[0].Name)

	updated, err := d.UpdateReplicationConfiguration(ctx, &sdkdrs.UpdateReplicationConfigurationInput{SourceServerID: &id,
		ReplicatedDisks: []drstypes.ReplicationConfigurationReplicatedDisk{{DeviceName: aws.String("/dev/vda"), StagingDiskType: "GP3", Iops: 4000}},
		PitPolicy:       []drstypes.PITPolicyRule{{RuleID: 7, Units: "DAY", Interval: aws.Int32(1), RetentionDuration: aws.Int32(3)}}})
	require.NoError(t, err)
	require.Equal(t, int64(4000), updated.ReplicatedDisks[0].Iops)
	require.True(t, *updated.PitPolicy[0].Enabled, "a rule is enabled unless it says otherwise")
	shown, err := d.GetReplicationConfiguration(ctx, &sdkdrs.GetReplicationConfigurationInput{SourceServerID: &id})
	require.NoError(t, err)
	require.Equal(t, updated.ReplicatedDisks, shown.ReplicatedDisks)

	id = w.add(state.MGN, account, 2)
	m := w.mgn(w.user)
	_, err = m.UpdateReplicationConfiguration(ctx, &sdkmgn.UpdateReplicationConfigurationInput{SourceServerID: &id, BandwidthThrottling: 77})
	require.NoError(t, err)
	_, body := w.do(t, "mgn", http.MethodPost, "/GetReplicationConfiguration", `{"sourceServerID":"`+id+`"}`, nil)
	members := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(body), &members))
	require.EqualValues(t, 77, members["bandwidthThrottling"])
	for _, name := range []string{"associateDefaultSecurityGroup", "createPublicIP", "dataPlaneRouting", "defaultLargeStagingDiskType", "ebsEncryption",
		"internetProtocol", "name", "replicatedDisks", "replicationServerInstanceType", "replicationServersSecurityGroupsIDs", "sourceServerID",
		"stagingAreaSubnetId", "stagingAreaTags", "storeSnapshotOnLocalZone", "useDedicatedReplicationServer", "useFipsEndpoint"} {
		require.Contains(t, members, name, "defaults are shown too")
	}
}

func TestRecoverySnapshots(t *testing.T) {
	w, ctx := initialized(t)
	id := w.add(state.DRS, account, 1)
	for n := range 3 {
		at := addedAt.Add(time.Duration(n) * 10 * time.Minute)
		w.points = append(w.points, state.Point{ID: "pit-0000000000000000" + string(rune('0'+n)), ServerID: id,
			Scope: state.Scope{Account: account, Service: state.DRS}, Expected: at, At: at.Add(40 * time.Millisecond)})
	}
	list := func(in sdkdrs.DescribeRecoverySnapshotsInput) (times []string) {
		in.SourceServerID = &id
		pages := sdkdrs.NewDescribeRecoverySnapshotsPaginator(w.drs(w.user), &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			require.NoError(t, err)
			for _, s := range page.Items {
				times = append(times, (*s.ExpectedTimestamp)[11:16])
			}
		}
		return times
	}
	require.Equal(t, []string{"08:50", "08:40", "08:30"}, list(sdkdrs.DescribeRecoverySnapshotsInput{}), "newest first")
	require.Equal(t, []string{"08:30", "08:40", "08:50"}, list(sdkdrs.DescribeRecoverySnapshotsInput{Order: drstypes.RecoverySnapshotsOrderAsc, MaxResults: aws.Int32(1)}))
	require.Equal(t, []string{"08:40"}, list(sdkdrs.DescribeRecoverySnapshotsInput{Filters: &drstypes.DescribeRecoverySnapshotsRequestFilters{
		FromDateTime: aws.String("2026-11-20T08:31:00Z"), ToDateTime: aws.String("2026-11-20T08:49:59.999Z")}}))
	id = unknownServer
	require.Empty(t, list(sdkdrs.DescribeRecoverySnapshotsInput{}), "the model has no not-found error here")
}
