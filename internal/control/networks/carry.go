package networks

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Results of a network's last recovery, as the API spells them.
const (
	resultInProgress = "IN_PROGRESS"
	resultPartial    = "PARTIAL_SUCCESS" // what was asked for, but launch templates stayed as they were
)

// Resume carries on with the jobs that an earlier process left unfinished.
func (n *Networks) Resume(ctx context.Context) error {
	list, err := n.jobs.Unfinished(ctx)
	for _, j := range list {
		if err == nil {
			err = n.Carry(ctx, j)
		}
	}
	return fault.Wrap("source networks: resume", err)
}

// Carry does a network's job, from wherever it stands: whoever finds one unfinished after a restart calls it
// again.
func (n *Networks) Carry(ctx context.Context, j state.Job) error {
	if j.InitiatedBy != state.ByAssociateNetworkRecovery {
		return nil
	}
	s, id, at := j.Scope, j.Participants[0].SourceNetworkID, j.Participants[0].Status
	if j.Status == state.JobPending {
		if err := n.jobs.Begin(ctx, s, j.ID); err != nil {
			return err
		}
	}
	if at == state.LaunchPending {
		if err := n.jobs.Move(ctx, s, j.ID, id, jobs.Proceed, nil, nil,
			state.JobEvent{Event: state.UpdateLaunchTemplateStart, SourceNetworkID: id}); err != nil {
			return err
		}
		at = state.LaunchInProgress
	}
	if at == state.LaunchInProgress {
		settle := func(ctx context.Context, tx state.Tx, _ state.Participant) error {
			v, err := n.In(ctx, tx, s, id)
			if fault.Is(err, fault.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if v.LastRecovery.JobID == j.ID {
				v.LastRecovery.Result = resultPartial
			}
			return tx.PutSourceNetwork(ctx, v)
		}
		if err := n.jobs.Move(ctx, s, j.ID, id, jobs.Succeed, nil, settle, state.JobEvent{Event: state.UpdateLaunchTemplateFailed, SourceNetworkID: id,
			RawError: "the stack's name was noted; launch templates stay as they are, for there is no CloudFormation to ask for its subnets"}); err != nil {
			return err
		}
	}
	return n.jobs.Finish(ctx, s, j.ID)
}
