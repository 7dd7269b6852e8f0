// Package servers keeps source servers: registration, tags, life cycle and per-server replication
// configuration. internal/app assembles it; internal/agentapi registers, internal/awsapi reads and edits.
package servers

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Servers is control.Servers over a store.
type Servers struct {
	store     state.Store
	added     []Added
	recommend func(state.SourceProperties) string // nil recommends nothing
	seen      sightings
}

// Added gives a new server what else belongs to it, in the transaction that adds it.
type Added func(ctx context.Context, tx state.Tx, v state.Server) error

var _ control.Servers = (*Servers)(nil)

// New returns the servers in store.
func New(store state.Store) *Servers {
	return &Servers{store: store, seen: sightings{started: time.Now(), last: map[string]time.Time{}}}
}

// OnAdd lets fn take part in the adding of servers. It is called before anything is served.
func (v *Servers) OnAdd(fn Added) { v.added = append(v.added, fn) }

// Join calls all of those for a server that was added elsewhere.
func (v *Servers) Join(ctx context.Context, tx state.Tx, added state.Server) error {
	for _, fn := range v.added {
		if err := fn(ctx, tx, added); err != nil {
			return err
		}
	}
	return nil
}

// Recommend lets fn say which instance type a machine should be launched as. It is set before anything is served.
func (v *Servers) Recommend(fn func(state.SourceProperties) string) { v.recommend = fn }

// Get returns one server.
func (v *Servers) Get(ctx context.Context, s state.Scope, id string) (out state.Server, err error) {
	err = v.store.View(ctx, func(r state.Reader) error {
		out, err = get(ctx, r, s, id)
		return err
	})
	return out, fault.Wrap("servers: get", err)
}

func get(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Server, error) {
	out, err := r.Server(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return out, control.Missing("servers", control.SourceServer, id)
	}
	return out, err
}

// List returns the scope's servers, oldest first.
func (v *Servers) List(ctx context.Context, s state.Scope, f state.ServerFilter, p state.Page) (items []state.Server, next string, err error) {
	err = v.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Servers(ctx, s, f, p)
		return err
	})
	return items, next, fault.Wrap("servers: list", err)
}

// Tag adds or overwrites tags.
func (v *Servers) Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error {
	_, err := v.change(ctx, s, id, func(_ state.Reader, x *state.Server) (err error) {
		x.Tags, err = control.AddTags(x.Tags, tags)
		return err
	})
	return fault.Wrap("servers: tag", err)
}

// Untag removes tags by key.
func (v *Servers) Untag(ctx context.Context, s state.Scope, id string, keys []string) error {
	_, err := v.change(ctx, s, id, func(_ state.Reader, x *state.Server) error {
		x.Tags = control.RemoveTags(x.Tags, keys)
		return nil
	})
	return fault.Wrap("servers: untag", err)
}

// Archive marks a server whose migration is over.
func (v *Servers) Archive(ctx context.Context, s state.Scope, id string) (state.Server, error) {
	out, err := v.change(ctx, s, id, func(_ state.Reader, x *state.Server) error {
		if l := x.LifeCycle.State; l != state.LifeDisconnected && l != state.Cutover {
			return control.Refuse("servers", control.SourceServer, id, "cannot be archived in life cycle state %s", l)
		}
		x.Archived = true
		return nil
	})
	return out, fault.Wrap("servers: archive", err)
}

// marks are the life cycle states that may be asked for.
var marks = map[state.LifeCycleState]lifecycle.Trigger{
	state.ReadyForTest:    lifecycle.MarkReadyForTest,
	state.ReadyForCutover: lifecycle.MarkReadyForCutover,
	state.Cutover:         lifecycle.MarkCutover,
}

// ChangeLifeCycle moves an MGN server along or back. What is to be tested or cut over must be launchable.
func (v *Servers) ChangeLifeCycle(ctx context.Context, s state.Scope, id string, to state.LifeCycleState) (state.Server, error) {
	const op = "servers: change life cycle"
	on, ok := marks[to]
	if !ok {
		return state.Server{}, fault.New(fault.Invalid, op, "%w",
			&control.FieldError{Fields: []control.Field{{Name: "lifeCycle.state", Message: "must be READY_FOR_TEST, READY_FOR_CUTOVER or CUTOVER"}}})
	}
	out, err := v.change(ctx, s, id, func(r state.Reader, x *state.Server) error {
		from := x.LifeCycle.State
		if err := lifecycle.Apply(x, on); err != nil {
			return err
		}
		note(&x.LifeCycle, from, time.Now().UTC())
		// A finished cutover is no longer replicated, and reverting it cannot change that.
		if to == state.Cutover || from == state.Cutover {
			return nil
		}
		return launchable(ctx, r, id)
	})
	return out, fault.Wrap(op, err)
}

func launchable(ctx context.Context, r state.Reader, id string) error {
	rec, err := r.Replication(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if rec.RecoverableAt.IsZero() {
		return control.Refuse("servers", control.SourceServer, id, "is not launchable: it has no recovery point")
	}
	return nil
}

// note records when a test or cutover was reverted or finalised.
func note(l *state.LifeCycle, from state.LifeCycleState, now time.Time) {
	switch {
	case l.State == state.ReadyForTest:
		l.LastTest.RevertedAt = now
	case l.State == state.ReadyForCutover && from == state.Testing:
		l.LastTest.FinalizedAt = now
	case l.State == state.ReadyForCutover:
		l.LastCutover.RevertedAt = now
	case l.State == state.Cutover:
		l.LastCutover.FinalizedAt = now
	}
}

// UpdateConfig changes the members that patch names. Disks are matched by device name; which there are
// is the agent's choice.
func (v *Servers) UpdateConfig(ctx context.Context, s state.Scope, id string, patch control.ConfigPatch) (state.Server, error) {
	out, err := v.change(ctx, s, id, func(_ state.Reader, x *state.Server) error {
		patch.Apply(&x.Config)
		if patch.Disks != nil {
			if err := updateDisks(x.Config.Disks, *patch.Disks); err != nil {
				return err
			}
		}
		return templates.Validate(s.Service, x.Config)
	})
	return out, fault.Wrap("servers: update configuration", err)
}

func updateDisks(have, want []state.DiskConfig) error {
	for _, w := range want {
		i := slices.IndexFunc(have, func(d state.DiskConfig) bool { return d.DeviceName == w.DeviceName })
		if i < 0 {
			return fault.New(fault.Invalid, "servers", "%w", &control.FieldError{Fields: []control.Field{
				{Name: "replicatedDisks", Message: "the server replicates no disk " + w.DeviceName}}})
		}
		w.Boot = have[i].Boot
		if w.StagingDiskType == "" {
			w.StagingDiskType = have[i].StagingDiskType
		}
		if w.StagingDiskType == have[i].StagingDiskType { // another type has speeds of its own
			w.IOPS, w.Throughput = cmp.Or(w.IOPS, have[i].IOPS), cmp.Or(w.Throughput, have[i].Throughput)
		}
		have[i] = w
	}
	return nil
}

func (v *Servers) change(ctx context.Context, s state.Scope, id string, fn func(state.Reader, *state.Server) error) (out state.Server, err error) {
	err = v.store.Update(ctx, func(tx state.Tx) error {
		if out, err = get(ctx, tx, s, id); err != nil {
			return err
		}
		if err := fn(tx, &out); err != nil {
			return err
		}
		return tx.PutServer(ctx, out)
	})
	return out, err
}
