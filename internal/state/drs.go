package state

import (
	"context"
	"time"
)

// DRSLaunchSettings are what a launch configuration and its template have in common.
type DRSLaunchSettings struct {
	LaunchDisposition string // STOPPED or STARTED
	RightSizing       string // NONE, BASIC or IN_AWS
	CopyPrivateIP     bool
	CopyTags          bool
	OSByol            bool
	PostLaunchEnabled bool
}

// DRSLaunchTemplate is DRS's launch configuration template.
type DRSLaunchTemplate struct {
	ID                       string
	Scope                    Scope
	CreatedAt                time.Time
	Tags                     map[string]string
	Settings                 DRSLaunchSettings
	ExportBucketARN          string
	LaunchIntoSourceInstance bool
}

// DRSLaunchConfig is how one DRS source server is launched.
type DRSLaunchConfig struct {
	ServerID            string
	Scope               Scope
	Name                string
	EC2LaunchTemplateID string
	Settings            DRSLaunchSettings
	LaunchIntoInstance  string // id of an existing machine to launch into; empty launches a new one
}

// DRSLaunchAction is what is to be done on a launched machine. Resource is the server or template it
// belongs to.
type DRSLaunchAction struct {
	Resource    string
	Scope       Scope
	ID          string
	Code        string
	Version     string
	Name        string
	Description string
	Category    string
	Type        string // SSM_AUTOMATION or SSM_COMMAND
	Order       int32
	Active      bool
	Optional    bool
	Parameters  map[string]DRSActionParameter
}

// DRSActionParameter is where a parameter's value is found.
type DRSActionParameter struct {
	Type  string // SSM_STORE or DYNAMIC
	Value string
}

// Events that only DRS logs in a job.
const (
	UsingPreviousSnapshotFailed JobEventName = "USING_PREVIOUS_SNAPSHOT_FAILED"
	UpdateLaunchTemplateStart   JobEventName = "UPDATE_LAUNCH_TEMPLATE_START"
	UpdateLaunchTemplateEnd     JobEventName = "UPDATE_LAUNCH_TEMPLATE_END"
	UpdateLaunchTemplateFailed  JobEventName = "UPDATE_LAUNCH_TEMPLATE_FAILED"
	NetworkRecoveryFail         JobEventName = "NETWORK_RECOVERY_FAIL"
)

// NetworkStatus is a source network's replicationStatus.
type NetworkStatus string

// The statuses. Their transitions are a table in control/networks.
const (
	NetworkStopped    NetworkStatus = "STOPPED"
	NetworkInProgress NetworkStatus = "IN_PROGRESS"
	NetworkProtected  NetworkStatus = "PROTECTED"
	NetworkError      NetworkStatus = "ERROR"
)

// NetworkStatuses lists all of them.
var NetworkStatuses = []NetworkStatus{NetworkStopped, NetworkInProgress, NetworkProtected, NetworkError}

// SourceNetwork is the record of a network that source servers are in.
type SourceNetwork struct {
	ID            string
	Scope         Scope
	CreatedAt     time.Time
	Tags          map[string]string
	VPCID         string
	OriginAccount string
	OriginRegion  string
	Status        NetworkStatus
	StatusDetails string
	// Facts are what was found of the network when it was last looked at; ObservedAt is when.
	Facts        NetworkFacts
	ObservedAt   time.Time
	StackName    string
	LastRecovery NetworkRecovery
}

// NetworkFacts are the addresses of the source servers of a network, the ways that lead out of it, and whom its servers ask
// for names.
type NetworkFacts struct {
	Hosts []NetworkHost
}

// NetworkHost is one source server's part of a network.
type NetworkHost struct {
	ServerID string
	Hostname string
	NICs     []NIC
	Routes   []Route  `json:",omitempty"` // by routers in the network
	Resolver Resolver `json:",omitzero"`
}

// NetworkRecovery is a source network's lastRecovery; a zero time is absent.
type NetworkRecovery struct {
	At     time.Time
	JobID  string
	Result string
}

// Extension links a source server of one account to the server that it extends in another, where its data
// is staged.
type Extension struct {
	ServerID       string
	Scope          Scope // of the extended server
	StagingAccount string
	StagingServer  string
}

// RecoveryInstanceState is ec2InstanceState of a recovery instance.
type RecoveryInstanceState string

// The states. Their transitions are a table in control/recovery.
const (
	RIPending      RecoveryInstanceState = "PENDING"
	RIRunning      RecoveryInstanceState = "RUNNING"
	RIStopping     RecoveryInstanceState = "STOPPING"
	RIStopped      RecoveryInstanceState = "STOPPED"
	RIShuttingDown RecoveryInstanceState = "SHUTTING-DOWN"
	RITerminated   RecoveryInstanceState = "TERMINATED"
	RINotFound     RecoveryInstanceState = "NOT_FOUND"
)

// RecoveryInstanceStates lists all of them.
var RecoveryInstanceStates = []RecoveryInstanceState{RIPending, RIRunning, RIStopping, RIStopped, RIShuttingDown, RITerminated, RINotFound}

// FailbackState is where a recovery instance stands on its way back.
type FailbackState string

// The states. Their transitions are a table in control/failback.
const (
	FailbackNotStarted     FailbackState = "FAILBACK_NOT_STARTED"
	FailbackInProgress     FailbackState = "FAILBACK_IN_PROGRESS"
	FailbackReadyForLaunch FailbackState = "FAILBACK_READY_FOR_LAUNCH"
	FailbackCompleted      FailbackState = "FAILBACK_COMPLETED"
	FailbackError          FailbackState = "FAILBACK_ERROR"
	FailbackNotReady       FailbackState = "FAILBACK_NOT_READY_FOR_LAUNCH"
	FailbackNotAvailable   FailbackState = "FAILBACK_LAUNCH_STATE_NOT_AVAILABLE"
)

// States of data replication that only a recovery instance has.
const (
	ReplicationNotStarted   ReplicationState = "NOT_STARTED"
	ReplicationNotAvailable ReplicationState = "REPLICATION_STATE_NOT_AVAILABLE"
)

// FailbackStates lists all of them.
var FailbackStates = []FailbackState{FailbackNotStarted, FailbackInProgress, FailbackReadyForLaunch, FailbackCompleted,
	FailbackError, FailbackNotReady, FailbackNotAvailable}

// RecoveryInstance is a machine that was launched from a source server's data.
type RecoveryInstance struct {
	ID              string // of the launched machine
	Scope           Scope
	ServerID        string
	JobID           string
	CreatedAt       time.Time
	Tags            map[string]string
	State           RecoveryInstanceState
	Drill           bool
	PointAt         time.Time // what its data was true for
	OriginAWS       bool      // whether the source server was an instance in AWS
	AgentVersion    string
	AgentLastSeenAt time.Time
	Disconnected    bool
	Properties      SourceProperties
	Disks           []RecoveryDisk
	Failback        Failback
}

// RecoveryDisk is a disk of a recovery instance.
type RecoveryDisk struct {
	DeviceName string
	Bytes      uint64
	VolumeID   string
}

// Failback is a recovery instance's way back and its configuration.
type Failback struct {
	State           FailbackState
	Config          FailbackConfig
	ClientID        string
	JobID           string
	InitiatedAt     time.Time
	FirstByteAt     time.Time
	ClientSeenAt    time.Time
	ToOriginal      bool
	LaunchType      string // RECOVERY or DRILL
	Replication     ReplicationState
	Error           *ReplicationError
	ReversedServer  string // the source server that replicates in reverse
	ReversedAccount string
}

// FailbackConfig is how a recovery instance's data is sent back.
type FailbackConfig struct {
	Name             string
	BandwidthMbps    int64
	UsePrivateIP     bool
	InternetProtocol string
}

// SourceNetworkFilter narrows a list of source networks; a zero member does not.
type SourceNetworkFilter struct {
	IDs                         []string
	OriginAccount, OriginRegion string
}

// RecoveryInstanceFilter narrows a list of recovery instances; a zero member does not.
type RecoveryInstanceFilter struct {
	IDs       []string
	ServerIDs []string
}

// DRSReader reads what only DRS has. It is part of Reader. Lists are oldest first unless they say otherwise.
type DRSReader interface {
	DRSLaunchConfig(ctx context.Context, serverID string) (DRSLaunchConfig, error)
	DRSLaunchTemplate(ctx context.Context, s Scope, id string) (DRSLaunchTemplate, error)
	DRSLaunchTemplates(ctx context.Context, s Scope, p Page) (items []DRSLaunchTemplate, next string, err error)
	// DRSLaunchActions lists one resource's actions by order, then id.
	DRSLaunchActions(ctx context.Context, resource string, ids []string, p Page) (items []DRSLaunchAction, next string, err error)
	DRSLaunchAction(ctx context.Context, resource, id string) (DRSLaunchAction, error)

	SourceNetwork(ctx context.Context, s Scope, id string) (SourceNetwork, error)
	SourceNetworks(ctx context.Context, s Scope, f SourceNetworkFilter, p Page) (items []SourceNetwork, next string, err error)

	Extension(ctx context.Context, serverID string) (Extension, error)
	// Extensions are those of the given servers, in no order; servers that extend nothing are left out.
	Extensions(ctx context.Context, serverIDs []string) ([]Extension, error)
	// ExtensionsOf are the servers of a scope that extend one of the given servers of a staging account.
	ExtensionsOf(ctx context.Context, s Scope, stagingAccount string, serverIDs []string) ([]Extension, error)
	// StagingAccounts lists the accounts that a scope's servers are staged in, in order.
	StagingAccounts(ctx context.Context, s Scope, p Page) (items []string, next string, err error)

	RecoveryInstance(ctx context.Context, s Scope, id string) (RecoveryInstance, error)
	RecoveryInstances(ctx context.Context, s Scope, f RecoveryInstanceFilter, p Page) (items []RecoveryInstance, next string, err error)
}

// DRSTx writes what only DRS has. It is part of Tx. What belongs to a server goes with it.
type DRSTx interface {
	PutDRSLaunchConfig(ctx context.Context, c DRSLaunchConfig) error
	// PutDRSLaunchTemplate and DeleteDRSLaunchTemplate: a template's actions go with it.
	PutDRSLaunchTemplate(ctx context.Context, t DRSLaunchTemplate) error
	DeleteDRSLaunchTemplate(ctx context.Context, s Scope, id string) error
	PutDRSLaunchAction(ctx context.Context, a DRSLaunchAction) error
	DeleteDRSLaunchAction(ctx context.Context, resource, id string) error

	PutSourceNetwork(ctx context.Context, n SourceNetwork) error
	DeleteSourceNetwork(ctx context.Context, s Scope, id string) error

	// PutExtension refuses with fault.Conflict a second extension of one server in a scope.
	PutExtension(ctx context.Context, e Extension) error

	PutRecoveryInstance(ctx context.Context, i RecoveryInstance) error
	DeleteRecoveryInstance(ctx context.Context, s Scope, id string) error
}
