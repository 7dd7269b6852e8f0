package launchconfig

import (
	"context"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// maxActions is AWS's quota of launch actions per server or template.
const maxActions = 200

// DRSActions keeps what is to be done on launched machines, per server and per template.
type DRSActions struct{ store state.Store }

// NewDRSActions returns the actions in store.
func NewDRSActions(store state.Store) *DRSActions { return &DRSActions{store} }

// Put adds an action to the resource that it names, or replaces the one of its id.
func (d *DRSActions) Put(ctx context.Context, s state.Scope, a state.DRSLaunchAction) (state.DRSLaunchAction, error) {
	const op = "launch actions: put"
	a.Scope, a.Type = s, documentType(a.Code)
	err := d.store.Update(ctx, func(tx state.Tx) error {
		if err := hasActions(ctx, tx, s, a.Resource); err != nil {
			return err
		}
		have, _, err := tx.DRSLaunchActions(ctx, a.Resource, nil, state.Page{Limit: maxActions})
		if err != nil {
			return err
		}
		same := func(h state.DRSLaunchAction) bool { return h.ID == a.ID }
		if len(have) == maxActions && !slices.ContainsFunc(have, same) {
			return control.Full(op, actionType, a.ID, maxActions, "launch actions of one resource")
		}
		return tx.PutDRSLaunchAction(ctx, a)
	})
	return a, fault.Wrap(op, err)
}

// documentType is how a document runs. AWS's own documents for launched machines are automations; whatever
// else a user names runs on the machine.
func documentType(code string) string {
	for _, prefix := range []string{"AWSMigration-", "AWSDisasterRecovery-", "AWS-CreateImage"} {
		if strings.HasPrefix(code, prefix) {
			return "SSM_AUTOMATION"
		}
	}
	return "SSM_COMMAND"
}

// hasActions refuses a resource that does not exist in the scope.
func hasActions(ctx context.Context, r state.Reader, s state.Scope, resource string) error {
	if strings.HasPrefix(resource, "lct-") {
		_, err := getTemplate(ctx, r, s, resource)
		return err
	}
	_, err := r.Server(ctx, s, resource)
	if fault.Is(err, fault.NotFound) {
		return control.Missing("launch actions", control.SourceServer, resource)
	}
	return err
}

// List returns one resource's actions by order; no ids mean all.
func (d *DRSActions) List(ctx context.Context, s state.Scope, resource string, ids []string, p state.Page) (items []state.DRSLaunchAction, next string, err error) {
	err = d.store.View(ctx, func(r state.Reader) error {
		if err := hasActions(ctx, r, s, resource); err != nil {
			return err
		}
		items, next, err = r.DRSLaunchActions(ctx, resource, ids, p)
		return err
	})
	return items, next, fault.Wrap("launch actions: list", err)
}

// Delete removes one action.
func (d *DRSActions) Delete(ctx context.Context, s state.Scope, resource, id string) error {
	err := d.store.Update(ctx, func(tx state.Tx) error {
		if err := hasActions(ctx, tx, s, resource); err != nil {
			return err
		}
		_, err := tx.DRSLaunchAction(ctx, resource, id)
		if fault.Is(err, fault.NotFound) {
			return control.Missing("launch actions", actionType, id)
		}
		if err != nil {
			return err
		}
		return tx.DeleteDRSLaunchAction(ctx, resource, id)
	})
	return fault.Wrap("launch actions: delete", err)
}
