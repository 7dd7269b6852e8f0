package main

const (
	noLaunch = "Launches need a launch provider. Where none is configured everything is checked, no job is made, and the last answer is a " +
		"declared error that says so."
	ownData = "Recovery points are positions in the journal, not EBS snapshots: `ebsSnapshots` is empty."
)

// drsNotes say where an operation differs from the real service, and why.
var drsNotes = map[string]string{
	"AssociateSourceNetworkStack": "Notes the stack's name. There is no CloudFormation to ask for the stack's subnets, so launch templates stay as they " +
		"are; the job's log says so and `lastRecoveryResult` is PARTIAL_SUCCESS.",
	"CreateExtendedSourceServer": "Between accounts of one installation. The staging account allows it by a role named DRSStagingAccountRole_ and the other " +
		"account's id, as in AWS.",
	"CreateLaunchConfigurationTemplate": "One per account, as in AWS.",
	"CreateReplicationConfigurationTemplate": "Subnet, security groups, instance type, disk types and encryption describe cloud resources: they are kept and " +
		"shown, and do nothing here.",
	"CreateSourceNetwork": "There is no VPC to read: the network is the addresses of source servers in the prefixes of the tag `understudy:prefixes`, or of all " +
		"servers without it, with their prefixes, routes by a router and name servers, as agents report them.",
	"DescribeRecoveryInstances": "`ebsVolumeID` names a disk image.",
	"DescribeRecoverySnapshots": ownData + " Default order is the newest first; AWS documents none. Application-consistent points are listed like any other: the shape has no member for it.",
	"DescribeSourceNetworks":    "What is in a network is looked at again when it is shown, at most once a minute.",
	"DisconnectSourceServer":    "Staging is removed at once, not within 90 minutes.",
	"ExportSourceNetworkCfnTemplate": "Writes a template with a VPC, the subnets found, a route table, one security group in which everybody reaches everybody, and the name servers. Addresses of " +
		"several networks are in secondary blocks of the VPC, up to its quota of five; where AWS does not let one VPC have them, as 10.0.0.0/8 and 192.168.0.0/16, there are several VPCs. A " +
		"router's network interface, and whether there is an internet gateway, are parameters: they have no names here. The bucket is one of the S3-compatible " +
		"service or of the directory that the installation is configured with; the URL begins with `s3://`.",
	"GetLaunchConfiguration":      "`ec2LaunchTemplateID` names a launch template of this endpoint's EC2 service.",
	"GetReplicationConfiguration": "See CreateReplicationConfigurationTemplate.",
	"InitializeService":           "Makes no IAM roles: there are none to make.",
	"PutLaunchAction": "Actions are kept and copied from the template to new servers. The type is judged by the document's name: AWS's own documents for " +
		"launched machines are automations, all others commands.",
	"RetryDataReplication": "Works on a STALLED server only, as in MGN: the two lines that DRS has on this contradict each other.",
	"ReverseReplication":   "Refused after all checks: nothing here receives data in AWS. What was recovered on one's own hardware fails back with the failback client.",
	"StartFailbackLaunch":  noLaunch,
	"StartRecovery":        noLaunch,
	"StartReplication": "Steps that make cloud resources do what stands for them here: access for the agent, the data listener, the journal. SKIPPED are those " +
		"whose result was there.",
	"StartSourceNetworkRecovery":             "Refused after all checks: nothing here deploys networks. Export the template and build from it.",
	"StartSourceNetworkReplication":          "Follows the addresses, routes and name servers of the network's source servers.",
	"StopReplication":                        "The journal with all its recovery points is removed, as the real service removes snapshots.",
	"TerminateRecoveryInstances":             noLaunch,
	"UpdateLaunchConfiguration":              "The target machine of `launchIntoInstanceProperties` is kept; whether it can be launched into is checked at the launch.",
	"UpdateReplicationConfiguration":         "See CreateReplicationConfigurationTemplate. `bandwidthThrottling` and `pitPolicy` take effect.",
	"UpdateReplicationConfigurationTemplate": "See CreateReplicationConfigurationTemplate.",
}
