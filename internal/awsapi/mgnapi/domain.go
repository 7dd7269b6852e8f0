package mgnapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// Domain is what the operations act on.
type Domain struct {
	Servers         control.Servers
	Replication     control.Replication
	Templates       control.Templates
	Accounts        control.Accounts
	Applications    Applications
	Waves           Waves
	Connectors      Connectors
	VcenterClients  VcenterClients
	Inventory       Inventory
	LaunchTemplates LaunchTemplates
	LaunchConfigs   LaunchConfigs
	Actions         Actions
	Jobs            Jobs
	Launches        Launches
	Networks        Networks
	Transfers       Transfers
	Imports         wireform.Keeper[state.Transfer]
	Exports         wireform.Keeper[state.Transfer]
	// ManagementAccount may act for the other accounts of the installation; empty: none may.
	ManagementAccount string
	Region            string
	Now               func() time.Time // time.Now when nil
}

// Applications keeps applications.
type Applications interface {
	wireform.Keeper[state.Application]
	Create(ctx context.Context, s state.Scope, name, description string, tags map[string]string) (inventory.Application, error)
	Update(ctx context.Context, s state.Scope, id string, name, description *string) (inventory.Application, error)
	Archive(ctx context.Context, s state.Scope, id string) (inventory.Application, error)
	Unarchive(ctx context.Context, s state.Scope, id string) (inventory.Application, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, f state.ApplicationFilter, p state.Page) ([]inventory.Application, string, error)
	Associate(ctx context.Context, s state.Scope, id string, serverIDs []string) error
	Disassociate(ctx context.Context, s state.Scope, id string, serverIDs []string) error
}

// Waves keeps waves.
type Waves interface {
	wireform.Keeper[state.Wave]
	Create(ctx context.Context, s state.Scope, name, description string, tags map[string]string) (inventory.Wave, error)
	Update(ctx context.Context, s state.Scope, id string, name, description *string) (inventory.Wave, error)
	Archive(ctx context.Context, s state.Scope, id string) (inventory.Wave, error)
	Unarchive(ctx context.Context, s state.Scope, id string) (inventory.Wave, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, f state.WaveFilter, p state.Page) ([]inventory.Wave, string, error)
	Associate(ctx context.Context, s state.Scope, id string, applicationIDs []string) error
	Disassociate(ctx context.Context, s state.Scope, id string, applicationIDs []string) error
}

// Connectors keeps connectors.
type Connectors interface {
	wireform.Keeper[state.Connector]
	Create(ctx context.Context, s state.Scope, name, instanceID string, c *state.SSMCommand, tags map[string]string) (state.Connector, error)
	Update(ctx context.Context, s state.Scope, id string, name *string, c *state.SSMCommand) (state.Connector, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.Connector, string, error)
}

// VcenterClients keeps vCenter clients.
type VcenterClients interface {
	wireform.Keeper[state.VcenterClient]
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, p state.Page) ([]state.VcenterClient, string, error)
}

// Inventory changes what people say of a server.
type Inventory interface {
	SetConnectorAction(ctx context.Context, s state.Scope, id string, a *state.ConnectorAction) error
	SetReplicationType(ctx context.Context, s state.Scope, id, to string) error
	// Accounts lists those that the service was initialised for.
	Accounts(ctx context.Context, p state.Page) ([]string, string, error)
}

// LaunchTemplates keeps launch configuration templates.
type LaunchTemplates interface {
	wireform.Keeper[state.MGNLaunchTemplate]
	Create(ctx context.Context, s state.Scope, p launchconfig.MGNPatch, tags map[string]string) (state.MGNLaunchTemplate, error)
	Update(ctx context.Context, s state.Scope, id string, p launchconfig.MGNPatch) (state.MGNLaunchTemplate, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.MGNLaunchTemplate, string, error)
}

// LaunchConfigs keeps how each server is launched.
type LaunchConfigs interface {
	Get(ctx context.Context, s state.Scope, serverID string) (launchconfig.MGNConfig, error)
	Update(ctx context.Context, s state.Scope, serverID string, p launchconfig.MGNPatch) (launchconfig.MGNConfig, error)
}

// Actions keeps what is to be done on launched machines, by server or template.
type Actions interface {
	Put(ctx context.Context, s state.Scope, a state.PostLaunchAction) (state.PostLaunchAction, error)
	List(ctx context.Context, s state.Scope, owner string, ids []string, p state.Page) ([]state.PostLaunchAction, string, error)
	Remove(ctx context.Context, s state.Scope, owner, id string) error
}

// Jobs keeps jobs and their logs.
type Jobs interface {
	wireform.Keeper[state.Job]
	List(ctx context.Context, s state.Scope, f state.JobFilter, p state.Page) ([]state.Job, string, error)
	Log(ctx context.Context, s state.Scope, id string, p state.Page) ([]state.JobEvent, string, error)
	Delete(ctx context.Context, s state.Scope, id string) error
}

// Launches makes the jobs of tests, cutovers and terminations.
type Launches interface {
	StartTest(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error)
	StartCutover(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error)
	Terminate(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error)
	FinalizeCutover(ctx context.Context, s state.Scope, id string) error
}

// Networks keeps the definitions of network migrations.
type Networks interface {
	wireform.Keeper[state.NetworkMigration]
	Create(ctx context.Context, s state.Scope, p networkmigration.Patch, tags map[string]string) (state.NetworkMigration, error)
	Update(ctx context.Context, s state.Scope, id string, p networkmigration.Patch) (state.NetworkMigration, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	List(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.NetworkMigration, string, error)
	Executions(ctx context.Context, s state.Scope, id string, f state.ExecutionFilter, p state.Page) ([]state.NetworkExecution, string, error)
	Has(ctx context.Context, s state.Scope, id, execution string) error
	Segment(ctx context.Context, s state.Scope, id, execution, segment string) error
	Start(ctx context.Context, s state.Scope, id, execution, what string) error
}

// Transfers imports and exports the inventory.
type Transfers interface {
	StartImport(ctx context.Context, s state.Scope, r transfer.Request) (state.Transfer, error)
	StartExport(ctx context.Context, s state.Scope, r transfer.Request) (state.Transfer, error)
	List(ctx context.Context, s state.Scope, k state.TransferKind, ids []string, p state.Page) ([]state.Transfer, string, error)
	Errors(ctx context.Context, s state.Scope, k state.TransferKind, id string, p state.Page) ([]state.TransferError, string, error)
}
