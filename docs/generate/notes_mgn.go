package main

const (
	noMapping = "Refused: mapping networks onto a cloud's, generating code for it and deploying that have no meaning on one's own hardware. Definitions and " +
		"executions are kept."
	buckets = "The bucket is one of the S3-compatible service or of the directory that the installation is configured with."
)

// mgnNotes say where an operation differs from the real service, and why.
var mgnNotes = map[string]string{
	"CreateConnector": "Keeps the record. Nothing here runs commands over Systems Manager; agents are installed with `understudy agent`.",
	"CreateReplicationConfigurationTemplate": "Subnet, security groups, instance type, disk types and encryption describe cloud resources: they are kept and " +
		"shown, and do nothing here.",
	"DescribeVcenterClients":                      "Agentless replication of vCenter's machines comes later: there are none until then.",
	"DisconnectFromService":                       "Staging is removed at once, not within 90 minutes.",
	"GetReplicationConfiguration":                 "See CreateReplicationConfigurationTemplate.",
	"InitializeService":                           "Makes no IAM roles: there are none to make.",
	"GetNetworkMigrationMapperSegmentConstruct":   noMapping,
	"ListManagedAccounts":                         "The accounts of this installation that the caller's may act in.",
	"ListNetworkMigrationMapperSegmentConstructs": noMapping,
	"PutSourceServerAction":                       "Kept and copied from the template to new servers. Actions run when a launch provider launches.",
	"PutTemplateAction":                           "Kept and copied from the template to new servers. Actions run when a launch provider launches.",
	"RetryDataReplication":                        "Steps that make cloud resources do what stands for them here: access for the agent, the data listener, the journal.",
	"StartCutover":                                noLaunch,
	"StartExport":                                 buckets,
	"StartImport":                                 buckets,
	"StartImportFileEnrichment":                   noMapping,
	"StartNetworkMigrationAnalysis":               noMapping,
	"StartNetworkMigrationCodeGeneration":         noMapping,
	"StartNetworkMigrationDeployment":             noMapping,
	"StartNetworkMigrationMapping":                noMapping,
	"StartNetworkMigrationMappingUpdate":          noMapping,
	"StartReplication": "Steps that make cloud resources do what stands for them here: access for the agent, the data listener, the journal. SKIPPED are those " +
		"whose result was there.",
	"StartTest":                              noLaunch,
	"StopReplication":                        "The journal with all its recovery points is removed, as the real service removes snapshots.",
	"TerminateTargetInstances":               noLaunch,
	"UpdateNetworkMigrationMapperSegment":    noMapping,
	"UpdateReplicationConfiguration":         "See CreateReplicationConfigurationTemplate. `bandwidthThrottling` takes effect.",
	"UpdateReplicationConfigurationTemplate": "See CreateReplicationConfigurationTemplate.",
}
