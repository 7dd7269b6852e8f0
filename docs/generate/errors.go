package main

import (
	"fmt"
	"strings"
)

// failure is a value of dataReplicationError: what it says here, and how a test causes it.
type failure struct {
	code, when, caused string
}

const (
	network   = "over a network, real binaries: `e2e`, "
	inProcess = "real replication server, in process: `internal/control/replication`, TestRealFaults"
	scripted  = "; in fake time: `internal/control/replication`"
)

// failures are all of them, in the order of the models.
var failures = []failure{
	{"AGENT_NOT_SEEN", "No handshake came for a minute.", network + "TestNetworkLosesTheControlPort; agent stopped: TestAgentNotSeen"},
	{"SNAPSHOTS_FAILURE", "Data cannot be kept: no room, a damaged journal.", "real disks, real binaries: `e2e`, TestFullDisk"},
	{"NOT_CONVERGING", "Half an hour behind without getting nearer; or the copy began anew ten times within an hour, or three times over half an hour or longer, and was never complete.",
		network + "TestNetworkIsTooSlow (UNDERSTUDY_SLOW)" + scripted},
	{"UNSTABLE_NETWORK", "The data connection broke five times within ten minutes.", network + "TestNetworkLosesFullPackets, TestNetworkIsUnstable (UNDERSTUDY_SLOW)" + scripted},
	{"FAILED_TO_CREATE_SECURITY_GROUP", "The source server could not be let in.", inProcess + ". Not over a network: it is a list in the control plane's memory"},
	{"FAILED_TO_LAUNCH_REPLICATION_SERVER", "The data port could not be opened.", network + "TestNetworkDataPortIsTaken"},
	{"FAILED_TO_BOOT_REPLICATION_SERVER", "The data port does not answer its own server.", network + "TestNetworkServerCannotReachItself"},
	{"FAILED_TO_AUTHENTICATE_WITH_SERVICE", "The server's certificate is not one of its authority's.",
		inProcess + ". Not over a network: replication server and service are one process with one authority, so nothing in between can part them"},
	{"FAILED_TO_DOWNLOAD_REPLICATION_SOFTWARE", "Agent and server share no version of the wire format.",
		inProcess + ". Not over a network: nothing is downloaded, and a binary speaks all versions that there are"},
	{"FAILED_TO_CREATE_STAGING_DISKS", "The journal could not be made: no room, a journal of other disks, a damaged one.", "real disks, real binaries: `e2e`, TestFullDisk"},
	{"FAILED_TO_ATTACH_STAGING_DISKS", "The journal could not be opened.", inProcess + ". Not over a network: the disk would have to break between two steps"},
	{"FAILED_TO_PAIR_REPLICATION_SERVER_WITH_AGENT", "The agent is seen, and did not confirm the address that it was told within two minutes.",
		network + "TestNetworkSwallowsAnswers"},
	{"FAILED_TO_CONNECT_AGENT_TO_REPLICATION_SERVER", "The agent did not connect to the data port within five minutes.",
		network + "TestNetworkBlocksTheDataPort (UNDERSTUDY_SLOW)" + scripted},
	{"FAILED_TO_START_DATA_TRANSFER", "Connected, and nothing became durable within ten minutes.",
		"in fake time: `internal/control/replication`, TestAgentsSteps. Not over a network: what lets the handshake pass lets the first small frames pass, and data " +
			"has begun; what loses the rest is UNSTABLE_NETWORK"},
	{"UNSUPPORTED_VM_CONFIGURATION", "Of agentless replication (MGN).", "never told yet"},
	{"LAST_SNAPSHOT_JOB_FAILED", "Of agentless replication (MGN).", "never told yet"},
}

func failuresTable() string {
	var b strings.Builder
	b.WriteString("\n### Why it is STALLED\n\nThe values of `dataReplicationError`, and how a test causes each.\n\n| error | when | caused |\n|---|---|---|\n")
	for _, f := range failures {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", f.code, f.when, f.caused)
	}
	return b.String()
}
