package drsapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
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
