package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/aws/aws-sdk-go-v2/service/mgn"
	mgntypes "github.com/aws/aws-sdk-go-v2/service/mgn/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// readmeBlock is the fenced block of the README that begins with a line.
func readmeBlock(t *testing.T, first string) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for i, block := range strings.Split(string(b), "```") {
		if i%2 == 1 && strings.HasPrefix(strings.TrimSpace(block), first) {
			return strings.TrimSpace(block)
		}
	}
	t.Fatalf("the README has no block that begins with %q", first)
	return ""
}

// described is what "aws drs describe-source-servers" prints.
type described struct {
	Items []describedServer `json:"items"`
}

type describedServer struct {
	SourceServerID      string            `json:"sourceServerID"`
	ARN                 string            `json:"arn"`
	Tags                map[string]string `json:"tags"`
	DataReplicationInfo struct {
		State         string `json:"dataReplicationState"`
		LagDuration   string `json:"lagDuration"`
		ETA           string `json:"etaDateTime"`
		Error         any    `json:"dataReplicationError"`
		Initiation    initiation
		InitiationRaw json.RawMessage `json:"dataReplicationInitiation"`
		Disks         []struct {
			DeviceName  string `json:"deviceName"`
			Total       int64  `json:"totalStorageBytes"`
			Replicated  int64  `json:"replicatedStorageBytes"`
			Rescanned   int64  `json:"rescannedStorageBytes"`
			Backlogged  *int64 `json:"backloggedStorageBytes"`
			VolumeState string `json:"volumeStatus"`
		} `json:"replicatedDisks"`
	} `json:"dataReplicationInfo"`
	LifeCycle struct {
		Added     string `json:"addedToServiceDateTime"`
		FirstByte string `json:"firstByteDateTime"`
		LastSeen  string `json:"lastSeenByServiceDateTime"`
		Elapsed   string `json:"elapsedReplicationDuration"`
	} `json:"lifeCycle"`
	SourceProperties struct {
		OS struct {
			Full string `json:"fullString"`
		} `json:"os"`
		RAM   int64 `json:"ramBytes"`
		CPUs  []any `json:"cpus"`
		Disks []struct {
			DeviceName string `json:"deviceName"`
			Bytes      int64  `json:"bytes"`
		} `json:"disks"`
		Hints struct {
			Hostname string `json:"hostname"`
		} `json:"identificationHints"`
	} `json:"sourceProperties"`
}

type initiation struct {
	Start string `json:"startDateTime"`
	Next  string `json:"nextAttemptDateTime"`
	Steps []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	} `json:"steps"`
}

// steps are the names of an initiation's steps, in order.
var steps = []string{"WAIT", "CREATE_SECURITY_GROUP", "LAUNCH_REPLICATION_SERVER", "BOOT_REPLICATION_SERVER", "AUTHENTICATE_WITH_SERVICE",
	"DOWNLOAD_REPLICATION_SOFTWARE", "CREATE_STAGING_DISKS", "ATTACH_STAGING_DISKS", "PAIR_REPLICATION_SERVER_WITH_AGENT",
	"CONNECT_AGENT_TO_REPLICATION_SERVER", "START_DATA_TRANSFER"}

func instantOf(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	require.NoError(t, err)
	return at
}

// A source server's life as its operator types it: Debian's AWS CLI, and the README's own commands.
func TestLifeOfADRSServer(t *testing.T) {
	t.Parallel()
	began := time.Now()
	o := newOne(t)

	_, err := o.server.TryAWS(t.Context(), "drs", "describe-source-servers")
	require.ErrorContains(t, err, "UninitializedAccountException")
	_, err = o.server.Shell(t.Context(), readmeBlock(t, "aws drs initialize-service"))
	require.NoError(t, err)
	_, err = o.server.Shell(t.Context(), readmeBlock(t, "aws drs initialize-service"))
	require.ErrorContains(t, err, "ServiceQuotaExceededException", "initialising again is fine, a second template is not")
	var templates struct{ Items []map[string]any }
	o.server.AWS(t, &templates, "drs", "describe-replication-configuration-templates")
	require.Len(t, templates.Items, 1)
	require.Equal(t, "subnet-0123456789abcdef0", templates.Items[0]["stagingAreaSubnetId"])

	o.start(t, "drs", "--tags", "team=storage;tier=1")
	o.continuous(t)
	o.checkDescribed(t, began)
	o.checkConfiguration(t)
	o.checkTags(t)
	o.checkSnapshots(t)
	o.same(t)

	_, err = o.server.TryAWS(t.Context(), "drs", "retry-data-replication", "--source-server-id", o.id)
	require.ErrorContains(t, err, "ValidationException")
	require.ErrorContains(t, err, "RetryDataReplication is not possible while data replication is CONTINUOUS")
	o.stopAndStart(t)
	o.disconnectAndDelete(t)
}

func (o *one) describe(t *testing.T) describedServer {
	t.Helper()
	var out described
	o.server.AWS(t, &out, "drs", "describe-source-servers", "--filters", "sourceServerIDs="+o.id)
	require.Len(t, out.Items, 1)
	s := out.Items[0]
	require.NoError(t, json.Unmarshal(s.DataReplicationInfo.InitiationRaw, &s.DataReplicationInfo.Initiation))
	return s
}

func (o *one) checkDescribed(t *testing.T, began time.Time) {
	t.Helper()
	s := o.describe(t)
	require.Equal(t, "arn:aws:drs:us-east-1:123456789012:source-server/"+o.id, s.ARN)
	require.Equal(t, map[string]string{"team": "storage", "tier": "1"}, s.Tags)
	info := s.DataReplicationInfo
	require.Equal(t, "CONTINUOUS", info.State)
	require.Equal(t, "P0D", info.LagDuration)
	require.Empty(t, info.ETA)
	require.Nil(t, info.Error)

	require.Len(t, info.Initiation.Steps, len(steps))
	for i, step := range info.Initiation.Steps {
		require.Equal(t, steps[i], step.Name)
		require.Contains(t, []string{"SUCCEEDED", "SKIPPED"}, step.Status, step.Name)
	}
	start, next := instantOf(t, info.Initiation.Start), instantOf(t, info.Initiation.Next)
	require.True(t, start.After(began) && start.Before(time.Now()), start)
	require.Equal(t, next.Truncate(time.Minute), next)
	require.WithinDuration(t, start.Add(30*time.Minute), next, time.Minute)

	require.Len(t, info.Disks, 1)
	d := info.Disks[0]
	require.Equal(t, o.disk.Device, d.DeviceName)
	require.EqualValues(t, smallDisk, d.Total)
	require.EqualValues(t, smallDisk, d.Replicated)
	require.EqualValues(t, smallDisk, d.Rescanned)
	require.NotNil(t, d.Backlogged)

	added, first, seen := instantOf(t, s.LifeCycle.Added), instantOf(t, s.LifeCycle.FirstByte), instantOf(t, s.LifeCycle.LastSeen)
	require.True(t, added.After(began) && first.After(added) && seen.After(added) && seen.Before(time.Now()), "%s %s %s", added, first, seen)
	require.WithinDuration(t, time.Now(), seen, 30*time.Second)
	require.Regexp(t, `^PT([0-9]+M)?[0-9.]+S$`, s.LifeCycle.Elapsed)

	host, err := os.Hostname()
	require.NoError(t, err)
	p := s.SourceProperties
	require.Equal(t, host, p.Hints.Hostname)
	require.Contains(t, p.OS.Full, "Linux version")
	require.NotEmpty(t, p.CPUs)
	require.Greater(t, p.RAM, int64(64<<20))
	sizes := map[string]int64{} // of all that the machine has
	for _, d := range p.Disks {
		sizes[d.DeviceName] = d.Bytes
	}
	require.EqualValues(t, smallDisk, sizes[o.disk.Device], sizes)
}

func (o *one) checkConfiguration(t *testing.T) {
	t.Helper()
	var c map[string]any
	o.server.AWS(t, &c, "drs", "get-replication-configuration", "--source-server-id", o.id)
	require.EqualValues(t, 0, c["bandwidthThrottling"])
	require.Len(t, c["pitPolicy"], 3)
	require.Len(t, c["replicatedDisks"], 1)
	before := c["name"]
	c = nil
	o.server.AWS(t, &c, "drs", "update-replication-configuration", "--source-server-id", o.id, "--bandwidth-throttling", "500",
		"--pit-policy", "ruleID=1,units=MINUTE,interval=10,retentionDuration=60,enabled=true",
		"ruleID=2,units=HOUR,interval=1,retentionDuration=24,enabled=true", "ruleID=3,units=DAY,interval=1,retentionDuration=30,enabled=true")
	require.EqualValues(t, 500, c["bandwidthThrottling"])
	require.Equal(t, before, c["name"], "what is not named stays")
	c = nil
	o.server.AWS(t, &c, "drs", "get-replication-configuration", "--source-server-id", o.id)
	require.EqualValues(t, 500, c["bandwidthThrottling"])
	require.EqualValues(t, 30, c["pitPolicy"].([]any)[2].(map[string]any)["retentionDuration"])
	_, err := o.server.TryAWS(t.Context(), "drs", "update-replication-configuration", "--source-server-id", o.id,
		"--pit-policy", "ruleID=1,units=MINUTE,interval=3,retentionDuration=60,enabled=true")
	require.ErrorContains(t, err, "ValidationException")
	_, err = o.server.TryAWS(t.Context(), "drs", "get-replication-configuration", "--source-server-id", "s-00000000000000000")
	require.ErrorContains(t, err, "ResourceNotFoundException")
}

func (o *one) checkTags(t *testing.T) {
	t.Helper()
	arn := "arn:aws:drs:us-east-1:123456789012:source-server/" + o.id
	o.server.AWS(t, nil, "drs", "tag-resource", "--resource-arn", arn, "--tags", "owner=dr,tier=2")
	o.server.AWS(t, nil, "drs", "untag-resource", "--resource-arn", arn, "--tag-keys", "team")
	var out struct{ Tags map[string]string }
	o.server.AWS(t, &out, "drs", "list-tags-for-resource", "--resource-arn", arn)
	require.Equal(t, map[string]string{"owner": "dr", "tier": "2"}, out.Tags)
}

type snapshots struct {
	Items []struct {
		SnapshotID        string `json:"snapshotID"`
		SourceServerID    string `json:"sourceServerID"`
		ExpectedTimestamp string `json:"expectedTimestamp"`
		Timestamp         string `json:"timestamp"`
	} `json:"items"`
}

func (o *one) snapshots(t *testing.T) snapshots {
	t.Helper()
	var out snapshots
	o.server.AWS(t, &out, "drs", "describe-recovery-snapshots", "--source-server-id", o.id)
	return out
}

// checkSnapshots takes a recovery snapshot back by its id.
func (o *one) checkSnapshots(t *testing.T) {
	t.Helper()
	got := o.snapshots(t)
	require.NotEmpty(t, got.Items)
	s := got.Items[0]
	require.Regexp(t, `^pit-[0-9a-f]{17}$`, s.SnapshotID)
	require.Equal(t, o.id, s.SourceServerID)
	require.WithinDuration(t, instantOf(t, s.ExpectedTimestamp), instantOf(t, s.Timestamp), 10*time.Second)
	require.Contains(t, o.server.CLI(t, "points", o.id), s.SnapshotID)
	require.Equal(t, int64(smallDisk), size(t, o.export(t, "--point", s.SnapshotID)))
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	return fi.Size()
}

// stopAndStart: stopping deletes what was replicated, starting begins anew with the same agent.
func (o *one) stopAndStart(t *testing.T) {
	t.Helper()
	var stopped struct{ SourceServer describedServer }
	o.server.AWS(t, &stopped, "drs", "stop-replication", "--source-server-id", o.id)
	require.Equal(t, "STOPPED", stopped.SourceServer.DataReplicationInfo.State)
	require.Empty(t, stopped.SourceServer.DataReplicationInfo.LagDuration)
	require.Empty(t, o.snapshots(t).Items)
	harness.Eventually(t, 30*time.Second, "the journal is deleted", gone(o.journal()))
	harness.Eventually(t, 30*time.Second, "the capture is removed", gone(o.pins()))
	require.Contains(t, o.server.CLI(t, "points", o.id), "nothing is recoverable")
	_, err := o.server.TryAWS(t.Context(), "drs", "stop-replication", "--source-server-id", o.id)
	require.ErrorContains(t, err, "ConflictException")
	_, err = o.server.TryAWS(t.Context(), "drs", "retry-data-replication", "--source-server-id", o.id)
	require.ErrorContains(t, err, "RetryDataReplication is not possible while data replication is STOPPED")
	o.write(t, "while stopped", 1<<20)

	var started struct{ SourceServer describedServer }
	o.server.AWS(t, &started, "drs", "start-replication", "--source-server-id", o.id)
	require.Equal(t, "INITIATING", started.SourceServer.DataReplicationInfo.State)
	o.continuous(t)
	require.NotEmpty(t, o.snapshots(t).Items)
	o.same(t)
}

// disconnectAndDelete: the agent ends by itself and leaves nothing behind.
func (o *one) disconnectAndDelete(t *testing.T) {
	t.Helper()
	_, err := o.server.TryAWS(t.Context(), "drs", "delete-source-server", "--source-server-id", o.id)
	require.ErrorContains(t, err, "ConflictException", "it is not disconnected yet")
	var gotten describedServer
	o.server.AWS(t, &gotten, "drs", "disconnect-source-server", "--source-server-id", o.id)
	require.Equal(t, "DISCONNECTED", gotten.DataReplicationInfo.State)
	o.agentLeaves(t)
	harness.Eventually(t, 30*time.Second, "the journal is deleted", gone(o.journal()))

	o.server.AWS(t, nil, "drs", "delete-source-server", "--source-server-id", o.id)
	var out described
	o.server.AWS(t, &out, "drs", "describe-source-servers")
	require.Empty(t, out.Items)
	code, message := refusal(t, o.server, "points", o.id)
	require.Equal(t, 3, code)
	require.Contains(t, message, "no source server "+o.id)
}

// agentLeaves waits until a dismissed agent has ended, without its capture and its identity.
func (o *one) agentLeaves(t *testing.T) {
	t.Helper()
	select {
	case <-o.agent.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("the agent does not end:\n%s", o.agent.Log())
	}
	require.NoError(t, o.agent.Err(), o.agent.Log())
	harness.Eventually(t, 10*time.Second, "the capture is removed", gone(o.pins()))
	require.NoFileExists(t, filepath.Join(o.agent.StateDir, "identity.json"))
	require.NoFileExists(t, filepath.Join(o.agent.StateDir, "agent.key"))
}

// A migration's life with AWS's Go SDK, on an endpoint that serves DRS too.
func TestLifeOfAnMGNServer(t *testing.T) {
	t.Parallel()
	o := newOne(t)
	m, d := o.server.MGN(t), o.server.DRS(t)
	_, err := m.DescribeSourceServers(t.Context(), &mgn.DescribeSourceServersInput{})
	requireCode[*mgntypes.UninitializedAccountException](t, err)
	_, err = m.InitializeService(t.Context(), &mgn.InitializeServiceInput{})
	require.NoError(t, err)
	templates, err := m.DescribeReplicationConfigurationTemplates(t.Context(), &mgn.DescribeReplicationConfigurationTemplatesInput{})
	require.NoError(t, err)
	require.Len(t, templates.Items, 1, "MGN makes one by itself")

	o.start(t, "mgn")
	s := o.waitMGN(t, mgntypes.DataReplicationStateContinuous)
	require.Equal(t, mgntypes.LifeCycleStateReadyForTest, s.LifeCycle.State)
	require.Equal(t, "P0D", aws.ToString(s.DataReplicationInfo.LagDuration))
	require.NotEmpty(t, aws.ToString(s.DataReplicationInfo.LastSnapshotDateTime))
	require.Len(t, s.DataReplicationInfo.DataReplicationInitiation.Steps, len(steps))
	for i, step := range s.DataReplicationInfo.DataReplicationInitiation.Steps {
		require.EqualValues(t, steps[i], step.Name)
		require.Contains(t, []mgntypes.DataReplicationInitiationStepStatus{"SUCCEEDED", "SKIPPED"}, step.Status)
	}
	o.otherServiceKnowsNothing(t, d)
	o.pauseAndResume(t, m)
	o.refusals(t, m)

	_, err = m.DisconnectFromService(t.Context(), &mgn.DisconnectFromServiceInput{SourceServerID: &o.id})
	require.NoError(t, err)
	o.agentLeaves(t)
	s = o.waitMGN(t, mgntypes.DataReplicationStateDisconnected)
	require.Equal(t, mgntypes.LifeCycleStateDisconnected, s.LifeCycle.State)
	archived, err := m.MarkAsArchived(t.Context(), &mgn.MarkAsArchivedInput{SourceServerID: &o.id})
	requireArchive(t, archived, err)
	_, err = m.DeleteSourceServer(t.Context(), &mgn.DeleteSourceServerInput{SourceServerID: &o.id})
	require.NoError(t, err)
	_, err = m.GetReplicationConfiguration(t.Context(), &mgn.GetReplicationConfigurationInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ResourceNotFoundException](t, err)
}

// requireArchive: what was disconnected before its cutover may be archived, or is refused as a conflict; never anything else.
func requireArchive(t *testing.T, out *mgn.MarkAsArchivedOutput, err error) {
	t.Helper()
	if err != nil {
		requireCode[*mgntypes.ConflictException](t, err)
		return
	}
	require.True(t, aws.ToBool(out.IsArchived))
}

func (o *one) describeMGN(t *testing.T) mgntypes.SourceServer {
	t.Helper()
	out, err := o.server.MGN(t).DescribeSourceServers(t.Context(), &mgn.DescribeSourceServersInput{
		Filters: &mgntypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{o.id}}})
	require.NoError(t, err)
	require.Len(t, out.Items, 1)
	return out.Items[0]
}

func (o *one) waitMGN(t *testing.T, state mgntypes.DataReplicationState) (s mgntypes.SourceServer) {
	t.Helper()
	harness.Eventually(t, time.Minute, "replication is "+string(state), func() (bool, string) {
		s = o.describeMGN(t)
		return s.DataReplicationInfo.DataReplicationState == state, string(s.DataReplicationInfo.DataReplicationState)
	})
	return s
}

func (o *one) otherServiceKnowsNothing(t *testing.T, d *drs.Client) {
	t.Helper()
	_, err := d.DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{})
	requireCode[*drstypes.UninitializedAccountException](t, err)
	o.server.InitializeDRS(t)
	out, err := d.DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Empty(t, out.Items)
	_, err = d.StopReplication(t.Context(), &drs.StopReplicationInput{SourceServerID: &o.id})
	requireCode[*drstypes.ResourceNotFoundException](t, err)
}

func (o *one) pauseAndResume(t *testing.T, m *mgn.Client) {
	t.Helper()
	paused, err := m.PauseReplication(t.Context(), &mgn.PauseReplicationInput{SourceServerID: &o.id})
	require.NoError(t, err)
	require.Equal(t, mgntypes.DataReplicationStatePaused, paused.DataReplicationInfo.DataReplicationState)
	_, err = m.PauseReplication(t.Context(), &mgn.PauseReplicationInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ConflictException](t, err)
	_, err = m.StartReplication(t.Context(), &mgn.StartReplicationInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ConflictException](t, err)
	o.phase(t, "idle")
	before := o.points(t)
	require.NotNil(t, before.Latest, "what was replicated stays recoverable during a pause")
	o.write(t, "while paused", 1<<20)

	_, err = m.ResumeReplication(t.Context(), &mgn.ResumeReplicationInput{SourceServerID: &o.id})
	require.NoError(t, err)
	o.waitMGN(t, mgntypes.DataReplicationStateContinuous)
	o.same(t)
	require.Len(t, o.points(t).Windows, 1, "the ring held what was written during the pause")
}

// phase waits until the agent says that it is in a phase.
func (o *one) phase(t *testing.T, want string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "the agent is "+want, func() (bool, string) {
		var s struct{ Phase string }
		out := o.server.CLI(t, "agent", "status", "--json", "--state-dir", o.agent.StateDir)
		return json.Unmarshal([]byte(out), &s) == nil && s.Phase == want, out
	})
}

func (o *one) refusals(t *testing.T, m *mgn.Client) {
	t.Helper()
	_, err := m.RetryDataReplication(t.Context(), &mgn.RetryDataReplicationInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ValidationException](t, err)
	_, err = m.ResumeReplication(t.Context(), &mgn.ResumeReplicationInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ConflictException](t, err)
	_, err = m.ChangeServerLifeCycleState(t.Context(), &mgn.ChangeServerLifeCycleStateInput{SourceServerID: &o.id,
		LifeCycle: &mgntypes.ChangeServerLifeCycleStateSourceServerLifecycle{State: "CUTOVER"}})
	requireCode[*mgntypes.ConflictException](t, err)
	_, err = m.DeleteSourceServer(t.Context(), &mgn.DeleteSourceServerInput{SourceServerID: &o.id})
	requireCode[*mgntypes.ConflictException](t, err)

	_, err = m.StartTest(t.Context(), &mgn.StartTestInput{SourceServerIDs: []string{o.id}})
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, "ValidationException", api.ErrorCode())
	require.Contains(t, api.ErrorMessage(), "launch")
}

// requireCode requires a modelled error with a message.
func requireCode[E interface {
	error
	ErrorMessage() string
}](t *testing.T, err error) {
	t.Helper()
	var want E
	require.ErrorAs(t, err, &want)
	require.NotEmpty(t, want.ErrorMessage())
}
