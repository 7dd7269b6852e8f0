package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// DescribeRecoverySnapshots lists a server's recovery points, the newest first unless asked otherwise.
func (a *API) DescribeRecoverySnapshots(ctx context.Context, in *drs.DescribeRecoverySnapshotsInput) (*drs.DescribeRecoverySnapshotsOutput, error) {
	sc := scope(ctx)
	filter := drs.DescribeRecoverySnapshotsRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeRecoverySnapshots", sc, in.SourceServerID, filter, in.Order}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	f := state.PointFilter{Descending: in.Order != drs.RecoverySnapshotsOrderAsc}
	if f.From, err = wireform.ParseTime("filters.fromDateTime", filter.FromDateTime); err != nil {
		return nil, err
	}
	if f.To, err = wireform.ParseTime("filters.toDateTime", filter.ToDateTime); err != nil {
		return nil, err
	}
	points, next, err := a.d.Points.List(ctx, sc, in.SourceServerID, f, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeRecoverySnapshotsOutput{}
	for i := range points {
		out.Items = append(out.Items, snapshot(&points[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// snapshot shows a recovery point. It has no EBS snapshots: a point is a position in the journal.
func snapshot(p *state.Point) drs.RecoverySnapshot {
	return drs.RecoverySnapshot{
		EbsSnapshots:      []string{},
		ExpectedTimestamp: rest.FormatTime(p.Expected),
		SnapshotID:        p.ID,
		SourceServerID:    p.ServerID,
		Timestamp:         wireform.Time(p.At),
	}
}
