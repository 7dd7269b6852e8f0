package launchconfig

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// MGNServers keeps how each MGN source server is launched.
type MGNServers struct{ store state.Store }

// NewMGNServers returns the configurations in store.
func NewMGNServers(store state.Store) *MGNServers { return &MGNServers{store} }

// MGNConfig is one server's launch configuration. TemplateID names its EC2 launch template; empty when it has none.
type MGNConfig struct {
	state.MGNLaunchConfig
	ServerID   string
	TemplateID string
}

// Added gives a new MGN server the template's values, and the actions that are made for its operating system. It is a
// servers.Added.
func (m *MGNServers) Added(ctx context.Context, tx state.Tx, v state.Server) error {
	if v.Scope.Service != state.MGN {
		return nil
	}
	c, template, err := freshMGN(ctx, tx, v)
	if err != nil {
		return err
	}
	if err := tx.PutMGNLaunchConfig(ctx, v.ID, c); err != nil || template == "" {
		return err
	}
	actions, err := allActions(ctx, tx, template)
	if err != nil {
		return err
	}
	for _, a := range actions {
		if a.OS != "" && a.OS != platform(v) {
			continue
		}
		a.Owner, a.OS = v.ID, ""
		if err := tx.PutPostLaunchAction(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// platform is what a server runs, as far as it is known: linux unless it says otherwise.
func platform(v state.Server) string {
	const windows = "windows"
	if strings.Contains(strings.ToLower(v.Properties.OS), windows) || v.Properties.OS == "" && v.Migration.Platform == windows {
		return windows
	}
	return "linux"
}

// freshMGN is what a server starts with, and the template it is from.
func freshMGN(ctx context.Context, r state.Reader, v state.Server) (c state.MGNLaunchConfig, template string, err error) {
	c = mgnDefaults()
	have, _, err := r.MGNLaunchTemplates(ctx, v.Scope, nil, state.Page{Limit: 1})
	if err != nil {
		return c, "", err
	}
	if len(have) > 0 {
		c, template = have[0].Config, have[0].ID
	}
	c.Name = "Launch Configuration for Source Server " + v.ID
	return c, template, nil
}

// Get returns one server's configuration.
func (m *MGNServers) Get(ctx context.Context, s state.Scope, id string) (out MGNConfig, err error) {
	err = m.store.View(ctx, func(r state.Reader) error {
		_, out, err = getMGN(ctx, r, s, id)
		return err
	})
	return out, fault.Wrap("launch configuration: get", err)
}

func getMGN(ctx context.Context, r state.Reader, s state.Scope, id string) (v state.Server, out MGNConfig, err error) {
	v, err = r.Server(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, out, control.Missing("launch configuration", control.SourceServer, id)
	}
	if err != nil {
		return v, out, err
	}
	out.ServerID = id
	out.MGNLaunchConfig, err = r.MGNLaunchConfig(ctx, id)
	if fault.Is(err, fault.NotFound) { // added by a version that kept none
		out.MGNLaunchConfig, _, err = freshMGN(ctx, r, v)
	}
	if err != nil {
		return v, out, err
	}
	t, err := r.LaunchTemplateByServer(ctx, s, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return v, out, err
	}
	out.TemplateID = t.ID
	return v, out, nil
}

// Update changes the members that p names; it takes effect at the next launch, so it must not come between one.
func (m *MGNServers) Update(ctx context.Context, s state.Scope, id string, p MGNPatch) (out MGNConfig, err error) {
	err = m.store.Update(ctx, func(tx state.Tx) error {
		out, err = m.Edit(ctx, tx, s, id, p)
		return err
	})
	return out, fault.Wrap("launch configuration: update", err)
}

// In is Get within the caller's transaction.
func (m *MGNServers) In(ctx context.Context, r state.Reader, s state.Scope, id string) (MGNConfig, error) {
	_, out, err := getMGN(ctx, r, s, id)
	return out, err
}

// Edit is Update within the caller's transaction.
func (m *MGNServers) Edit(ctx context.Context, tx state.Tx, s state.Scope, id string, p MGNPatch) (MGNConfig, error) {
	v, out, err := getMGN(ctx, tx, s, id)
	if err != nil {
		return out, err
	}
	if v.Archived {
		return out, control.Refuse("launch configuration", control.SourceServer, id, "is archived")
	}
	if err := jobs.Idle(ctx, tx, id); err != nil {
		return out, err
	}
	if err := p.apply(&out.MGNLaunchConfig); err != nil {
		return out, err
	}
	return out, tx.PutMGNLaunchConfig(ctx, id, out.MGNLaunchConfig)
}
