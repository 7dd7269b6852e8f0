package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// PutSourceServerAction says what to do on a server's launched machine.
func (a *API) PutSourceServerAction(ctx context.Context, in *mgn.PutSourceServerActionInput) (*mgn.SourceServerActionDocument, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	v, err := a.d.Actions.Put(ctx, sc, state.PostLaunchAction{
		Owner: in.SourceServerID, ID: in.ActionID, Order: in.Order, Name: in.ActionName, Document: in.DocumentIdentifier,
		Version: wireform.Value(in.DocumentVersion), Active: in.Active == nil || *in.Active, Timeout: wireform.Value(in.TimeoutSeconds),
		MustSucceed: wireform.Value(in.MustSucceedForCutover), Category: string(in.Category), Description: wireform.Value(in.Description),
		Parameters: parameters(in.Parameters), External: external(in.ExternalParameters),
	})
	if err != nil {
		return nil, err
	}
	return new(serverAction(&v)), nil
}

// ListSourceServerActions lists a server's actions in their order.
func (a *API) ListSourceServerActions(ctx context.Context, in *mgn.ListSourceServerActionsInput) (*mgn.ListSourceServerActionsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	f := wireform.Value(in.Filters)
	out := &mgn.ListSourceServerActionsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListSourceServerActions", sc, in.SourceServerID, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.PostLaunchAction, string, error) {
			return a.d.Actions.List(ctx, sc, in.SourceServerID, f.ActionIDs, p)
		}, serverAction)
	return out, err
}

// RemoveSourceServerAction takes an action away.
func (a *API) RemoveSourceServerAction(ctx context.Context, in *mgn.RemoveSourceServerActionInput) (*mgn.RemoveSourceServerActionOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.RemoveSourceServerActionOutput{}, a.d.Actions.Remove(ctx, sc, in.SourceServerID, in.ActionID)
}

// PutTemplateAction says what servers that are added later start with.
func (a *API) PutTemplateAction(ctx context.Context, in *mgn.PutTemplateActionInput) (*mgn.TemplateActionDocument, error) {
	v, err := a.d.Actions.Put(ctx, scope(ctx), state.PostLaunchAction{
		Owner: in.LaunchConfigurationTemplateID, ID: in.ActionID, Order: in.Order, Name: in.ActionName, Document: in.DocumentIdentifier,
		Version: wireform.Value(in.DocumentVersion), Active: in.Active == nil || *in.Active, Timeout: wireform.Value(in.TimeoutSeconds),
		MustSucceed: wireform.Value(in.MustSucceedForCutover), Category: string(in.Category), Description: wireform.Value(in.Description),
		OS: wireform.Value(in.OperatingSystem), Parameters: parameters(in.Parameters), External: external(in.ExternalParameters),
	})
	if err != nil {
		return nil, err
	}
	return new(templateAction(&v)), nil
}

// ListTemplateActions lists a template's actions in their order.
func (a *API) ListTemplateActions(ctx context.Context, in *mgn.ListTemplateActionsInput) (out *mgn.ListTemplateActionsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	out = &mgn.ListTemplateActionsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListTemplateActions", sc, in.LaunchConfigurationTemplateID, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.PostLaunchAction, string, error) {
			return a.d.Actions.List(ctx, sc, in.LaunchConfigurationTemplateID, f.ActionIDs, p)
		}, templateAction)
	return out, err
}

// RemoveTemplateAction takes an action away.
func (a *API) RemoveTemplateAction(ctx context.Context, in *mgn.RemoveTemplateActionInput) (*mgn.RemoveTemplateActionOutput, error) {
	return &mgn.RemoveTemplateActionOutput{}, a.d.Actions.Remove(ctx, scope(ctx), in.LaunchConfigurationTemplateID, in.ActionID)
}

func serverAction(v *state.PostLaunchAction) mgn.SourceServerActionDocument {
	return mgn.SourceServerActionDocument{
		ActionID: new(v.ID), ActionName: new(v.Name), Active: new(v.Active), Category: mgn.ActionCategory(v.Category), Description: wireform.Text(v.Description),
		DocumentIdentifier: new(v.Document), DocumentVersion: new(v.Version), ExternalParameters: externalView(v.External),
		MustSucceedForCutover: new(v.MustSucceed), Order: new(v.Order), Parameters: parametersView(v.Parameters), TimeoutSeconds: new(v.Timeout),
	}
}

func templateAction(v *state.PostLaunchAction) mgn.TemplateActionDocument {
	return mgn.TemplateActionDocument{
		ActionID: new(v.ID), ActionName: new(v.Name), Active: new(v.Active), Category: mgn.ActionCategory(v.Category), Description: wireform.Text(v.Description),
		DocumentIdentifier: new(v.Document), DocumentVersion: new(v.Version), ExternalParameters: externalView(v.External),
		MustSucceedForCutover: new(v.MustSucceed), OperatingSystem: wireform.Text(v.OS), Order: new(v.Order),
		Parameters: parametersView(v.Parameters), TimeoutSeconds: new(v.Timeout),
	}
}
