package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// PutLaunchAction adds or replaces what is to be done on the machines launched of a server, or of all servers
// added later.
func (a *API) PutLaunchAction(ctx context.Context, in *drs.PutLaunchActionInput) (*drs.PutLaunchActionOutput, error) {
	put := state.DRSLaunchAction{
		Resource: in.ResourceId, ID: in.ActionId, Code: in.ActionCode, Version: in.ActionVersion, Name: in.Name, Description: in.Description,
		Category: string(in.Category), Order: in.Order, Active: in.Active, Optional: in.Optional,
	}
	for name, p := range in.Parameters {
		if put.Parameters == nil {
			put.Parameters = map[string]state.DRSActionParameter{}
		}
		put.Parameters[name] = state.DRSActionParameter{Type: string(p.Type), Value: wireform.Value(p.Value)}
	}
	have, err := a.d.LaunchActions.Put(ctx, scope(ctx), put)
	if err != nil {
		return nil, err
	}
	v := launchAction(&have)
	return &drs.PutLaunchActionOutput{
		ActionCode: v.ActionCode, ActionId: v.ActionId, ActionVersion: v.ActionVersion, Active: v.Active, Category: v.Category,
		Description: v.Description, Name: v.Name, Optional: v.Optional, Order: v.Order, Parameters: v.Parameters,
		ResourceId: new(have.Resource), Type: v.Type,
	}, nil
}

// ListLaunchActions lists a server's or template's actions in the order in which they run.
func (a *API) ListLaunchActions(ctx context.Context, in *drs.ListLaunchActionsInput) (*drs.ListLaunchActionsOutput, error) {
	sc := scope(ctx)
	var ids []string
	if in.Filters != nil {
		ids = in.Filters.ActionIds
	}
	query := []any{"ListLaunchActions", sc, in.ResourceId, ids}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.LaunchActions.List(ctx, sc, in.ResourceId, ids, page)
	if err != nil {
		return nil, err
	}
	out := &drs.ListLaunchActionsOutput{}
	for i := range list {
		out.Items = append(out.Items, *launchAction(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// DeleteLaunchAction removes one action.
func (a *API) DeleteLaunchAction(ctx context.Context, in *drs.DeleteLaunchActionInput) (*drs.DeleteLaunchActionOutput, error) {
	return &drs.DeleteLaunchActionOutput{}, a.d.LaunchActions.Delete(ctx, scope(ctx), in.ResourceId, in.ActionId)
}

func launchAction(v *state.DRSLaunchAction) *drs.LaunchAction {
	out := &drs.LaunchAction{
		ActionCode: new(v.Code), ActionId: new(v.ID), ActionVersion: new(v.Version), Active: new(v.Active),
		Category: drs.LaunchActionCategory(v.Category), Description: new(v.Description), Name: new(v.Name), Optional: new(v.Optional),
		Order: new(v.Order), Type: drs.LaunchActionType(v.Type),
	}
	for name, p := range v.Parameters {
		if out.Parameters == nil {
			out.Parameters = map[string]drs.LaunchActionParameter{}
		}
		out.Parameters[name] = drs.LaunchActionParameter{Type: drs.LaunchActionParameterType(p.Type), Value: new(p.Value)}
	}
	return out
}
