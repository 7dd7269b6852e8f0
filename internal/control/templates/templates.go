// Package templates keeps replication configuration templates: one per account and service, whose values
// every server added later starts with. internal/app assembles it; accounts and servers use its rules.
package templates

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Templates is control.Templates over a store.
type Templates struct {
	store state.Store
}

var _ control.Templates = (*Templates)(nil)

// New returns the templates in store.
func New(store state.Store) *Templates { return &Templates{store} }

// Create makes the scope's template; there can be one.
func (t *Templates) Create(ctx context.Context, s state.Scope, patch control.ConfigPatch, tags map[string]string) (state.Template, error) {
	const op = "templates: create"
	v := state.Template{ID: control.NewID("rct-"), Scope: s, Config: Defaults(s.Service), CreatedAt: time.Now().UTC()}
	patch.Apply(&v.Config)
	if err := Validate(s.Service, v.Config); err != nil {
		return state.Template{}, fault.Wrap(op, err)
	}
	var err error
	if v.Tags, err = control.AddTags(nil, tags); err != nil {
		return state.Template{}, fault.Wrap(op, err)
	}
	err = t.store.Update(ctx, func(tx state.Tx) error {
		have, _, err := tx.Templates(ctx, s, state.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(have) > 0 {
			return fault.New(fault.Conflict, op, "%w", &control.ResourceError{
				Type: control.RCT, ID: have[0].ID, Err: fmt.Errorf("is the one template of this account: %w", control.ErrQuota)})
		}
		return tx.PutTemplate(ctx, v)
	})
	return v, fault.Wrap(op, err)
}

// Get returns one template.
func (t *Templates) Get(ctx context.Context, s state.Scope, id string) (v state.Template, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		v, err = get(ctx, r, s, id)
		return err
	})
	return v, fault.Wrap("templates: get", err)
}

func get(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Template, error) {
	v, err := r.Template(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing("templates", control.RCT, id)
	}
	return v, err
}

// List returns the scope's templates, or those of ids that exist.
func (t *Templates) List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.Template, next string, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Templates(ctx, s, p)
		return err
	})
	if len(ids) > 0 {
		items = slices.DeleteFunc(items, func(v state.Template) bool { return !slices.Contains(ids, v.ID) })
	}
	return items, next, fault.Wrap("templates: list", err)
}

// Update changes the members that patch names. Servers that exist keep their configuration.
func (t *Templates) Update(ctx context.Context, s state.Scope, id string, patch control.ConfigPatch) (state.Template, error) {
	v, err := t.change(ctx, s, id, func(v *state.Template) error {
		patch.Apply(&v.Config)
		return Validate(s.Service, v.Config)
	})
	return v, fault.Wrap("templates: update", err)
}

// Delete removes a template. Servers have copies, so it is never in use.
func (t *Templates) Delete(ctx context.Context, s state.Scope, id string) error {
	err := t.store.Update(ctx, func(tx state.Tx) error {
		if _, err := get(ctx, tx, s, id); err != nil {
			return err
		}
		return tx.DeleteTemplate(ctx, s, id)
	})
	return fault.Wrap("templates: delete", err)
}

// Tag adds or overwrites tags.
func (t *Templates) Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error {
	_, err := t.change(ctx, s, id, func(v *state.Template) (err error) {
		v.Tags, err = control.AddTags(v.Tags, tags)
		return err
	})
	return fault.Wrap("templates: tag", err)
}

// Untag removes tags by key.
func (t *Templates) Untag(ctx context.Context, s state.Scope, id string, keys []string) error {
	_, err := t.change(ctx, s, id, func(v *state.Template) error {
		v.Tags = control.RemoveTags(v.Tags, keys)
		return nil
	})
	return fault.Wrap("templates: untag", err)
}

func (t *Templates) change(ctx context.Context, s state.Scope, id string, fn func(*state.Template) error) (v state.Template, err error) {
	err = t.store.Update(ctx, func(tx state.Tx) error {
		if v, err = get(ctx, tx, s, id); err != nil {
			return err
		}
		if err := fn(&v); err != nil {
			return err
		}
		return tx.PutTemplate(ctx, v)
	})
	return v, err
}
