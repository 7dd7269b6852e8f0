// Package networks keeps source networks: records of the networks that source servers are in, with the
// addresses that were found there, and the template that describes them. internal/app assembles it,
// internal/awsapi shows and operates it.
package networks

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kind is what errors call a source network.
const Kind = "SourceNetwork"

// Buckets takes files for whoever reads buckets.
type Buckets interface {
	Put(ctx context.Context, o buckets.Object, content []byte) error
}

// Networks are the source networks in a store.
type Networks struct {
	resource.Keeper[state.SourceNetwork]
	jobs    *jobs.Jobs
	buckets Buckets
}

// New returns the networks in store. Without buckets nothing can be exported.
func New(store state.Store, j *jobs.Jobs, b Buckets) *Networks {
	return &Networks{jobs: j, buckets: b, Keeper: resource.Keeper[state.SourceNetwork]{
		Store: store, Kind: Kind, Read: state.Reader.SourceNetwork, Write: state.Tx.PutSourceNetwork,
		Tagged: func(v *state.SourceNetwork) *map[string]string { return &v.Tags },
	}}
}

// Create records a network. One VPC of one account and region is one network.
func (n *Networks) Create(ctx context.Context, s state.Scope, vpcID, originAccount, originRegion string, tags map[string]string) (state.SourceNetwork, error) {
	const op = "source networks: create"
	v := state.SourceNetwork{ID: control.NewID("sn-"), Scope: s, CreatedAt: time.Now().UTC(), VPCID: vpcID,
		OriginAccount: originAccount, OriginRegion: originRegion, Status: state.NetworkStopped}
	var err error
	if v.Tags, err = control.AddTags(nil, tags); err != nil {
		return v, fault.Wrap(op, err)
	}
	err = n.Store.Update(ctx, func(tx state.Tx) error {
		have, err := all(ctx, tx, s)
		if err != nil {
			return err
		}
		for _, h := range have {
			if h.VPCID == vpcID && h.OriginAccount == originAccount && h.OriginRegion == originRegion {
				return control.Refuse(op, Kind, h.ID, "is the record of %s already", vpcID)
			}
		}
		var fixed *quotas.Limits
		if err := fixed.Fits(ctx, tx, s, quotas.DRSNetworks, Kind, v.ID, len(have)+1); err != nil {
			return err
		}
		return tx.PutSourceNetwork(ctx, v)
	})
	return v, fault.Wrap(op, err)
}

// all are a scope's networks: the quota keeps them few.
func all(ctx context.Context, r state.Reader, s state.Scope) ([]state.SourceNetwork, error) {
	list, _, err := r.SourceNetworks(ctx, s, state.SourceNetworkFilter{}, state.Page{Limit: state.MaxLimit})
	return list, err
}

// List shows networks as they are now, oldest first.
func (n *Networks) List(ctx context.Context, s state.Scope, f state.SourceNetworkFilter, p state.Page) (items []state.SourceNetwork, next string, err error) {
	err = n.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.SourceNetworks(ctx, s, f, p)
		return err
	})
	for i := range items {
		if err == nil && due(&items[i], time.Now()) {
			items[i], err = n.look(ctx, s, items[i].ID)
		}
	}
	return items, next, fault.Wrap("source networks: list", err)
}

// Start begins to follow what is in a network.
func (n *Networks) Start(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error) {
	return n.Change(ctx, s, id, func(_ state.Tx, v *state.SourceNetwork) error { return move(v, OpStart, "") })
}

// Stop forgets what was found in a network.
func (n *Networks) Stop(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error) {
	return n.Change(ctx, s, id, func(_ state.Tx, v *state.SourceNetwork) error {
		if err := move(v, OpStop, ""); err != nil {
			return err
		}
		v.Facts, v.ObservedAt = state.NetworkFacts{}, time.Time{}
		return nil
	})
}

// Delete removes the record of a network that is not followed.
func (n *Networks) Delete(ctx context.Context, s state.Scope, id string) error {
	return n.Remove(ctx, s, id, func(tx state.Tx, v state.SourceNetwork) error {
		if err := jobs.Idle(ctx, tx, id); err != nil {
			return err
		}
		return move(&v, OpDelete, "")
	}, state.Tx.DeleteSourceNetwork)
}

// Recovery is one network that is to be recovered.
type Recovery struct {
	ID, StackName string
}

// Recover checks everything that a recovery needs and refuses: no stack is ever deployed from here.
func (n *Networks) Recover(ctx context.Context, s state.Scope, list []Recovery) error {
	const op = "source networks: recover"
	err := n.Store.View(ctx, func(r state.Reader) error {
		seen := map[string]bool{}
		for _, one := range list {
			if seen[one.ID] {
				return control.Misfit(op, "sourceNetworks", "%s is named twice", one.ID)
			}
			seen[one.ID] = true
			v, err := n.In(ctx, r, s, one.ID)
			if err != nil {
				return err
			}
			if v.Status != state.NetworkProtected {
				return control.Refuse(op, Kind, v.ID, "cannot be recovered while it is %s", v.Status)
			}
			if err := jobs.Idle(ctx, r, v.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fault.Wrap(op, err)
	}
	return fault.New(fault.Unsupported, op, "%w", errNoDeployment).
		WithHint("ExportSourceNetworkCfnTemplate writes the network's template; build the network from it")
}

var errNoDeployment = errors.New("no network provider is configured: this installation deploys no networks")

// Associate notes which stack stands for a network. Nothing is deployed and no launch template changes, as
// the job's log says; the answer shows the job as it was made, though all of it is done by then.
func (n *Networks) Associate(ctx context.Context, s state.Scope, id, stack string) (state.Job, error) {
	const op = "source networks: associate"
	var j state.Job
	err := n.Store.Update(ctx, func(tx state.Tx) error {
		v, err := n.In(ctx, tx, s, id)
		if err != nil {
			return err
		}
		j, err = n.jobs.Create(ctx, tx, s, jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByAssociateNetworkRecovery,
			Participants: []state.Participant{{SourceNetworkID: id}}})
		if err != nil {
			return err
		}
		v.StackName = stack
		v.LastRecovery = state.NetworkRecovery{At: j.CreatedAt, JobID: j.ID}
		if err := tx.PutSourceNetwork(ctx, v); err != nil {
			return err
		}
		return n.carry(ctx, tx, j)
	})
	return j, fault.Wrap(op, err)
}
