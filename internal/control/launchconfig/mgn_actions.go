package launchconfig

import (
	"cmp"
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// mgnMaxActions is AWS's quota of actions per server or template.
const mgnMaxActions = 100

// MGNActions keeps what is to be done on launched machines, per server and per template.
type MGNActions struct{ store state.Store }

// NewMGNActions returns the actions in store.
func NewMGNActions(store state.Store) *MGNActions { return &MGNActions{store} }

// mgnOwner checks that who is to have actions exists.
func mgnOwner(ctx context.Context, r state.Reader, s state.Scope, id string) error {
	const op = "actions"
	kind := control.SourceServer
	var err error
	if strings.HasPrefix(id, "lct-") {
		kind = templateType
		_, err = r.MGNLaunchTemplate(ctx, s, id)
	} else {
		_, err = r.Server(ctx, s, id)
	}
	if fault.Is(err, fault.NotFound) {
		return control.Missing(op, kind, id)
	}
	return err
}

// Put adds an action to its owner, or replaces the one of its id. Members that are empty take their defaults.
func (m *MGNActions) Put(ctx context.Context, s state.Scope, a state.PostLaunchAction) (state.PostLaunchAction, error) {
	const op = "actions: put"
	a.Version, a.Category = cmp.Or(a.Version, "$DEFAULT"), cmp.Or(a.Category, "OTHER")
	a.Timeout = cmp.Or(a.Timeout, 3600)
	switch {
	case a.Name == "":
		return a, fault.Wrap(op, control.Misfit(op, "actionName", "must not be empty"))
	case a.Document == "":
		return a, fault.Wrap(op, control.Misfit(op, "documentIdentifier", "must not be empty"))
	}
	err := m.store.Update(ctx, func(tx state.Tx) error {
		if err := mgnOwner(ctx, tx, s, a.Owner); err != nil {
			return err
		}
		if err := checkParameters("action", a.Parameters, a.External); err != nil {
			return err
		}
		if err := fitsOwner(ctx, tx, a); err != nil {
			return err
		}
		return tx.PutPostLaunchAction(ctx, a)
	})
	return a, fault.Wrap(op, err)
}

// fitsOwner refuses a second action in one order, and too many.
func fitsOwner(ctx context.Context, r state.Reader, a state.PostLaunchAction) error {
	const op = "actions"
	have, err := allActions(ctx, r, a.Owner)
	if err != nil {
		return err
	}
	others := 0
	for _, b := range have {
		if b.ID == a.ID {
			continue
		}
		if b.Order == a.Order {
			return control.Refuse(op, "Action", a.ID, "action %s has order %d already", b.ID, b.Order)
		}
		others++
	}
	if others >= mgnMaxActions {
		return control.Full(op, "Action", a.ID, mgnMaxActions, "actions of one resource")
	}
	return nil
}

func allActions(ctx context.Context, r state.Reader, owner string) ([]state.PostLaunchAction, error) {
	all, _, err := r.PostLaunchActions(ctx, owner, nil, state.Page{Limit: state.MaxLimit})
	return all, err
}

// List returns an owner's actions, or those of ids that exist, in their order.
func (m *MGNActions) List(ctx context.Context, s state.Scope, owner string, ids []string, p state.Page) (items []state.PostLaunchAction, next string, err error) {
	err = m.store.View(ctx, func(r state.Reader) error {
		if err := mgnOwner(ctx, r, s, owner); err != nil {
			return err
		}
		items, next, err = r.PostLaunchActions(ctx, owner, ids, p)
		return err
	})
	return items, next, fault.Wrap("actions: list", err)
}

// Remove takes an action away.
func (m *MGNActions) Remove(ctx context.Context, s state.Scope, owner, id string) error {
	err := m.store.Update(ctx, func(tx state.Tx) error {
		if err := mgnOwner(ctx, tx, s, owner); err != nil {
			return err
		}
		_, err := tx.PostLaunchAction(ctx, owner, id)
		switch {
		case fault.Is(err, fault.NotFound):
			return control.Missing("actions", "Action", id)
		case err != nil:
			return err
		}
		return tx.DeletePostLaunchAction(ctx, owner, id)
	})
	return fault.Wrap("actions: remove", err)
}
