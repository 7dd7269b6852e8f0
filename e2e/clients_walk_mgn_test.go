package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// A migration's life with every operation that a client of MGN has.
func TestWalkThroughMGN(t *testing.T) {
	for client := range peers {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			o := newOne(t)
			w := &mgnWalk{walk: newWalk(t, client, "mgn", o.server), one: o}
			w.initialise()
			o.start(t, "mgn", "--tags", "team=storage")
			w.until("CONTINUOUS")
			w.described()
			w.configuration()
			w.actions()
			w.inventory()
			w.connectors()
			w.transfers()
			w.launches()
			w.replication()
			w.leave()
			w.whole()
		})
	}
}

type mgnWalk struct {
	*walk
	one                      *one
	template, launchTemplate string
	application, wave        object
}

func (w *mgnWalk) id() object { return object{"sourceServerID": w.one.id} }

func (w *mgnWalk) server() object {
	w.t.Helper()
	items := w.items("DescribeSourceServers", object{"filters": object{"sourceServerIDs": []string{w.one.id}}})
	require.Len(w.t, items, 1)
	return items[0].(object)
}

func (w *mgnWalk) until(state string) {
	w.t.Helper()
	harness.Eventually(w.t, time.Minute, "replication is "+state, func() (bool, string) {
		is, _ := at(w.t, w.server(), "dataReplicationInfo", "dataReplicationState").(string)
		return is == state, is
	})
}

func (w *mgnWalk) initialise() {
	w.refused("UninitializedAccountException", "DescribeSourceServers", nil)
	w.ok("InitializeService", nil)
	items := w.items("DescribeReplicationConfigurationTemplates", nil)
	require.Len(w.t, items, 1, "MGN makes one by itself")
	w.template = at(w.t, items, 0, "replicationConfigurationTemplateID").(string)
	changed := w.ok("UpdateReplicationConfigurationTemplate", object{"replicationConfigurationTemplateID": w.template, "bandwidthThrottling": 100})
	require.EqualValues(w.t, 100, changed["bandwidthThrottling"])
	again := object{}
	for k, v := range changed {
		switch k {
		case "replicationConfigurationTemplateID", "arn", "storeSnapshotOnLocalZone", "internetProtocol":
		default:
			again[k] = v
		}
	}
	w.refused("ServiceQuotaExceededException", "CreateReplicationConfigurationTemplate", again)

	items = w.items("DescribeLaunchConfigurationTemplates", nil)
	require.Len(w.t, items, 1)
	w.launchTemplate = at(w.t, items, 0, "launchConfigurationTemplateID").(string)
	updated := w.ok("UpdateLaunchConfigurationTemplate", object{"launchConfigurationTemplateID": w.launchTemplate, "copyTags": true, "bootMode": "UEFI"})
	require.Equal(w.t, "UEFI", updated["bootMode"])
	second := w.ok("CreateLaunchConfigurationTemplate", object{"launchDisposition": "STOPPED", "tags": object{"a": "b"}})
	w.ok("DeleteLaunchConfigurationTemplate", object{"launchConfigurationTemplateID": second["launchConfigurationTemplateID"]})
	w.ok("PutTemplateAction", object{"launchConfigurationTemplateID": w.launchTemplate, "actionID": "check", "actionName": "check",
		"documentIdentifier": "AWS-RunShellScript", "order": 1001, "operatingSystem": "linux"})
	require.Equal(w.t, "check", at(w.t, w.items("ListTemplateActions", object{"launchConfigurationTemplateID": w.launchTemplate}), 0, "actionName"))
}

func (w *mgnWalk) described() {
	s := w.server()
	arn := "arn:aws:mgn:" + harness.Region + ":" + harness.Account + ":source-server/" + w.one.id
	require.Equal(w.t, arn, s["arn"])
	require.Equal(w.t, "READY_FOR_TEST", at(w.t, s, "lifeCycle", "state"))
	require.Equal(w.t, "AGENT_BASED", s["replicationType"])
	require.Equal(w.t, w.one.disk.Device, at(w.t, s, "dataReplicationInfo", "replicatedDisks", 0, "deviceName"))
	for i, name := range steps {
		require.Equal(w.t, name, at(w.t, s, "dataReplicationInfo", "dataReplicationInitiation", "steps", i, "name"))
	}
	w.ok("TagResource", object{"resourceArn": arn, "tags": object{"owner": "dr"}})
	w.ok("UntagResource", object{"resourceArn": arn, "tagKeys": []string{"team"}})
	require.Equal(w.t, object{"owner": "dr"}, w.ok("ListTagsForResource", object{"resourceArn": arn})["tags"])
}

func (w *mgnWalk) configuration() {
	before := w.ok("GetReplicationConfiguration", w.id())
	require.EqualValues(w.t, 100, before["bandwidthThrottling"], "the template's")
	after := w.ok("UpdateReplicationConfiguration", object{"sourceServerID": w.one.id, "bandwidthThrottling": 0, "createPublicIP": false})
	require.EqualValues(w.t, 0, after["bandwidthThrottling"])
	require.Equal(w.t, before["name"], after["name"], "what is not named stays")
	w.refused("ValidationException", "UpdateReplicationConfiguration", object{"sourceServerID": w.one.id, "dataPlaneRouting": "PIGEON"})

	require.Equal(w.t, "UEFI", w.ok("GetLaunchConfiguration", w.id())["bootMode"], "the template's")
	launch := w.ok("UpdateLaunchConfiguration", object{"sourceServerID": w.one.id, "launchDisposition": "STOPPED", "licensing": object{"osByol": true}})
	require.Equal(w.t, "STOPPED", launch["launchDisposition"])
	require.Equal(w.t, true, at(w.t, launch, "licensing", "osByol"))
}

func (w *mgnWalk) actions() {
	listed := func() []any { return w.items("ListSourceServerActions", w.id()) }
	require.Len(w.t, listed(), 1, "it came with the template")
	in := object{"sourceServerID": w.one.id, "actionID": "second", "actionName": "second", "documentIdentifier": "AWS-Document", "order": 1002, "active": true}
	w.ok("PutSourceServerAction", in)
	require.Equal(w.t, "second", at(w.t, listed(), 1, "actionName"))
	in["actionID"] = "third"
	w.refused("ConflictException", "PutSourceServerAction", in)
	w.ok("RemoveSourceServerAction", object{"sourceServerID": w.one.id, "actionID": "second"})
	require.Len(w.t, listed(), 1)
	w.ok("RemoveTemplateAction", object{"launchConfigurationTemplateID": w.launchTemplate, "actionID": "check"})
}

// inventory: an application in a wave, which hold each other while their server is alive.
func (w *mgnWalk) inventory() {
	app := w.ok("CreateApplication", object{"name": "shop", "tags": object{"k": "v"}})
	w.application = object{"applicationID": app["applicationID"]}
	w.refused("ConflictException", "CreateApplication", object{"name": "shop"})
	w.ok("AssociateSourceServers", object{"applicationID": app["applicationID"], "sourceServerIDs": []string{w.one.id}})
	require.Equal(w.t, app["applicationID"], w.server()["applicationID"])
	require.Equal(w.t, "store", w.ok("UpdateApplication", object{"applicationID": app["applicationID"], "name": "store"})["name"])

	wave := w.ok("CreateWave", object{"name": "first"})
	w.wave = object{"waveID": wave["waveID"]}
	both := object{"waveID": wave["waveID"], "applicationIDs": []any{app["applicationID"]}}
	w.ok("AssociateApplications", both)
	require.Equal(w.t, "of one", w.ok("UpdateWave", object{"waveID": wave["waveID"], "description": "of one"})["description"])
	waves := w.items("ListWaves", nil)
	require.Equal(w.t, "HEALTHY", at(w.t, waves, 0, "waveAggregatedStatus", "healthStatus"))
	require.EqualValues(w.t, 1, at(w.t, waves, 0, "waveAggregatedStatus", "totalApplications"))
	apps := w.items("ListApplications", object{"filters": object{"waveIDs": []any{wave["waveID"]}}})
	require.EqualValues(w.t, 1, at(w.t, apps, 0, "applicationAggregatedStatus", "totalSourceServers"))
	w.refused("ConflictException", "ArchiveApplication", w.application)
	w.refused("ConflictException", "ArchiveWave", w.wave)
	w.refused("ConflictException", "DeleteApplication", w.application)
	w.refused("ConflictException", "DeleteWave", w.wave)
	w.ok("DisassociateApplications", both)
	w.ok("AssociateApplications", both)
}

func (w *mgnWalk) connectors() {
	require.Empty(w.t, w.items("DescribeVcenterClients", nil))
	w.refused("ResourceNotFoundException", "DeleteVcenterClient", object{"vcenterClientID": "vcc-00000000000000000"})
	w.refused("ValidationException", "UpdateSourceServerReplicationType", object{"sourceServerID": w.one.id, "replicationType": "SNAPSHOT_SHIPPING"})
	if !w.has("CreateConnector") {
		return
	}
	made := w.ok("CreateConnector", object{"name": "c", "ssmInstanceID": "mi-0123456789abcdef0"})
	id := object{"connectorID": made["connectorID"]}
	require.Equal(w.t, "d", w.ok("UpdateConnector", object{"connectorID": made["connectorID"], "name": "d"})["name"])
	require.Equal(w.t, "d", at(w.t, w.items("ListConnectors", nil), 0, "name"))
	server := w.ok("UpdateSourceServer", object{"sourceServerID": w.one.id, "connectorAction": object{"connectorArn": made["arn"]}})
	require.Equal(w.t, made["arn"], at(w.t, server, "connectorAction", "connectorArn"))
	w.ok("DeleteConnector", id)
	w.refused("ResourceNotFoundException", "DeleteConnector", id)
	require.Empty(w.t, w.items("ListManagedAccounts", nil), "no account manages others here")
}

// transfers exports the inventory into a bucket and imports it changed.
func (w *mgnWalk) transfers() {
	if !w.has("StartExport") {
		return
	}
	bucket := filepath.Join(w.one.server.Dir, "buckets", harness.Account, "plans")
	require.NoError(w.t, os.MkdirAll(bucket, 0o700))
	started := w.ok("StartExport", object{"s3Bucket": "plans", "s3Key": "out.csv"})
	w.finished("ListExports", "exportID", at(w.t, started, "exportTask", "exportID"), "SUCCEEDED")
	sheet, err := os.ReadFile(filepath.Join(bucket, "out.csv"))
	require.NoError(w.t, err)
	require.Contains(w.t, string(sheet), w.one.id)
	require.Empty(w.t, w.items("ListExportErrors", object{"exportID": at(w.t, started, "exportTask", "exportID")}))

	changed := strings.ReplaceAll(string(sheet), "of one", "of two")
	require.NotEqual(w.t, string(sheet), changed)
	require.NoError(w.t, os.WriteFile(filepath.Join(bucket, "in.csv"), []byte(changed), 0o600))
	in := object{"s3BucketSource": object{"s3Bucket": "plans", "s3Key": "in.csv"}, "clientToken": "once"}
	started = w.ok("StartImport", in)
	task := at(w.t, started, "importTask", "importID")
	require.Equal(w.t, task, at(w.t, w.ok("StartImport", in), "importTask", "importID"), "the token makes it one")
	w.finished("ListImports", "importID", task, "SUCCEEDED")
	require.Equal(w.t, "of two", at(w.t, w.items("ListWaves", nil), 0, "description"))

	require.NoError(w.t, os.WriteFile(filepath.Join(bucket, "bad.csv"), []byte("mgn:wave:name,mgn:wave:colour\nfirst,red\n"), 0o600))
	started = w.ok("StartImport", object{"s3BucketSource": object{"s3Bucket": "plans", "s3Key": "bad.csv"}})
	task = at(w.t, started, "importTask", "importID")
	w.finished("ListImports", "importID", task, "FAILED")
	errors := w.items("ListImportErrors", object{"importID": task})
	require.Contains(w.t, at(w.t, errors, 0, "errorData", "rawError"), "mgn:wave:colour")
}

func (w *mgnWalk) finished(list, name string, id any, status string) {
	w.t.Helper()
	harness.Eventually(w.t, 30*time.Second, list+" shows "+status, func() (bool, string) {
		for _, item := range w.items(list, nil) {
			if at(w.t, item, name) == id {
				is, _ := at(w.t, item, "status").(string)
				return is == status, is
			}
		}
		return false, "it is not listed"
	})
}

// launches: what needs a machine says so, and makes no job.
func (w *mgnWalk) launches() {
	ids := object{"sourceServerIDs": []string{w.one.id}}
	for operation, code := range map[string]string{"StartTest": "ValidationException", "StartCutover": "ConflictException", "TerminateTargetInstances": "ConflictException"} {
		w.refused(code, operation, ids)
	}
	w.refused("ConflictException", "ChangeServerLifeCycleState", object{"sourceServerID": w.one.id, "lifeCycle": object{"state": "CUTOVER"}})
	w.refused("ConflictException", "FinalizeCutover", w.id())
	require.Empty(w.t, w.items("DescribeJobs", nil))
	w.refused("ResourceNotFoundException", "DeleteJob", object{"jobID": "mgnjob-00000000000000000"})
	w.refused("ValidationException", "DescribeJobLogItems", object{"jobID": "mgnjob-00000000000000000"})
}

func (w *mgnWalk) replication() {
	w.refused("ValidationException", "RetryDataReplication", w.id())
	w.refused("ConflictException", "StartReplication", w.id())
	if !w.has("PauseReplication") {
		return
	}
	paused := w.ok("PauseReplication", w.id())
	require.Equal(w.t, "PAUSED", at(w.t, paused, "dataReplicationInfo", "dataReplicationState"))
	w.refused("ConflictException", "PauseReplication", w.id())
	w.ok("ResumeReplication", w.id())
	w.until("CONTINUOUS")
	stopped := w.ok("StopReplication", w.id())
	require.Equal(w.t, "STOPPED", at(w.t, stopped, "dataReplicationInfo", "dataReplicationState"))
	started := w.ok("StartReplication", w.id())
	require.Equal(w.t, "INITIATING", at(w.t, started, "dataReplicationInfo", "dataReplicationState"))
	w.until("CONTINUOUS")
}

func (w *mgnWalk) leave() {
	w.refused("ConflictException", "DeleteSourceServer", w.id())
	gone := w.ok("DisconnectFromService", w.id())
	require.Equal(w.t, "DISCONNECTED", at(w.t, gone, "lifeCycle", "state"))
	w.one.agentLeaves(w.t)
	require.Equal(w.t, true, w.ok("ArchiveWave", w.wave)["isArchived"])
	require.Equal(w.t, false, w.ok("UnarchiveWave", w.wave)["isArchived"])
	require.Equal(w.t, true, w.ok("ArchiveApplication", w.application)["isArchived"])
	require.Equal(w.t, false, w.ok("UnarchiveApplication", w.application)["isArchived"])
	require.Equal(w.t, true, w.ok("MarkAsArchived", w.id())["isArchived"])
	require.Empty(w.t, w.items("DescribeSourceServers", nil), "archived servers are shown when asked for")
	w.ok("DisassociateSourceServers", object{"applicationID": w.application["applicationID"], "sourceServerIDs": []string{w.one.id}})
	w.ok("DisassociateApplications", object{"waveID": w.wave["waveID"], "applicationIDs": []any{w.application["applicationID"]}})
	w.ok("DeleteApplication", w.application)
	w.ok("DeleteWave", w.wave)
	w.ok("DeleteSourceServer", w.id())
	w.refused("ResourceNotFoundException", "GetReplicationConfiguration", w.id())
	w.ok("DeleteReplicationConfigurationTemplate", object{"replicationConfigurationTemplateID": w.template})
}
