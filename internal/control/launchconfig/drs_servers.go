package launchconfig

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// DRSServers keeps how each DRS source server is launched.
type DRSServers struct{ store state.Store }

// NewDRSServers returns the configurations in store.
func NewDRSServers(store state.Store) *DRSServers { return &DRSServers{store} }

// DRSConfig is one server's launch configuration. TemplateID names its EC2 launch template; empty when it
// has none.
type DRSConfig struct {
	state.DRSLaunchConfig
	TemplateID string
}

// Added gives a new DRS server the template's values and actions. It is a servers.Added.
func (d *DRSServers) Added(ctx context.Context, tx state.Tx, v state.Server) error {
	if v.Scope.Service != state.DRS {
		return nil
	}
	c, template, err := fresh(ctx, tx, v)
	if err != nil {
		return err
	}
	if err := tx.PutDRSLaunchConfig(ctx, c); err != nil || template == "" {
		return err
	}
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		actions, next, err := tx.DRSLaunchActions(ctx, template, nil, page)
		if err != nil {
			return err
		}
		for _, a := range actions {
			a.Resource = v.ID
			if err := tx.PutDRSLaunchAction(ctx, a); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

// fresh is what a server starts with, and the template it is from.
func fresh(ctx context.Context, r state.Reader, v state.Server) (c state.DRSLaunchConfig, template string, err error) {
	c = state.DRSLaunchConfig{ServerID: v.ID, Scope: v.Scope, Name: "Launch Configuration for Source Server " + v.ID, Settings: drsDefaults}
	have, _, err := r.DRSLaunchTemplates(ctx, v.Scope, state.Page{Limit: 1})
	if err != nil || len(have) == 0 {
		return c, "", err
	}
	c.Settings = have[0].Settings
	if have[0].LaunchIntoSourceInstance {
		c.LaunchIntoInstance = v.Properties.Hints.AWSInstanceID
	}
	return c, have[0].ID, nil
}

// Get returns one server's configuration.
func (d *DRSServers) Get(ctx context.Context, s state.Scope, id string) (out DRSConfig, err error) {
	err = d.store.View(ctx, func(r state.Reader) error {
		out, err = getConfig(ctx, r, s, id)
		return err
	})
	return out, fault.Wrap("launch configuration: get", err)
}

func getConfig(ctx context.Context, r state.Reader, s state.Scope, id string) (out DRSConfig, err error) {
	v, err := r.Server(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return out, control.Missing("launch configuration", control.SourceServer, id)
	}
	if err != nil {
		return out, err
	}
	out.DRSLaunchConfig, err = r.DRSLaunchConfig(ctx, id)
	if fault.Is(err, fault.NotFound) { // added by a version that kept none
		out.DRSLaunchConfig, _, err = fresh(ctx, r, v)
	}
	if err != nil {
		return out, err
	}
	t, err := r.LaunchTemplateByServer(ctx, s, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return out, err
	}
	out.TemplateID = t.ID
	return out, nil
}

// Update changes the members that p names; it takes effect at the next launch.
func (d *DRSServers) Update(ctx context.Context, s state.Scope, id string, p DRSPatch) (out DRSConfig, err error) {
	err = d.store.Update(ctx, func(tx state.Tx) error {
		if out, err = getConfig(ctx, tx, s, id); err != nil {
			return err
		}
		p.apply(&out.Settings)
		set(&out.Name, p.Name)
		set(&out.LaunchIntoInstance, p.LaunchIntoInstance)
		return tx.PutDRSLaunchConfig(ctx, out.DRSLaunchConfig)
	})
	return out, fault.Wrap("launch configuration: update", err)
}
