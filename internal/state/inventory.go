package state

import (
	"context"
	"time"
)

// Migration is what MGN keeps of a source server besides its replication.
type Migration struct {
	ApplicationID   string
	ActionFQDN      string // what post-launch actions and connectors reach the machine by; empty: what its agent says
	Platform        string // linux or windows, of an import; an agent knows better
	Connector       ConnectorAction
	VcenterClientID string
	Launched        LaunchedInstance
}

// ConnectorAction says which connector acts on a server, and with what credentials.
type ConnectorAction struct {
	ConnectorARN         string
	CredentialsSecretARN string
}

// LaunchedInstance is the machine that a server's last launch made; empty when there is none.
type LaunchedInstance struct {
	InstanceID string
	JobID      string
	FirstBoot  string // WAITING, SUCCEEDED, UNKNOWN or STOPPED
}

// Application groups source servers that are migrated together.
type Application struct {
	ID          string
	Scope       Scope
	Name        string // no two of a scope have the same
	Description string
	WaveID      string // empty: of no wave
	Archived    bool
	Tags        map[string]string
	CreatedAt   time.Time
	ModifiedAt  time.Time
}

// Wave groups applications that are migrated in one go.
type Wave struct {
	ID          string
	Scope       Scope
	Name        string // no two of a scope have the same
	Description string
	Archived    bool
	Tags        map[string]string
	CreatedAt   time.Time
	ModifiedAt  time.Time
}

// Connector is a machine that installs agents on others.
type Connector struct {
	ID            string
	Scope         Scope
	Name          string
	SSMInstanceID string
	Command       *SSMCommand // nil: none was given
	Tags          map[string]string
	CreatedAt     time.Time
}

// SSMCommand is where a connector's commands leave their output.
type SSMCommand struct {
	S3Output       bool
	S3Bucket       string
	CloudWatch     bool
	CloudWatchName string
}

// VcenterClient is a machine that replicates the virtual machines of a vCenter without agents.
type VcenterClient struct {
	ID         string
	Scope      Scope
	Hostname   string
	UUID       string
	Datacenter string
	LastSeenAt time.Time
	ServerTags map[string]string // of the servers that it finds
	Tags       map[string]string
	CreatedAt  time.Time
}

// Members counts the servers of one application or wave that are in the same states.
type Members struct {
	Of          string // the application's or wave's id
	LifeCycle   LifeCycleState
	Replication ReplicationState // empty: no agent has ever registered
	Count       int
	FirstByteAt time.Time // the earliest of them; zero: none has sent anything
}

// ApplicationFilter narrows a list of applications; a zero member does not.
type ApplicationFilter struct {
	IDs      []string
	WaveIDs  []string
	Archived *bool
}

// WaveFilter narrows a list of waves; a zero member does not.
type WaveFilter struct {
	IDs      []string
	Archived *bool
}

// InventoryReader reads MGN's inventory. It is part of Reader. Lists are oldest first.
type InventoryReader interface {
	Application(ctx context.Context, s Scope, id string) (Application, error)
	ApplicationByName(ctx context.Context, s Scope, name string) (Application, error)
	Applications(ctx context.Context, s Scope, f ApplicationFilter, p Page) (items []Application, next string, err error)
	CountApplications(ctx context.Context, s Scope, archived bool) (int, error)
	// CountInWaves counts the applications of each wave; a wave without any is not in the answer.
	CountInWaves(ctx context.Context, s Scope, waveIDs []string) (map[string]int, error)

	Wave(ctx context.Context, s Scope, id string) (Wave, error)
	WaveByName(ctx context.Context, s Scope, name string) (Wave, error)
	Waves(ctx context.Context, s Scope, f WaveFilter, p Page) (items []Wave, next string, err error)
	CountWaves(ctx context.Context, s Scope, archived bool) (int, error)

	// ApplicationMembers and WaveMembers count the servers of applications and waves by their states.
	ApplicationMembers(ctx context.Context, s Scope, applicationIDs []string) ([]Members, error)
	WaveMembers(ctx context.Context, s Scope, waveIDs []string) ([]Members, error)

	Connector(ctx context.Context, s Scope, id string) (Connector, error)
	Connectors(ctx context.Context, s Scope, ids []string, p Page) (items []Connector, next string, err error)

	VcenterClient(ctx context.Context, s Scope, id string) (VcenterClient, error)
	VcenterClients(ctx context.Context, s Scope, p Page) (items []VcenterClient, next string, err error)

	// InitialisedAccounts lists the accounts in which a service was initialised.
	InitialisedAccounts(ctx context.Context, service Service, p Page) (accounts []string, next string, err error)
}

// InventoryTx writes MGN's inventory. It is part of Tx.
type InventoryTx interface {
	// PutApplication and PutWave refuse with fault.Conflict a second of one name in a scope.
	PutApplication(ctx context.Context, v Application) error
	DeleteApplication(ctx context.Context, s Scope, id string) error
	PutWave(ctx context.Context, v Wave) error
	DeleteWave(ctx context.Context, s Scope, id string) error
	PutConnector(ctx context.Context, v Connector) error
	DeleteConnector(ctx context.Context, s Scope, id string) error
	PutVcenterClient(ctx context.Context, v VcenterClient) error
	DeleteVcenterClient(ctx context.Context, s Scope, id string) error
}

// MGNReader is what only MGN keeps. It is part of Reader.
type MGNReader interface {
	InventoryReader
	ActionReader
	MGNLaunchReader
	TransferReader
	NetworkReader
}

// MGNTx is what only MGN keeps. It is part of Tx.
type MGNTx interface {
	InventoryTx
	ActionTx
	MGNLaunchTx
	TransferTx
	NetworkTx
}
