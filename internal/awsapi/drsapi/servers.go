package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/state"
)

// DescribeSourceServers lists servers with their replication as measured now.
func (a *API) DescribeSourceServers(ctx context.Context, in *drs.DescribeSourceServersInput) (*drs.DescribeSourceServersOutput, error) {
	sc := scope(ctx)
	filter := drs.DescribeSourceServersRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeSourceServers", sc, filter}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	f := state.ServerFilter{IDs: filter.SourceServerIDs, StagingAccounts: filter.StagingAccountIDs}
	if filter.HardwareId != nil {
		f.HardwareID = *filter.HardwareId
	}
	servers, next, err := a.d.Servers.List(ctx, sc, f, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeSourceServersOutput{}
	if out.Items, err = a.views(ctx, servers); err != nil {
		return nil, err
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// DeleteSourceServer forgets a disconnected server.
func (a *API) DeleteSourceServer(ctx context.Context, in *drs.DeleteSourceServerInput) (*drs.DeleteSourceServerOutput, error) {
	return &drs.DeleteSourceServerOutput{}, a.d.Replication.Delete(ctx, scope(ctx), in.SourceServerID)
}

// StartReplication protects a stopped server again.
func (a *API) StartReplication(ctx context.Context, in *drs.StartReplicationInput) (*drs.StartReplicationOutput, error) {
	s, err := a.act(ctx, a.d.Replication.Start, in.SourceServerID)
	return &drs.StartReplicationOutput{SourceServer: s}, err
}

// StopReplication ends a server's protection and drops its recovery points.
func (a *API) StopReplication(ctx context.Context, in *drs.StopReplicationInput) (*drs.StopReplicationOutput, error) {
	s, err := a.act(ctx, a.d.Replication.Stop, in.SourceServerID)
	return &drs.StopReplicationOutput{SourceServer: s}, err
}

// RetryDataReplication begins the initiation of a stalled server again.
func (a *API) RetryDataReplication(ctx context.Context, in *drs.RetryDataReplicationInput) (*drs.SourceServer, error) {
	return a.act(ctx, a.d.Replication.Retry, in.SourceServerID)
}

// DisconnectSourceServer takes a server out of replication and dismisses its agent.
func (a *API) DisconnectSourceServer(ctx context.Context, in *drs.DisconnectSourceServerInput) (*drs.SourceServer, error) {
	return a.act(ctx, a.d.Replication.Disconnect, in.SourceServerID)
}

// act does one replication operation and shows the server after it.
func (a *API) act(ctx context.Context, do func(context.Context, state.Scope, string) error, id string) (*drs.SourceServer, error) {
	if err := do(ctx, scope(ctx), id); err != nil {
		return nil, err
	}
	s, err := a.d.Servers.Get(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	views, err := a.views(ctx, []state.Server{s})
	if err != nil {
		return nil, err
	}
	return &views[0], nil
}

// views shows servers together with their replication and what else is known of them.
func (a *API) views(ctx context.Context, servers []state.Server) ([]drs.SourceServer, error) {
	infos, err := a.d.Replication.Describe(ctx, servers)
	if err != nil {
		return nil, err
	}
	near, err := a.surroundings(ctx, servers)
	if err != nil {
		return nil, err
	}
	items := make([]drs.SourceServer, len(servers))
	for i := range servers {
		items[i] = a.view(&servers[i], &infos[i])
		near.complete(a, &servers[i], &items[i])
	}
	return items, nil
}

// surroundings are what other records say of servers, by server id.
type surroundings struct {
	links     map[string]extended.Link
	networks  map[string]string
	instances map[string]string
}

func (a *API) surroundings(ctx context.Context, servers []state.Server) (n surroundings, err error) {
	if len(servers) == 0 {
		return n, nil
	}
	if n.links, err = a.d.Extensions.Links(ctx, servers); err != nil {
		return n, err
	}
	if n.networks, err = a.d.Networks.Of(ctx, servers[0].Scope, servers); err != nil {
		return n, err
	}
	ids := make([]string, len(servers))
	for i := range servers {
		ids[i] = servers[i].ID
	}
	list, _, err := a.d.Recoveries.List(ctx, servers[0].Scope, state.RecoveryInstanceFilter{ServerIDs: ids}, state.Page{Limit: state.MaxLimit})
	n.instances = make(map[string]string, len(list))
	for _, v := range list {
		n.instances[v.ServerID] = v.ID // the newest is the last
	}
	return n, err
}

func (n *surroundings) complete(a *API, s *state.Server, v *drs.SourceServer) {
	v.SourceNetworkID = wireform.Text(n.networks[s.ID])
	v.RecoveryInstanceId = wireform.Text(n.instances[s.ID])
	l, ok := n.links[s.ID]
	if !ok {
		return
	}
	v.StagingArea = &drs.StagingArea{
		Status:                 drs.ExtensionStatusExtended,
		StagingAccountID:       new(l.StagingAccount),
		StagingSourceServerArn: a.names(state.Scope{Account: l.StagingAccount, Service: state.DRS}).ARN(wireform.SourceServer, l.StagingServer),
	}
	if l.Broken != "" {
		v.StagingArea.Status, v.StagingArea.ErrorMessage = drs.ExtensionStatusExtensionError, new(l.Broken)
	}
}
