package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// DescribeJobs lists jobs, the newest first.
func (a *API) DescribeJobs(ctx context.Context, in *mgn.DescribeJobsInput) (*mgn.DescribeJobsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	f := wireform.Value(in.Filters)
	filter := state.JobFilter{IDs: f.JobIDs}
	if filter.From, err = wireform.ParseTime("filters.fromDate", f.FromDate); err != nil {
		return nil, err
	}
	if filter.To, err = wireform.ParseTime("filters.toDate", f.ToDate); err != nil {
		return nil, err
	}
	out := &mgn.DescribeJobsOutput{}
	out.Items, out.NextToken, err = paged([]any{"DescribeJobs", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.Job, string, error) { return a.d.Jobs.List(ctx, sc, filter, p) }, a.jobView)
	return out, err
}

// DescribeJobLogItems lists a job's log, the oldest first.
func (a *API) DescribeJobLogItems(ctx context.Context, in *mgn.DescribeJobLogItemsInput) (*mgn.DescribeJobLogItemsOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	out := &mgn.DescribeJobLogItemsOutput{}
	out.Items, out.NextToken, err = paged([]any{"DescribeJobLogItems", sc, in.JobID}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.JobEvent, string, error) { return a.d.Jobs.Log(ctx, sc, in.JobID, p) }, jobLog)
	return out, err
}

// DeleteJob forgets a completed job.
func (a *API) DeleteJob(ctx context.Context, in *mgn.DeleteJobInput) (*mgn.DeleteJobOutput, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return &mgn.DeleteJobOutput{}, a.d.Jobs.Delete(ctx, sc, in.JobID)
}

// StartTest launches test machines.
func (a *API) StartTest(ctx context.Context, in *mgn.StartTestInput) (*mgn.StartTestOutput, error) {
	j, err := a.launch(ctx, in.AccountID, in.SourceServerIDs, in.Tags, a.d.Launches.StartTest)
	return &mgn.StartTestOutput{Job: j}, err
}

// StartCutover launches the machines that take over.
func (a *API) StartCutover(ctx context.Context, in *mgn.StartCutoverInput) (*mgn.StartCutoverOutput, error) {
	j, err := a.launch(ctx, in.AccountID, in.SourceServerIDs, in.Tags, a.d.Launches.StartCutover)
	return &mgn.StartCutoverOutput{Job: j}, err
}

// TerminateTargetInstances removes launched machines.
func (a *API) TerminateTargetInstances(ctx context.Context, in *mgn.TerminateTargetInstancesInput) (*mgn.TerminateTargetInstancesOutput, error) {
	j, err := a.launch(ctx, in.AccountID, in.SourceServerIDs, in.Tags, a.d.Launches.Terminate)
	return &mgn.TerminateTargetInstancesOutput{Job: j}, err
}

func (a *API) launch(ctx context.Context, accountID *string, ids []string, tags map[string]string,
	start func(context.Context, state.Scope, []string, map[string]string) (state.Job, error)) (*mgn.Job, error) {
	sc, err := a.scopeOf(ctx, accountID)
	if err != nil {
		return nil, err
	}
	j, err := start(ctx, sc, ids, tags)
	if err != nil {
		return nil, several(err)
	}
	return new(a.jobView(&j)), nil
}

// FinalizeCutover ends a cutover and the server's replication.
func (a *API) FinalizeCutover(ctx context.Context, in *mgn.FinalizeCutoverInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, a.d.Launches.FinalizeCutover)
}

func (a *API) jobView(j *state.Job) mgn.Job {
	out := mgn.Job{
		Arn:                  a.names(j.Scope).ARN(wireform.Job, j.ID),
		CreationDateTime:     wireform.Time(j.CreatedAt),
		EndDateTime:          wireform.Time(j.EndedAt),
		InitiatedBy:          mgn.InitiatedBy(j.InitiatedBy),
		JobID:                j.ID,
		ParticipatingServers: []mgn.ParticipatingServer{},
		Status:               mgn.JobStatus(j.Status),
		Tags:                 j.Tags,
		Type:                 mgn.JobType(j.Type),
	}
	for i := range j.Participants {
		out.ParticipatingServers = append(out.ParticipatingServers, participant(&j.Participants[i]))
	}
	return out
}

func participant(p *state.Participant) mgn.ParticipatingServer {
	out := mgn.ParticipatingServer{LaunchStatus: mgn.LaunchStatus(p.Status), LaunchedEc2InstanceID: wireform.Text(p.InstanceID), SourceServerID: p.ServerID}
	if p.ActionsReadyAt.IsZero() && len(p.Runs) == 0 {
		return out
	}
	runs := &mgn.PostLaunchActionsStatus{SsmAgentDiscoveryDatetime: wireform.Time(p.ActionsReadyAt)}
	for _, r := range p.Runs {
		runs.PostLaunchActionsLaunchStatusList = append(runs.PostLaunchActionsLaunchStatusList, mgn.JobPostLaunchActionsLaunchStatus{
			ExecutionID: wireform.Text(r.ExecutionID), ExecutionStatus: mgn.PostLaunchActionExecutionStatus(r.Status), FailureReason: wireform.Text(r.FailureReason),
			SsmDocument: new(documentView(r.Document)), SsmDocumentType: mgn.SsmDocumentType(r.DocumentType),
		})
	}
	out.PostLaunchActionsStatus = runs
	return out
}

func jobLog(e *state.JobEvent) mgn.JobLog {
	data := &mgn.JobLogEventData{ConversionServerID: wireform.Text(e.ConversionServerID), RawError: wireform.Text(e.RawError),
		SourceServerID: wireform.Text(e.ServerID), TargetInstanceID: wireform.Text(e.TargetInstanceID)}
	if e.Attempt > 0 {
		data.AttemptCount = new(e.Attempt)
	}
	if e.MaxAttempts > 0 {
		data.MaxAttemptsCount = new(e.MaxAttempts)
	}
	return mgn.JobLog{Event: mgn.JobLogEvent(e.Event), EventData: data, LogDateTime: wireform.Time(e.At)}
}
