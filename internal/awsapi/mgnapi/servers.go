package mgnapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// DescribeSourceServers lists servers with their replication as measured now. Archived servers are shown
// when they are asked for, by the filter or by their ids.
func (a *API) DescribeSourceServers(ctx context.Context, in *mgn.DescribeSourceServersInput) (*mgn.DescribeSourceServersOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	filter := mgn.DescribeSourceServersRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeSourceServers", sc, filter}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	read := time.Now()
	servers, next, err := a.d.Servers.List(ctx, sc, serverFilter(&filter), page)
	if err != nil {
		return nil, err
	}
	out := &mgn.DescribeSourceServersOutput{}
	if out.Items, err = a.views(ctx, read, servers); err != nil {
		return nil, err
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

func serverFilter(f *mgn.DescribeSourceServersRequestFilters) state.ServerFilter {
	out := state.ServerFilter{IDs: f.SourceServerIDs, ApplicationIDs: f.ApplicationIDs, Archived: f.IsArchived}
	if f.IsArchived == nil && len(f.SourceServerIDs) == 0 {
		out.Archived = new(false)
	}
	for _, s := range f.LifeCycleStates {
		out.LifeCycleStates = append(out.LifeCycleStates, state.LifeCycleState(s))
	}
	for _, t := range f.ReplicationTypes {
		out.ReplicationTypes = append(out.ReplicationTypes, string(t))
	}
	return out
}

// DeleteSourceServer forgets a disconnected server.
func (a *API) DeleteSourceServer(ctx context.Context, in *mgn.DeleteSourceServerInput) (*mgn.DeleteSourceServerOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DeleteSourceServerOutput{}, a.d.Replication.Delete(ctx, sc, in.SourceServerID)
}

// StartReplication begins the replication of a stopped server, with a full copy.
func (a *API) StartReplication(ctx context.Context, in *mgn.StartReplicationInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Start)
}

// StopReplication ends a server's replication and drops what was staged.
func (a *API) StopReplication(ctx context.Context, in *mgn.StopReplicationInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Stop)
}

// PauseReplication holds replication; nothing that is staged is lost.
func (a *API) PauseReplication(ctx context.Context, in *mgn.PauseReplicationInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Pause)
}

// ResumeReplication sends what changed during a pause and goes on.
func (a *API) ResumeReplication(ctx context.Context, in *mgn.ResumeReplicationInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Resume)
}

// RetryDataReplication begins the initiation of a stalled server again.
func (a *API) RetryDataReplication(ctx context.Context, in *mgn.RetryDataReplicationInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Retry)
}

// DisconnectFromService takes a server out of replication and dismisses its agent.
func (a *API) DisconnectFromService(ctx context.Context, in *mgn.DisconnectFromServiceInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Replication.Disconnect)
}

// MarkAsArchived hides a server that is done with.
func (a *API) MarkAsArchived(ctx context.Context, in *mgn.MarkAsArchivedInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, func(ctx context.Context, sc state.Scope, id string) error {
		_, err := a.d.Servers.Archive(ctx, sc, id)
		return err
	})
}

// ChangeServerLifeCycleState moves a server between its tests and its cutover by hand.
func (a *API) ChangeServerLifeCycleState(ctx context.Context, in *mgn.ChangeServerLifeCycleStateInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, func(ctx context.Context, sc state.Scope, id string) error {
		_, err := a.d.Servers.ChangeLifeCycle(ctx, sc, id, state.LifeCycleState(in.LifeCycle.State))
		return err
	})
}

// act does something to a server and shows it after that.
func (a *API) act(ctx context.Context, accountID *string, id string, do func(context.Context, state.Scope, string) error) (*mgn.SourceServer, error) {
	sc, err := a.scopeOf(ctx, accountID)
	if err != nil {
		return nil, err
	}
	if err := do(ctx, sc, id); err != nil {
		return nil, err
	}
	read := time.Now()
	s, err := a.d.Servers.Get(ctx, sc, id)
	if err != nil {
		return nil, err
	}
	views, err := a.views(ctx, read, []state.Server{s})
	if err != nil {
		return nil, err
	}
	return &views[0], nil
}

// views shows servers, read no earlier than read, together with their replication. A server whose replication was stored since is read
// again: its life cycle may have moved with it, and nobody may see one that is CONTINUOUS and not ready.
func (a *API) views(ctx context.Context, read time.Time, servers []state.Server) ([]mgn.SourceServer, error) {
	infos, err := a.d.Replication.Describe(ctx, servers)
	if err != nil {
		return nil, err
	}
	items := make([]mgn.SourceServer, len(servers))
	for i := range servers {
		v := servers[i]
		if !infos[i].StoredAt.Before(read) {
			again, err := a.d.Servers.Get(ctx, v.Scope, v.ID)
			if err != nil && !fault.Is(err, fault.NotFound) { // it is shown as it was before it was deleted
				return nil, err
			}
			if err == nil {
				v = again
			}
		}
		items[i] = a.view(&v, &infos[i])
	}
	return items, nil
}
