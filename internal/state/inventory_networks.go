package state

import (
	"context"
	"time"
)

// NetworkMigration is the definition of a network's migration, kept as it was given.
type NetworkMigration struct {
	ID               string
	Scope            Scope
	Name             string
	Description      string
	Sources          []NetworkSource
	Topology         string // ISOLATED_VPC or HUB_AND_SPOKE
	InboundCIDR      string
	OutboundCIDR     string
	InspectionCIDR   string
	TargetDeployment string // SINGLE_ACCOUNT or MULTI_ACCOUNT
	TargetBucket     string
	TargetOwner      string
	ScopeTags        map[string]string
	Tags             map[string]string
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// NetworkSource is a file that describes the source network.
type NetworkSource struct {
	Environment        string // NSX, VSPHERE, ...
	Bucket, Key, Owner string
}

// NetworkExecution is one run of a definition.
type NetworkExecution struct {
	ID           string // a UUID
	Scope        Scope
	DefinitionID string
	Stage        string // MAPPING, ...
	Status       string // PENDING, STARTED, SUCCEEDED or FAILED
	Tags         map[string]string
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// ExecutionFilter narrows a list of executions; a zero member does not.
type ExecutionFilter struct {
	IDs      []string
	Statuses []string
}

// NetworkReader reads network migrations. It is part of Reader. Lists are newest first.
type NetworkReader interface {
	NetworkMigration(ctx context.Context, s Scope, id string) (NetworkMigration, error)
	NetworkMigrations(ctx context.Context, s Scope, ids []string, p Page) (items []NetworkMigration, next string, err error)
	CountNetworkMigrations(ctx context.Context, s Scope) (int, error)
	NetworkExecution(ctx context.Context, s Scope, definitionID, id string) (NetworkExecution, error)
	NetworkExecutions(ctx context.Context, s Scope, definitionID string, f ExecutionFilter, p Page) (items []NetworkExecution, next string, err error)
}

// NetworkTx writes network migrations. It is part of Tx.
type NetworkTx interface {
	PutNetworkMigration(ctx context.Context, v NetworkMigration) error
	// DeleteNetworkMigration takes its executions along.
	DeleteNetworkMigration(ctx context.Context, s Scope, id string) error
	PutNetworkExecution(ctx context.Context, v NetworkExecution) error
}
