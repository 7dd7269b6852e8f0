package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateApplication makes a group of servers.
func (a *API) CreateApplication(ctx context.Context, in *mgn.CreateApplicationInput) (*mgn.Application, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.application(a.d.Applications.Create(ctx, sc, in.Name, wireform.Value(in.Description), in.Tags))
}

// UpdateApplication changes the given members.
func (a *API) UpdateApplication(ctx context.Context, in *mgn.UpdateApplicationInput) (*mgn.Application, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.application(a.d.Applications.Update(ctx, sc, in.ApplicationID, in.Name, in.Description))
}

// ArchiveApplication puts an application away whose servers are done with.
func (a *API) ArchiveApplication(ctx context.Context, in *mgn.ArchiveApplicationInput) (*mgn.Application, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.application(a.d.Applications.Archive(ctx, sc, in.ApplicationID))
}

// UnarchiveApplication takes an application back.
func (a *API) UnarchiveApplication(ctx context.Context, in *mgn.UnarchiveApplicationInput) (*mgn.Application, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.application(a.d.Applications.Unarchive(ctx, sc, in.ApplicationID))
}

// DeleteApplication forgets an application without servers.
func (a *API) DeleteApplication(ctx context.Context, in *mgn.DeleteApplicationInput) (*mgn.DeleteApplicationOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DeleteApplicationOutput{}, a.d.Applications.Delete(ctx, sc, in.ApplicationID)
}

// ListApplications lists applications with the state of their servers.
func (a *API) ListApplications(ctx context.Context, in *mgn.ListApplicationsInput) (*mgn.ListApplicationsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	f := wireform.Value(in.Filters)
	out := &mgn.ListApplicationsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListApplications", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]inventory.Application, string, error) {
			return a.d.Applications.List(ctx, sc, state.ApplicationFilter{IDs: f.ApplicationIDs, WaveIDs: f.WaveIDs, Archived: f.IsArchived}, p)
		}, a.applicationView)
	return out, err
}

// AssociateSourceServers puts servers into an application.
func (a *API) AssociateSourceServers(ctx context.Context, in *mgn.AssociateSourceServersInput) (*mgn.AssociateSourceServersOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.AssociateSourceServersOutput{}, several(a.d.Applications.Associate(ctx, sc, in.ApplicationID, in.SourceServerIDs))
}

// DisassociateSourceServers takes servers out of an application.
func (a *API) DisassociateSourceServers(ctx context.Context, in *mgn.DisassociateSourceServersInput) (*mgn.DisassociateSourceServersOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DisassociateSourceServersOutput{}, several(a.d.Applications.Disassociate(ctx, sc, in.ApplicationID, in.SourceServerIDs))
}

func (a *API) application(v inventory.Application, err error) (*mgn.Application, error) {
	if err != nil {
		return nil, err
	}
	return new(a.applicationView(&v)), nil
}

func (a *API) applicationView(v *inventory.Application) mgn.Application {
	return mgn.Application{
		ApplicationID: new(v.ID),
		Arn:           a.names(v.Scope).ARN(application, v.ID),
		ApplicationAggregatedStatus: &mgn.ApplicationAggregatedStatus{
			HealthStatus:       mgn.ApplicationHealthStatus(v.Status.Health),
			LastUpdateDateTime: wireform.Time(v.Status.UpdatedAt),
			ProgressStatus:     mgn.ApplicationProgressStatus(v.Status.Progress),
			TotalSourceServers: new(int64(v.Status.Servers)),
		},
		CreationDateTime:     wireform.Time(v.CreatedAt),
		Description:          wireform.Text(v.Description),
		IsArchived:           new(v.Archived),
		LastModifiedDateTime: wireform.Time(v.ModifiedAt),
		Name:                 new(v.Name),
		Tags:                 v.Tags,
		WaveID:               wireform.Text(v.WaveID),
	}
}
