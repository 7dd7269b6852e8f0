package drsapi

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateExtendedSourceServer adds a source server whose data is staged in another account.
func (a *API) CreateExtendedSourceServer(ctx context.Context, in *drs.CreateExtendedSourceServerInput) (*drs.CreateExtendedSourceServerOutput, error) {
	owner, id, err := a.stagingServer(in.SourceServerArn)
	if err != nil {
		return nil, err
	}
	v, err := a.d.Extensions.Extend(ctx, scope(ctx), owner, id, in.Tags)
	if err != nil {
		return nil, err
	}
	views, err := a.views(ctx, []state.Server{v})
	if err != nil {
		return nil, err
	}
	return &drs.CreateExtendedSourceServerOutput{SourceServer: &views[0]}, nil
}

// stagingServer reads the ARN of another account's source server; the shape has checked its form.
func (a *API) stagingServer(arn string) (owner, id string, err error) {
	const accountField = 4 // arn:partition:service:region:account:...
	if fields := strings.Split(arn, ":"); len(fields) > accountField {
		owner = fields[accountField]
	}
	kind, id, err := a.names(state.Scope{Account: owner, Service: state.DRS}).Parse(arn)
	if err == nil && kind != wireform.SourceServer {
		err = control.Missing("drs: read ARN", control.SourceServer, arn)
	}
	return owner, id, err
}

// ListExtensibleSourceServers lists what could be extended from a staging account.
func (a *API) ListExtensibleSourceServers(ctx context.Context, in *drs.ListExtensibleSourceServersInput) (*drs.ListExtensibleSourceServersOutput, error) {
	sc := scope(ctx)
	query := []any{"ListExtensibleSourceServers", sc, in.StagingAccountID}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.Extensions.Extensible(ctx, sc, in.StagingAccountID, page)
	if err != nil {
		return nil, err
	}
	out := &drs.ListExtensibleSourceServersOutput{}
	for _, v := range list {
		out.Items = append(out.Items, drs.StagingSourceServer{
			Arn: a.names(v.Scope).ARN(wireform.SourceServer, v.ID), Hostname: wireform.Text(v.Properties.Hints.Hostname), Tags: v.Tags})
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// ListStagingAccounts lists the accounts that extended servers are staged in.
func (a *API) ListStagingAccounts(ctx context.Context, in *drs.ListStagingAccountsInput) (*drs.ListStagingAccountsOutput, error) {
	sc := scope(ctx)
	query := []any{"ListStagingAccounts", sc}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	page.Limit = min(page.Limit, maxStagingAccounts)
	list, next, err := a.d.Extensions.StagingAccounts(ctx, sc, page)
	if err != nil {
		return nil, err
	}
	out := &drs.ListStagingAccountsOutput{}
	for _, id := range list {
		out.Accounts = append(out.Accounts, drs.Account{AccountID: new(id)})
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// maxStagingAccounts is the largest page of the model.
const maxStagingAccounts = 50
