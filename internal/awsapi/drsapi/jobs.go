package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// DescribeJobs lists jobs, the newest first.
func (a *API) DescribeJobs(ctx context.Context, in *drs.DescribeJobsInput) (*drs.DescribeJobsOutput, error) {
	sc := scope(ctx)
	filter := drs.DescribeJobsRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeJobs", sc, filter}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	f := state.JobFilter{IDs: filter.JobIDs}
	if f.From, err = wireform.ParseTime("filters.fromDate", filter.FromDate); err != nil {
		return nil, err
	}
	if f.To, err = wireform.ParseTime("filters.toDate", filter.ToDate); err != nil {
		return nil, err
	}
	list, next, err := a.d.Jobs.List(ctx, sc, f, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeJobsOutput{}
	for i := range list {
		out.Items = append(out.Items, *a.job(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// DescribeJobLogItems lists a job's log, the oldest first.
func (a *API) DescribeJobLogItems(ctx context.Context, in *drs.DescribeJobLogItemsInput) (*drs.DescribeJobLogItemsOutput, error) {
	sc := scope(ctx)
	query := []any{"DescribeJobLogItems", sc, in.JobID}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.Jobs.Log(ctx, sc, in.JobID, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeJobLogItemsOutput{}
	for i := range list {
		out.Items = append(out.Items, jobLog(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// DeleteJob forgets a completed job.
func (a *API) DeleteJob(ctx context.Context, in *drs.DeleteJobInput) (*drs.DeleteJobOutput, error) {
	return &drs.DeleteJobOutput{}, a.d.Jobs.Delete(ctx, scope(ctx), in.JobID)
}

func (a *API) job(j *state.Job) *drs.Job {
	out := &drs.Job{
		Arn:                  a.names(j.Scope).ARN(wireform.Job, j.ID),
		CreationDateTime:     wireform.Time(j.CreatedAt),
		EndDateTime:          wireform.Time(j.EndedAt),
		InitiatedBy:          drs.InitiatedBy(j.InitiatedBy),
		JobID:                j.ID,
		ParticipatingServers: []drs.ParticipatingServer{},
		Status:               drs.JobStatus(j.Status),
		Tags:                 j.Tags,
		Type:                 drs.JobType(j.Type),
	}
	for i := range j.Participants {
		p := &j.Participants[i]
		if p.SourceNetworkID != "" {
			out.ParticipatingResources = append(out.ParticipatingResources, drs.ParticipatingResource{
				LaunchStatus:            drs.LaunchStatus(p.Status),
				ParticipatingResourceID: &drs.ParticipatingResourceID{SourceNetworkID: new(p.SourceNetworkID)},
			})
			continue
		}
		out.ParticipatingServers = append(out.ParticipatingServers, drs.ParticipatingServer{
			LaunchActionsStatus: actionsStatus(p),
			LaunchStatus:        drs.LaunchStatus(p.Status),
			RecoveryInstanceID:  wireform.Text(p.RecoveryInstanceID),
			SourceServerID:      wireform.Text(p.ServerID),
		})
	}
	return out
}

func actionsStatus(p *state.Participant) *drs.LaunchActionsStatus {
	if p.ActionsReadyAt.IsZero() && len(p.Runs) == 0 {
		return nil
	}
	out := &drs.LaunchActionsStatus{SsmAgentDiscoveryDatetime: wireform.Time(p.ActionsReadyAt)}
	for _, r := range p.Runs {
		out.Runs = append(out.Runs, drs.LaunchActionRun{
			Action:        &drs.LaunchAction{ActionId: wireform.Text(r.ActionID)},
			FailureReason: wireform.Text(r.FailureReason),
			RunId:         wireform.Text(r.ExecutionID),
			Status:        drs.LaunchActionRunStatus(r.Status),
		})
	}
	return out
}

// jobLog shows one event. LAUNCH_END is not in the model, yet the real service sends it and clients wait for it.
func jobLog(e *state.JobEvent) drs.JobLog {
	data := &drs.JobLogEventData{
		ConversionServerID: wireform.Text(e.ConversionServerID),
		RawError:           wireform.Text(e.RawError),
		SourceServerID:     wireform.Text(e.ServerID),
		TargetInstanceID:   wireform.Text(e.TargetInstanceID),
		AttemptCount:       wireform.Some(int64(e.Attempt)),
		MaxAttemptsCount:   wireform.Some(int64(e.MaxAttempts)),
	}
	if e.SourceNetworkID != "" {
		data.EventResourceData = &drs.EventResourceData{SourceNetworkData: &drs.SourceNetworkData{SourceNetworkID: new(e.SourceNetworkID)}}
	}
	return drs.JobLog{Event: drs.JobLogEvent(e.Event), EventData: data, LogDateTime: wireform.Time(e.At)}
}
