// Package networkmigration keeps the definitions of network migrations. Keeping them is all that is done here: what
// MGN makes of one (a mapping onto a cloud's networks, code for it, its deployment and analysis) is about a cloud that
// is not there, and is refused in those words. internal/awsapi calls it.
package networkmigration

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kinds of resources as errors name them.
const (
	KindDefinition = "NetworkMigrationDefinition"
	KindExecution  = "NetworkMigrationExecution"
	KindSegment    = "NetworkMigrationMapperSegment"
)

// maxDefinitions bounds the definitions of an account; AWS documents no number.
const maxDefinitions = 1000

// Values of the members, as the API spells them.
const (
	singleAccount = "SINGLE_ACCOUNT"
	mapping       = "MAPPING"
	pending       = "PENDING"
)

// Definitions keeps the definitions of all accounts.
type Definitions struct {
	resource.Keeper[state.NetworkMigration]
}

// New returns the definitions in store.
func New(store state.Store) *Definitions {
	return &Definitions{resource.Keeper[state.NetworkMigration]{Store: store, Kind: KindDefinition,
		Read: state.Reader.NetworkMigration, Write: state.Tx.PutNetworkMigration,
		Tagged: func(v *state.NetworkMigration) *map[string]string { return &v.Tags }}}
}

// Patch is a partial definition; nil members keep their value.
type Patch struct {
	Name, Description                         *string
	Sources                                   *[]state.NetworkSource
	Topology                                  *string
	InboundCIDR, OutboundCIDR, InspectionCIDR *string
	TargetDeployment                          *string
	TargetBucket, TargetOwner                 *string
	ScopeTags                                 *map[string]string
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (p Patch) apply(v *state.NetworkMigration, now time.Time) error {
	set(&v.Name, p.Name)
	set(&v.Description, p.Description)
	set(&v.Sources, p.Sources)
	set(&v.Topology, p.Topology)
	set(&v.InboundCIDR, p.InboundCIDR)
	set(&v.OutboundCIDR, p.OutboundCIDR)
	set(&v.InspectionCIDR, p.InspectionCIDR)
	set(&v.TargetDeployment, p.TargetDeployment)
	set(&v.TargetBucket, p.TargetBucket)
	set(&v.TargetOwner, p.TargetOwner)
	set(&v.ScopeTags, p.ScopeTags)
	v.UpdatedAt = now
	seen := []string{}
	for _, s := range v.Sources {
		if slices.Contains(seen, s.Environment) {
			return control.Misfit("network migration", "sourceConfigurations.sourceEnvironment", "%s is named twice", s.Environment)
		}
		seen = append(seen, s.Environment)
	}
	return nil
}

// Create adds a definition, with the execution that comes with it.
func (d *Definitions) Create(ctx context.Context, s state.Scope, p Patch, tags map[string]string) (state.NetworkMigration, error) {
	const op = "network migration: create"
	now := time.Now().UTC()
	v := state.NetworkMigration{ID: control.NewID("nmd-"), Scope: s, CreatedAt: now, TargetDeployment: singleAccount}
	err := p.apply(&v, now)
	if err == nil {
		v.Tags, err = control.AddTags(nil, tags)
	}
	if err != nil {
		return v, fault.Wrap(op, err)
	}
	err = d.Store.Update(ctx, func(tx state.Tx) error {
		n, err := tx.CountNetworkMigrations(ctx, s)
		if err != nil {
			return err
		}
		if n >= maxDefinitions {
			return control.Full(op, KindDefinition, "", maxDefinitions, "network migration definitions")
		}
		if err := tx.PutNetworkMigration(ctx, v); err != nil {
			return err
		}
		return tx.PutNetworkExecution(ctx, state.NetworkExecution{ID: uuid.NewString(), Scope: s, DefinitionID: v.ID,
			Stage: mapping, Status: pending, Tags: map[string]string{}, CreatedAt: now, UpdatedAt: now})
	})
	return v, fault.Wrap(op, err)
}

// Update changes the members that p names.
func (d *Definitions) Update(ctx context.Context, s state.Scope, id string, p Patch) (state.NetworkMigration, error) {
	return d.Change(ctx, s, id, func(_ state.Tx, v *state.NetworkMigration) error { return p.apply(v, time.Now().UTC()) })
}

// Delete forgets a definition and its executions. Nothing ever works on one, so it is never in use.
func (d *Definitions) Delete(ctx context.Context, s state.Scope, id string) error {
	return d.Remove(ctx, s, id, nil, state.Tx.DeleteNetworkMigration)
}

// List returns the scope's definitions, or those of ids that exist, newest first.
func (d *Definitions) List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.NetworkMigration, next string, err error) {
	err = d.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.NetworkMigrations(ctx, s, ids, p)
		return err
	})
	return items, next, fault.Wrap("network migration: list", err)
}

// Executions returns a definition's executions, newest first.
func (d *Definitions) Executions(ctx context.Context, s state.Scope, id string, f state.ExecutionFilter, p state.Page) (items []state.NetworkExecution, next string, err error) {
	err = d.Store.View(ctx, func(r state.Reader) error {
		if _, err := d.In(ctx, r, s, id); err != nil {
			return err
		}
		items, next, err = r.NetworkExecutions(ctx, s, id, f, p)
		return err
	})
	return items, next, fault.Wrap("network migration: list executions", err)
}

// Has checks that a definition has an execution. Nothing has come of any, so every list about one is empty.
func (d *Definitions) Has(ctx context.Context, s state.Scope, id, execution string) error {
	const op = "network migration: find execution"
	err := d.Store.View(ctx, func(r state.Reader) error {
		if _, err := d.In(ctx, r, s, id); err != nil {
			return err
		}
		_, err := r.NetworkExecution(ctx, s, id, execution)
		if fault.Is(err, fault.NotFound) {
			return control.Missing(op, KindExecution, execution)
		}
		return err
	})
	return fault.Wrap(op, err)
}

// Segment is how every question about a segment of a mapping ends: no execution has any.
func (d *Definitions) Segment(ctx context.Context, s state.Scope, id, execution, segment string) error {
	if err := d.Has(ctx, s, id, execution); err != nil {
		return err
	}
	return control.Missing("network migration: find segment", KindSegment, segment)
}

// Start refuses to work on an execution that exists. what is the work, as "network migration analysis".
func (d *Definitions) Start(ctx context.Context, s state.Scope, id, execution, what string) error {
	if err := d.Has(ctx, s, id, execution); err != nil {
		return err
	}
	return Meaningless(what)
}

// Meaningless refuses what would be about a cloud's own network.
func Meaningless(what string) error {
	return fault.New(fault.Unsupported, "network migration", "%s has no meaning on this installation: it works on a cloud provider's network, and machines are launched on your own hardware here", what).
		WithHint("the definition is kept as it is; attach launched machines to your own networks by their launch templates")
}
