package drsapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/state"
)

// Domain is what the operations act on.
type Domain struct {
	Servers         control.Servers
	Replication     control.Replication
	Templates       control.Templates
	Points          control.Points
	Accounts        control.Accounts
	LaunchTemplates LaunchTemplates
	LaunchConfigs   LaunchConfigs
	LaunchActions   LaunchActions
	Jobs            Jobs
	Networks        Networks
	Extensions      Extensions
	Recoveries      Recoveries
	Failbacks       Failbacks
	Region          string
	Now             func() time.Time // time.Now when nil
}

// LaunchTemplates keeps launch configuration templates.
type LaunchTemplates interface {
	wireform.Keeper[state.DRSLaunchTemplate]
	Create(ctx context.Context, s state.Scope, p launchconfig.DRSPatch, tags map[string]string) (state.DRSLaunchTemplate, error)
	List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.DRSLaunchTemplate, next string, err error)
	Update(ctx context.Context, s state.Scope, id string, p launchconfig.DRSPatch) (state.DRSLaunchTemplate, error)
	Delete(ctx context.Context, s state.Scope, id string) error
}

// LaunchConfigs keeps how each server is launched.
type LaunchConfigs interface {
	Get(ctx context.Context, s state.Scope, serverID string) (launchconfig.DRSConfig, error)
	Update(ctx context.Context, s state.Scope, serverID string, p launchconfig.DRSPatch) (launchconfig.DRSConfig, error)
}

// LaunchActions keeps what is to be done on launched machines.
type LaunchActions interface {
	Put(ctx context.Context, s state.Scope, a state.DRSLaunchAction) (state.DRSLaunchAction, error)
	List(ctx context.Context, s state.Scope, resource string, ids []string, p state.Page) (items []state.DRSLaunchAction, next string, err error)
	Delete(ctx context.Context, s state.Scope, resource, id string) error
}

// Jobs keeps jobs and their logs.
type Jobs interface {
	wireform.Keeper[state.Job]
	List(ctx context.Context, s state.Scope, f state.JobFilter, p state.Page) (items []state.Job, next string, err error)
	Log(ctx context.Context, s state.Scope, id string, p state.Page) (items []state.JobEvent, next string, err error)
	Delete(ctx context.Context, s state.Scope, id string) error
}

// Networks keeps source networks.
type Networks interface {
	wireform.Keeper[state.SourceNetwork]
	Create(ctx context.Context, s state.Scope, vpcID, originAccount, originRegion string, tags map[string]string) (state.SourceNetwork, error)
	List(ctx context.Context, s state.Scope, f state.SourceNetworkFilter, p state.Page) (items []state.SourceNetwork, next string, err error)
	Start(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error)
	Stop(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	Recover(ctx context.Context, s state.Scope, list []networks.Recovery) error
	Associate(ctx context.Context, s state.Scope, id, stack string) (state.Job, error)
	Export(ctx context.Context, s state.Scope, id string) (url string, err error)
	// Of tells which network each of the given servers is in, by id; some are in none.
	Of(ctx context.Context, s state.Scope, servers []state.Server) (map[string]string, error)
}

// Extensions keeps source servers that are staged in other accounts. Servers, Replication and Points of a Domain
// know of them too.
type Extensions interface {
	Extend(ctx context.Context, s state.Scope, stagingAccount, stagingServer string, tags map[string]string) (state.Server, error)
	Extensible(ctx context.Context, s state.Scope, stagingAccount string, p state.Page) (items []state.Server, next string, err error)
	StagingAccounts(ctx context.Context, s state.Scope, p state.Page) (items []string, next string, err error)
	// Links are those of the given servers that extend another, by id.
	Links(ctx context.Context, servers []state.Server) (map[string]extended.Link, error)
}

// Recoveries keeps recovery instances and recovers servers.
type Recoveries interface {
	wireform.Keeper[state.RecoveryInstance]
	List(ctx context.Context, s state.Scope, f state.RecoveryInstanceFilter, p state.Page) (items []state.RecoveryInstance, next string, err error)
	Start(ctx context.Context, s state.Scope, targets []recovery.Target, drill bool, tags map[string]string) (state.Job, error)
	Terminate(ctx context.Context, s state.Scope, ids []string) (state.Job, error)
	Disconnect(ctx context.Context, s state.Scope, id string) error
	Delete(ctx context.Context, s state.Scope, id string) error
}

// Failbacks operates the way back of recovery instances.
type Failbacks interface {
	Config(ctx context.Context, s state.Scope, id string) (state.FailbackConfig, error)
	UpdateConfig(ctx context.Context, s state.Scope, id string, p failback.Patch) error
	Stop(ctx context.Context, s state.Scope, id string) error
	Launch(ctx context.Context, s state.Scope, ids []string, tags map[string]string) (state.Job, error)
	Reverse(ctx context.Context, s state.Scope, id string) error
}
