package servers

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/state"
)

// Planned is a server that an inventory names before its agent is there.
type Planned struct {
	UserProvidedID string // what the agent will be installed with
	FQDN           string // what it is reached by
	Platform       string // linux or windows; empty is unknown
	Tags           map[string]string
}

// plannedIdentity recognises a planned server. A machine's own identity is never empty, so no registration has it.
func plannedIdentity(userProvidedID string) string { return userProvidedID + "\n" }

// Import adds a planned server in the caller's transaction: PENDING_INSTALLATION, until an agent registers with its
// user-provided id.
func (v *Servers) Import(ctx context.Context, tx state.Tx, s state.Scope, p Planned) (state.Server, error) {
	config, err := initialConfig(ctx, tx, s)
	if err != nil {
		return state.Server{}, err
	}
	x := state.Server{
		ID: control.NewID("s-"), Scope: s, Identity: plannedIdentity(p.UserProvidedID), UserProvidedID: p.UserProvidedID,
		CreatedAt: time.Now().UTC(), ReplicationType: state.AgentBased, Config: config,
		Migration: state.Migration{ActionFQDN: p.FQDN, Platform: p.Platform},
	}
	x.Config.Name = configName(x.ID)
	if x.Tags, err = control.AddTags(nil, p.Tags); err != nil {
		return x, err
	}
	if err := lifecycle.Apply(&x, lifecycle.Imported); err != nil {
		return x, err
	}
	if err := tx.PutServer(ctx, x); err != nil {
		return x, err
	}
	return x, v.Join(ctx, tx, x)
}

// adopt makes a planned server the one of the agent that registers for it. It keeps what people have said of it: its
// application, its tags, how it is launched. fault.NotFound: nobody planned it.
func (v *Servers) adopt(ctx context.Context, tx state.Tx, s state.Scope, r Registration, now time.Time) (state.Server, error) {
	x, err := tx.ServerByIdentity(ctx, s, plannedIdentity(r.UserProvidedID))
	if err != nil {
		return x, err
	}
	x.Identity = r.identity()
	if err := r.describe(&x, now); err != nil {
		return x, err
	}
	on := lifecycle.Registered
	if r.NoReplication {
		x.LifeCycle.State, on = state.LifeCycleNone, lifecycle.Stopped
	}
	if err := lifecycle.Apply(&x, on); err != nil {
		return x, err
	}
	if err := tx.PutServer(ctx, x); err != nil {
		return x, err
	}
	return x, tx.PutReplication(ctx, replication.NewRecord(x, r.NoReplication, now))
}
