package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Wave is a wave with the state of its applications' servers.
type Wave struct {
	state.Wave
	Status Status
}

// Waves keeps the waves of all accounts.
type Waves struct {
	resource.Keeper[state.Wave]
	limits *quotas.Limits
}

// NewWaves returns the waves in store. nil limits are the default ones.
func NewWaves(store state.Store, limits *quotas.Limits) *Waves {
	return &Waves{limits: limits, Keeper: resource.Keeper[state.Wave]{Store: store, Kind: KindWave,
		Read: state.Reader.Wave, Write: state.Tx.PutWave, Tagged: func(v *state.Wave) *map[string]string { return &v.Tags }}}
}

// Create adds a wave. Its name must be new.
func (w *Waves) Create(ctx context.Context, s state.Scope, name, description string, tags map[string]string) (out Wave, err error) {
	err = w.Store.Update(ctx, func(tx state.Tx) error {
		v, err := w.Add(ctx, tx, s, name, description, tags)
		if err != nil {
			return err
		}
		out, err = w.show(ctx, tx, v)
		return err
	})
	return out, fault.Wrap("wave: create", err)
}

// Add is Create within the caller's transaction.
func (w *Waves) Add(ctx context.Context, tx state.Tx, s state.Scope, name, description string, tags map[string]string) (state.Wave, error) {
	now := time.Now().UTC()
	v := state.Wave{ID: control.NewID("wave-"), Scope: s, Name: name, Description: description, CreatedAt: now, ModifiedAt: now}
	if err := w.free(ctx, tx, &v); err != nil {
		return v, err
	}
	if err := w.room(ctx, tx, s, false); err != nil {
		return v, err
	}
	var err error
	if v.Tags, err = control.AddTags(nil, tags); err != nil {
		return v, err
	}
	return v, tx.PutWave(ctx, v)
}

// free refuses a name that another wave has.
func (w *Waves) free(ctx context.Context, r state.Reader, v *state.Wave) error {
	have, err := r.WaveByName(ctx, v.Scope, v.Name)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && have.ID == v.ID:
		return nil
	case err != nil:
		return err
	}
	return control.Refuse("wave", KindWave, have.ID, "already has the name %s", v.Name)
}

func (w *Waves) room(ctx context.Context, r state.Reader, s state.Scope, archived bool) error {
	n, err := r.CountWaves(ctx, s, archived)
	if err != nil {
		return err
	}
	c := quotas.MGNWaves
	if archived {
		c = quotas.MGNArchivedWaves
	}
	return w.limits.Fits(ctx, r, s, c, KindWave, "", n+1)
}

// Update changes what is not nil.
func (w *Waves) Update(ctx context.Context, s state.Scope, id string, name, description *string) (Wave, error) {
	return w.change(ctx, s, id, func(tx state.Tx, v *state.Wave) error { return w.Edit(ctx, tx, v, name, description) })
}

// Edit is Update of a record that the caller writes.
func (w *Waves) Edit(ctx context.Context, r state.Reader, v *state.Wave, name, description *string) error {
	if name != nil {
		v.Name = *name
		if err := w.free(ctx, r, v); err != nil {
			return err
		}
	}
	if description != nil {
		v.Description = *description
	}
	v.ModifiedAt = time.Now().UTC()
	return nil
}

// Archive puts away a wave that needs no more work; archiving it again changes nothing.
func (w *Waves) Archive(ctx context.Context, s state.Scope, id string) (Wave, error) {
	return w.change(ctx, s, id, func(tx state.Tx, v *state.Wave) error {
		if v.Archived {
			return nil
		}
		members, err := tx.WaveMembers(ctx, s, []string{id})
		if err != nil {
			return err
		}
		if n := over(members); n > 0 {
			return control.Refuse("wave", KindWave, id, "cannot be archived: %d of its servers are neither cut over nor disconnected", n)
		}
		v.Archived, v.ModifiedAt = true, time.Now().UTC()
		return w.room(ctx, tx, s, true)
	})
}

// Unarchive takes a wave back.
func (w *Waves) Unarchive(ctx context.Context, s state.Scope, id string) (Wave, error) {
	return w.change(ctx, s, id, func(tx state.Tx, v *state.Wave) error {
		if !v.Archived {
			return nil
		}
		v.Archived, v.ModifiedAt = false, time.Now().UTC()
		return w.room(ctx, tx, s, false)
	})
}

// Delete forgets a wave without applications.
func (w *Waves) Delete(ctx context.Context, s state.Scope, id string) error {
	return w.Remove(ctx, s, id, func(tx state.Tx, _ state.Wave) error {
		in, err := tx.CountInWaves(ctx, s, []string{id})
		if err == nil && in[id] > 0 {
			return control.Refuse("wave", KindWave, id, "cannot be deleted while applications are associated with it")
		}
		return err
	}, state.Tx.DeleteWave)
}

// List shows the scope's waves with their states, oldest first.
func (w *Waves) List(ctx context.Context, s state.Scope, f state.WaveFilter, p state.Page) (out []Wave, next string, err error) {
	err = w.Store.View(ctx, func(r state.Reader) error {
		items, n, err := r.Waves(ctx, s, f, p)
		if err != nil {
			return err
		}
		next = n
		out, err = w.shows(ctx, r, s, items)
		return err
	})
	return out, next, fault.Wrap("wave: list", err)
}

func (w *Waves) shows(ctx context.Context, r state.Reader, s state.Scope, items []state.Wave) ([]Wave, error) {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].ID
	}
	members, err := r.WaveMembers(ctx, s, ids)
	if err != nil {
		return nil, err
	}
	in, err := r.CountInWaves(ctx, s, ids)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	sums := sum(members, now)
	out := make([]Wave, len(items))
	for i, v := range items {
		out[i] = Wave{v, statusOf(sums[v.ID], v.Archived, now)}
		out[i].Status.Applications = in[v.ID]
	}
	return out, nil
}

func (w *Waves) show(ctx context.Context, r state.Reader, v state.Wave) (Wave, error) {
	out, err := w.shows(ctx, r, v.Scope, []state.Wave{v})
	if err != nil {
		return Wave{}, err
	}
	return out[0], nil
}

func (w *Waves) change(ctx context.Context, s state.Scope, id string, fn func(state.Tx, *state.Wave) error) (out Wave, err error) {
	_, err = w.Change(ctx, s, id, func(tx state.Tx, v *state.Wave) error {
		if err := fn(tx, v); err != nil {
			return err
		}
		out, err = w.show(ctx, tx, *v)
		return err
	})
	return out, err
}

// Associate puts applications into a wave. An application of another one has to be taken out of that first.
func (w *Waves) Associate(ctx context.Context, s state.Scope, id string, applicationIDs []string) error {
	_, err := w.Change(ctx, s, id, func(tx state.Tx, v *state.Wave) error { return w.Join(ctx, tx, v, applicationIDs) })
	return err
}

// Join is Associate of a record that the caller writes.
func (w *Waves) Join(ctx context.Context, tx state.Tx, v *state.Wave, applicationIDs []string) error {
	const op = "wave: associate"
	if v.Archived {
		return control.Refuse(op, KindWave, v.ID, "is archived")
	}
	refused := control.Refusals{Kind: KindApplication}
	var joining []state.Application
	for _, id := range each(applicationIDs) {
		x, err := application(ctx, tx, v.Scope, id)
		switch {
		case err != nil:
			return err
		case x.WaveID == v.ID:
		case x.WaveID != "":
			refused.Add(id, fmt.Errorf("is associated with wave %s", x.WaveID))
		default:
			joining = append(joining, x)
		}
	}
	if err := refused.Err(op, "one or more of the applications are associated with other waves"); err != nil {
		return err
	}
	in, err := tx.CountInWaves(ctx, v.Scope, []string{v.ID})
	if err != nil {
		return err
	}
	if err := w.limits.Fits(ctx, tx, v.Scope, quotas.MGNPerWave, KindWave, v.ID, in[v.ID]+len(joining)); err != nil {
		return err
	}
	v.ModifiedAt = time.Now().UTC()
	return enlist(ctx, tx, joining, v.ID)
}

func enlist(ctx context.Context, tx state.Tx, applications []state.Application, wave string) error {
	for _, x := range applications {
		x.WaveID, x.ModifiedAt = wave, time.Now().UTC()
		if err := tx.PutApplication(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// Disassociate takes applications out of a wave.
func (w *Waves) Disassociate(ctx context.Context, s state.Scope, id string, applicationIDs []string) error {
	const op = "wave: disassociate"
	_, err := w.Change(ctx, s, id, func(tx state.Tx, v *state.Wave) error {
		refused := control.Refusals{Kind: KindApplication}
		var leaving []state.Application
		for _, applicationID := range each(applicationIDs) {
			x, err := application(ctx, tx, s, applicationID)
			if err != nil {
				return err
			}
			if x.WaveID != id {
				refused.Add(applicationID, errors.New("is not associated with this wave"))
			}
			leaving = append(leaving, x)
		}
		if err := refused.Err(op, "one or more of the applications are not associated with this wave"); err != nil {
			return err
		}
		v.ModifiedAt = time.Now().UTC()
		return enlist(ctx, tx, leaving, "")
	})
	return err
}

// application reads an application within the caller's transaction.
func application(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Application, error) {
	v, err := r.Application(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing("wave", KindApplication, id)
	}
	return v, err
}
