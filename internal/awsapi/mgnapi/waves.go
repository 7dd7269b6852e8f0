package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateWave makes a group of applications.
func (a *API) CreateWave(ctx context.Context, in *mgn.CreateWaveInput) (*mgn.Wave, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.wave(a.d.Waves.Create(ctx, sc, in.Name, wireform.Value(in.Description), in.Tags))
}

// UpdateWave changes the given members.
func (a *API) UpdateWave(ctx context.Context, in *mgn.UpdateWaveInput) (*mgn.Wave, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.wave(a.d.Waves.Update(ctx, sc, in.WaveID, in.Name, in.Description))
}

// ArchiveWave puts a wave away whose servers are done with.
func (a *API) ArchiveWave(ctx context.Context, in *mgn.ArchiveWaveInput) (*mgn.Wave, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.wave(a.d.Waves.Archive(ctx, sc, in.WaveID))
}

// UnarchiveWave takes a wave back.
func (a *API) UnarchiveWave(ctx context.Context, in *mgn.UnarchiveWaveInput) (*mgn.Wave, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return a.wave(a.d.Waves.Unarchive(ctx, sc, in.WaveID))
}

// DeleteWave forgets a wave without applications.
func (a *API) DeleteWave(ctx context.Context, in *mgn.DeleteWaveInput) (*mgn.DeleteWaveOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DeleteWaveOutput{}, a.d.Waves.Delete(ctx, sc, in.WaveID)
}

// ListWaves lists waves with the state of their servers.
func (a *API) ListWaves(ctx context.Context, in *mgn.ListWavesInput) (*mgn.ListWavesOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	f := wireform.Value(in.Filters)
	out := &mgn.ListWavesOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListWaves", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]inventory.Wave, string, error) {
			return a.d.Waves.List(ctx, sc, state.WaveFilter{IDs: f.WaveIDs, Archived: f.IsArchived}, p)
		}, a.waveView)
	return out, err
}

// AssociateApplications puts applications into a wave.
func (a *API) AssociateApplications(ctx context.Context, in *mgn.AssociateApplicationsInput) (*mgn.AssociateApplicationsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.AssociateApplicationsOutput{}, several(a.d.Waves.Associate(ctx, sc, in.WaveID, in.ApplicationIDs))
}

// DisassociateApplications takes applications out of a wave.
func (a *API) DisassociateApplications(ctx context.Context, in *mgn.DisassociateApplicationsInput) (*mgn.DisassociateApplicationsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DisassociateApplicationsOutput{}, several(a.d.Waves.Disassociate(ctx, sc, in.WaveID, in.ApplicationIDs))
}

func (a *API) wave(v inventory.Wave, err error) (*mgn.Wave, error) {
	if err != nil {
		return nil, err
	}
	return new(a.waveView(&v)), nil
}

func (a *API) waveView(v *inventory.Wave) mgn.Wave {
	return mgn.Wave{
		Arn:                  a.names(v.Scope).ARN(wave, v.ID),
		CreationDateTime:     wireform.Time(v.CreatedAt),
		Description:          wireform.Text(v.Description),
		IsArchived:           new(v.Archived),
		LastModifiedDateTime: wireform.Time(v.ModifiedAt),
		Name:                 new(v.Name),
		Tags:                 v.Tags,
		WaveAggregatedStatus: &mgn.WaveAggregatedStatus{
			HealthStatus:               mgn.WaveHealthStatus(v.Status.Health),
			LastUpdateDateTime:         wireform.Time(v.Status.UpdatedAt),
			ProgressStatus:             mgn.WaveProgressStatus(v.Status.Progress),
			ReplicationStartedDateTime: wireform.Time(v.Status.StartedAt),
			TotalApplications:          new(int64(v.Status.Applications)),
		},
		WaveID: new(v.ID),
	}
}
