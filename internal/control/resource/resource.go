// Package resource keeps tagged records of one kind: reading one, changing one, tagging. The packages in
// internal/control that own a kind of record embed a Keeper of it.
package resource

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Keeper keeps the records of one kind in a store.
type Keeper[R any] struct {
	Store state.Store
	Kind  string // as in errors: Application
	Read  func(state.Reader, context.Context, state.Scope, string) (R, error)
	Write func(state.Tx, context.Context, R) error
	// Tagged is where a record has its tags.
	Tagged func(*R) *map[string]string
}

func (k *Keeper[R]) op(verb string) string { return strings.ToLower(k.Kind) + ": " + verb }

// In reads a record within the caller's transaction; fault.NotFound names it.
func (k *Keeper[R]) In(ctx context.Context, r state.Reader, s state.Scope, id string) (R, error) {
	v, err := k.Read(r, ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing(k.op("get"), k.Kind, id)
	}
	return v, err
}

// Get returns one record.
func (k *Keeper[R]) Get(ctx context.Context, s state.Scope, id string) (v R, err error) {
	err = k.Store.View(ctx, func(r state.Reader) error {
		v, err = k.In(ctx, r, s, id)
		return err
	})
	return v, fault.Wrap(k.op("get"), err)
}

// Change reads a record, lets fn change it, and writes it.
func (k *Keeper[R]) Change(ctx context.Context, s state.Scope, id string, fn func(state.Tx, *R) error) (v R, err error) {
	err = k.Store.Update(ctx, func(tx state.Tx) error {
		if v, err = k.In(ctx, tx, s, id); err != nil {
			return err
		}
		if err := fn(tx, &v); err != nil {
			return err
		}
		return k.Write(tx, ctx, v)
	})
	return v, fault.Wrap(k.op("change"), err)
}

// Remove deletes a record unless fn, which may be nil, refuses.
func (k *Keeper[R]) Remove(ctx context.Context, s state.Scope, id string, fn func(state.Tx, R) error, remove func(state.Tx, context.Context, state.Scope, string) error) error {
	err := k.Store.Update(ctx, func(tx state.Tx) error {
		v, err := k.In(ctx, tx, s, id)
		if err != nil {
			return err
		}
		if fn != nil {
			if err := fn(tx, v); err != nil {
				return err
			}
		}
		return remove(tx, ctx, s, id)
	})
	return fault.Wrap(k.op("delete"), err)
}

// Tag adds or overwrites tags.
func (k *Keeper[R]) Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error {
	_, err := k.Change(ctx, s, id, func(_ state.Tx, v *R) (err error) {
		at := k.Tagged(v)
		*at, err = control.AddTags(*at, tags)
		return err
	})
	return err
}

// Untag removes tags by key.
func (k *Keeper[R]) Untag(ctx context.Context, s state.Scope, id string, keys []string) error {
	_, err := k.Change(ctx, s, id, func(_ state.Tx, v *R) error {
		at := k.Tagged(v)
		*at = control.RemoveTags(*at, keys)
		return nil
	})
	return err
}
