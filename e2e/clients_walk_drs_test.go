package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// A source server's life with every operation that a client of DRS has.
func TestWalkThroughDRS(t *testing.T) {
	for client := range peers {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			o := newOne(t)
			w := &drsWalk{walk: newWalk(t, client, "drs", o.server), one: o}
			w.initialise()
			o.start(t, "drs", "--tags", "team=storage;tier=1")
			w.arn = "arn:aws:drs:" + harness.Region + ":" + harness.Account + ":source-server/" + o.id
			w.until("CONTINUOUS")
			w.described()
			w.tags()
			w.configuration()
			w.launches()
			w.points()
			w.networks()
			w.extensions()
			w.instances()
			w.stopAndStart()
			w.leave()
			w.whole()
		})
	}
}

type drsWalk struct {
	*walk
	one                      *one
	arn                      string
	template, launchTemplate string
}

const absent = "s-00000000000000000"

// server is the one source server as it is described now.
func (w *drsWalk) server() object {
	w.t.Helper()
	items := w.items("DescribeSourceServers", object{"filters": object{"sourceServerIDs": []string{w.one.id}}})
	require.Len(w.t, items, 1)
	return items[0].(object)
}

func (w *drsWalk) until(state string) (s object) {
	w.t.Helper()
	harness.Eventually(w.t, time.Minute, "replication is "+state, func() (bool, string) {
		s = w.server()
		is, _ := at(w.t, s, "dataReplicationInfo", "dataReplicationState").(string)
		return is == state, is
	})
	return s
}

func pitPolicy(days int) []object {
	return []object{
		{"ruleID": 1, "units": "MINUTE", "interval": 10, "retentionDuration": 60, "enabled": true},
		{"ruleID": 2, "units": "HOUR", "interval": 1, "retentionDuration": 24, "enabled": true},
		{"ruleID": 3, "units": "DAY", "interval": 1, "retentionDuration": days, "enabled": true},
	}
}

func (w *drsWalk) initialise() {
	w.refused("UninitializedAccountException", "DescribeSourceServers", nil)
	w.ok("InitializeService", nil)
	in := object{"associateDefaultSecurityGroup": true, "bandwidthThrottling": 0, "createPublicIP": false, "dataPlaneRouting": "PRIVATE_IP",
		"defaultLargeStagingDiskType": "GP3", "ebsEncryption": "DEFAULT", "pitPolicy": pitPolicy(7), "replicationServerInstanceType": "t3.small",
		"replicationServersSecurityGroupsIDs": []string{"sg-0123456789abcdef0"}, "stagingAreaSubnetId": "subnet-0123456789abcdef0",
		"stagingAreaTags": object{"area": "staging"}, "tags": object{"of": "template"}, "useDedicatedReplicationServer": false}
	made := w.ok("CreateReplicationConfigurationTemplate", in)
	w.template = made["replicationConfigurationTemplateID"].(string)
	w.refused("ServiceQuotaExceededException", "CreateReplicationConfigurationTemplate", in)
	items := w.items("DescribeReplicationConfigurationTemplates", object{"replicationConfigurationTemplateIDs": []string{w.template}})
	require.Len(w.t, items, 1)
	require.Subset(w.t, items[0], made)
	changed := w.ok("UpdateReplicationConfigurationTemplate", object{"replicationConfigurationTemplateID": w.template, "bandwidthThrottling": 100})
	require.EqualValues(w.t, 100, changed["bandwidthThrottling"])
	changed["bandwidthThrottling"] = made["bandwidthThrottling"]
	require.Equal(w.t, made, changed, "what is not named stays")
	if w.has("CreateLaunchConfigurationTemplate") {
		w.launchTemplates()
	}
}

func (w *drsWalk) launchTemplates() {
	made := w.ok("CreateLaunchConfigurationTemplate", object{"copyTags": true, "launchDisposition": "STOPPED", "tags": object{"a": "b"}})
	w.launchTemplate = at(w.t, made, "launchConfigurationTemplate", "launchConfigurationTemplateID").(string)
	changed := w.ok("UpdateLaunchConfigurationTemplate", object{"launchConfigurationTemplateID": w.launchTemplate, "copyPrivateIp": true})
	require.Equal(w.t, true, at(w.t, changed, "launchConfigurationTemplate", "copyPrivateIp"))
	items := w.items("DescribeLaunchConfigurationTemplates", nil)
	require.Len(w.t, items, 1)
	require.Subset(w.t, items[0], changed["launchConfigurationTemplate"])
	if w.has("PutLaunchAction") {
		w.ok("PutLaunchAction", action(w.launchTemplate, "b7a6ff1d-2d6b-4d3c-9a3e-0f3a7d5c0001", "CreateImage"))
	}
}

// action is what PutLaunchAction takes.
func action(resource, id, name string) object {
	return object{"resourceId": resource, "actionId": id, "actionCode": "AWS-" + name, "actionVersion": "1", "name": name, "description": "of a test",
		"category": "VALIDATION", "order": 1001, "active": true, "optional": false,
		"parameters": object{"instance": object{"type": "DYNAMIC", "value": "sourceServerID"}}}
}

func (w *drsWalk) described() {
	s := w.server()
	require.Equal(w.t, w.arn, s["arn"])
	info := s["dataReplicationInfo"]
	require.Equal(w.t, "P0D", at(w.t, info, "lagDuration"))
	for i, name := range steps {
		require.Equal(w.t, name, at(w.t, info, "dataReplicationInitiation", "steps", i, "name"))
	}
	require.Equal(w.t, w.one.disk.Device, at(w.t, info, "replicatedDisks", 0, "deviceName"))
	require.EqualValues(w.t, smallDisk, at(w.t, info, "replicatedDisks", 0, "replicatedStorageBytes"))
	require.Equal(w.t, "NOT_STARTED", s["lastLaunchResult"])
	message := w.refused("ValidationException", "RetryDataReplication", object{"sourceServerID": w.one.id})
	require.Contains(w.t, message, "CONTINUOUS")
	require.Empty(w.t, w.items("DescribeSourceServers", object{"filters": object{"sourceServerIDs": []string{absent}}}))
}

func (w *drsWalk) tags() {
	require.Equal(w.t, object{"team": "storage", "tier": "1"}, w.server()["tags"])
	w.ok("TagResource", object{"resourceArn": w.arn, "tags": object{"owner": "dr", "tier": "2"}})
	w.ok("UntagResource", object{"resourceArn": w.arn, "tagKeys": []string{"team"}})
	require.Equal(w.t, object{"owner": "dr", "tier": "2"}, w.ok("ListTagsForResource", object{"resourceArn": w.arn})["tags"])
	w.refused("ResourceNotFoundException", "ListTagsForResource", object{"resourceArn": w.arn[:len(w.arn)-len(w.one.id)] + absent})
}

func (w *drsWalk) configuration() {
	id := object{"sourceServerID": w.one.id}
	before := w.ok("GetReplicationConfiguration", id)
	require.EqualValues(w.t, 100, before["bandwidthThrottling"], "the template's")
	require.Len(w.t, before["replicatedDisks"], 1)
	after := w.ok("UpdateReplicationConfiguration", object{"sourceServerID": w.one.id, "bandwidthThrottling": 0, "pitPolicy": pitPolicy(30)})
	require.EqualValues(w.t, 0, after["bandwidthThrottling"])
	require.EqualValues(w.t, 30, at(w.t, after, "pitPolicy", 2, "retentionDuration"))
	require.Equal(w.t, before["name"], after["name"])
	w.refused("ValidationException", "UpdateReplicationConfiguration", object{"sourceServerID": w.one.id, "dataPlaneRouting": "PIGEON"})
	w.refused("ResourceNotFoundException", "GetReplicationConfiguration", object{"sourceServerID": absent})
}

func (w *drsWalk) launches() {
	id := object{"sourceServerID": w.one.id}
	before := w.ok("GetLaunchConfiguration", id)
	require.Regexp(w.t, `^lt-[0-9a-f]{17}$`, before["ec2LaunchTemplateID"])
	after := w.ok("UpdateLaunchConfiguration", object{"sourceServerID": w.one.id, "name": "standby", "targetInstanceTypeRightSizingMethod": "BASIC",
		"licensing": object{"osByol": true}})
	require.Equal(w.t, "standby", after["name"])
	require.Equal(w.t, true, at(w.t, after, "licensing", "osByol"))
	require.Equal(w.t, before["launchDisposition"], after["launchDisposition"], "what is not named stays")
	if w.has("ListLaunchActions") {
		w.actions(id["sourceServerID"].(string))
	}
	message := w.refused("ConflictException", "StartRecovery", object{"isDrill": true, "sourceServers": []object{id}})
	require.Contains(w.t, message, "launch")
	require.Empty(w.t, w.items("DescribeJobs", nil), "no job is made of what was refused")
	w.refused("ResourceNotFoundException", "DeleteJob", object{"jobID": "drsjob-00000000000000000"})
	w.refused("ValidationException", "DescribeJobLogItems", object{"jobID": "drsjob-00000000000000000"})
}

func (w *drsWalk) actions(id string) {
	listed := func() []any { return w.items("ListLaunchActions", object{"resourceId": id}) }
	require.Len(w.t, listed(), 1, "it came with the template")
	second := action(id, "b7a6ff1d-2d6b-4d3c-9a3e-0f3a7d5c0002", "Check")
	second["order"] = 1002
	w.ok("PutLaunchAction", second)
	items := listed()
	require.Len(w.t, items, 2)
	require.Equal(w.t, "Check", at(w.t, items, 1, "name"))
	require.Equal(w.t, object{"type": "DYNAMIC", "value": "sourceServerID"}, at(w.t, items, 1, "parameters", "instance"))
	w.ok("DeleteLaunchAction", object{"resourceId": id, "actionId": second["actionId"]})
	require.Len(w.t, listed(), 1)
}

func (w *drsWalk) points() {
	items := w.items("DescribeRecoverySnapshots", object{"sourceServerID": w.one.id, "order": "DESC"})
	require.NotEmpty(w.t, items)
	require.Regexp(w.t, `^pit-[0-9a-f]{17}$`, at(w.t, items, 0, "snapshotID"))
	require.Equal(w.t, w.one.id, at(w.t, items, 0, "sourceServerID"))
	instantOf(w.t, at(w.t, items, 0, "expectedTimestamp").(string))
	require.Empty(w.t, w.items("DescribeRecoverySnapshots", object{"sourceServerID": w.one.id,
		"filters": object{"toDateTime": "2020-01-01T00:00:00Z"}}))
}

// network is the one that leads out of this machine: others come and go while tests run.
func (w *drsWalk) network() string {
	for _, nic := range at(w.t, w.server(), "sourceProperties", "networkInterfaces").([]any) {
		if nic.(object)["isPrimary"] != true {
			continue
		}
		for _, ip := range nic.(object)["ips"].([]any) {
			if a, err := netip.ParseAddr(ip.(string)); err == nil && a.Is4() {
				return netip.PrefixFrom(a, 24).Masked().String()
			}
		}
	}
	w.t.Fatal("this machine has no IPv4 default route")
	return ""
}

func (w *drsWalk) networks() {
	if !w.has("CreateSourceNetwork") {
		return
	}
	made := w.ok("CreateSourceNetwork", object{"vpcID": "vpc-0123456789abcdef0", "originAccountID": harness.Account, "originRegion": harness.Region,
		"tags": object{"understudy:prefixes": w.network()}})
	id := object{"sourceNetworkID": made["sourceNetworkID"]}
	require.Equal(w.t, made["sourceNetworkID"], at(w.t, w.items("DescribeSourceNetworks", nil), 0, "sourceNetworkID"))
	w.refused("ValidationException", "ExportSourceNetworkCfnTemplate", id)
	w.ok("StartSourceNetworkReplication", id)
	w.refused("ConflictException", "DeleteSourceNetwork", id)
	require.NoError(w.t, os.MkdirAll(filepath.Join(w.one.server.Dir, "buckets", harness.Account, "networks"), 0o700))
	w.ok("UpdateLaunchConfigurationTemplate", object{"launchConfigurationTemplateID": w.launchTemplate, "exportBucketArn": "arn:aws:s3:::networks"})
	url := w.ok("ExportSourceNetworkCfnTemplate", id)["s3DestinationUrl"].(string)
	template, err := os.ReadFile(filepath.Join(w.one.server.Dir, "buckets", harness.Account, strings.TrimPrefix(url, "s3://")))
	require.NoError(w.t, err)
	require.Contains(w.t, string(template), "AWS::EC2::VPC")
	w.refused("ValidationException", "StartSourceNetworkRecovery", object{"sourceNetworks": []object{id}})
	w.job(w.ok("AssociateSourceNetworkStack", object{"sourceNetworkID": id["sourceNetworkID"], "cfnStackName": "stack"}))
	w.ok("StopSourceNetworkReplication", id)
	w.ok("DeleteSourceNetwork", id)
	require.Empty(w.t, w.items("DescribeSourceNetworks", nil))
}

// job follows a job to its end and deletes it.
func (w *drsWalk) job(started object) {
	id := at(w.t, started, "job", "jobID")
	harness.Eventually(w.t, 30*time.Second, "the job ends", func() (bool, string) {
		is, _ := at(w.t, w.items("DescribeJobs", object{"filters": object{"jobIDs": []any{id}}}), 0, "status").(string)
		return is == "COMPLETED", is
	})
	log := w.items("DescribeJobLogItems", object{"jobID": id})
	require.Equal(w.t, "JOB_START", at(w.t, log, 0, "event"))
	require.Equal(w.t, "JOB_END", at(w.t, log, len(log)-1, "event"))
	w.ok("DeleteJob", object{"jobID": id})
	require.Empty(w.t, w.items("DescribeJobs", nil))
}

func (w *drsWalk) extensions() {
	accounts, failed := w.call("ListStagingAccounts", nil, true)
	require.Nil(w.t, failed)
	require.Empty(w.t, accounts["accounts"])
	w.refused("AccessDeniedException", "ListExtensibleSourceServers", object{"stagingAccountID": "210987654321"})
	w.refused("AccessDeniedException", "CreateExtendedSourceServer", object{"sourceServerArn": "arn:aws:drs:us-east-1:210987654321:source-server/" + absent})
}

// instances: there are no recovery instances, and every operation on one says so in its own way.
func (w *drsWalk) instances() {
	require.Empty(w.t, w.items("DescribeRecoveryInstances", nil))
	id := object{"recoveryInstanceID": "i-00000000000000000"}
	w.refused("ResourceNotFoundException", "DisconnectRecoveryInstance", id)
	w.refused("ConflictException", "DeleteRecoveryInstance", id)
	w.refused("ConflictException", "TerminateRecoveryInstances", object{"recoveryInstanceIDs": []string{"i-00000000000000000"}})
	w.refused("ResourceNotFoundException", "GetFailbackReplicationConfiguration", id)
	w.refused("ResourceNotFoundException", "UpdateFailbackReplicationConfiguration", object{"recoveryInstanceID": "i-00000000000000000", "bandwidthThrottling": 1})
	w.refused("ResourceNotFoundException", "ReverseReplication", id)
	w.refused("ResourceNotFoundException", "StopFailback", id)
	w.refused("ValidationException", "StartFailbackLaunch", object{"recoveryInstanceIDs": []string{"i-00000000000000000"}})
}

func (w *drsWalk) stopAndStart() {
	id := object{"sourceServerID": w.one.id}
	stopped := w.ok("StopReplication", id)
	require.Equal(w.t, "STOPPED", at(w.t, stopped, "sourceServer", "dataReplicationInfo", "dataReplicationState"))
	w.refused("ConflictException", "StopReplication", id)
	require.Empty(w.t, w.items("DescribeRecoverySnapshots", id))
	started := w.ok("StartReplication", id)
	require.Equal(w.t, "INITIATING", at(w.t, started, "sourceServer", "dataReplicationInfo", "dataReplicationState"))
	w.until("CONTINUOUS")
}

func (w *drsWalk) leave() {
	id := object{"sourceServerID": w.one.id}
	w.refused("ConflictException", "DeleteSourceServer", id)
	gone := w.ok("DisconnectSourceServer", id)
	require.Equal(w.t, "DISCONNECTED", at(w.t, gone, "dataReplicationInfo", "dataReplicationState"))
	w.one.agentLeaves(w.t)
	w.ok("DeleteSourceServer", id)
	require.Empty(w.t, w.items("DescribeSourceServers", nil))
	w.refused("ResourceNotFoundException", "GetLaunchConfiguration", id)
	w.ok("DeleteReplicationConfigurationTemplate", object{"replicationConfigurationTemplateID": w.template})
	if w.launchTemplate != "" {
		w.ok("DeleteLaunchConfigurationTemplate", object{"launchConfigurationTemplateID": w.launchTemplate})
	}
}
