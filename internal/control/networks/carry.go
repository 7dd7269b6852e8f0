package networks

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// resultPartial is a network's last recovery that did what was asked for, but left launch templates as they were.
const resultPartial = "PARTIAL_SUCCESS"

// Resume ends the jobs of networks that are unfinished: versions of this program that did a job in several steps could
// leave some.
func (n *Networks) Resume(ctx context.Context) error {
	list, err := n.jobs.Unfinished(ctx)
	for _, j := range list {
		if err != nil || j.InitiatedBy != state.ByAssociateNetworkRecovery {
			continue
		}
		err = n.Store.Update(ctx, func(tx state.Tx) error {
			now, err := tx.Job(ctx, j.Scope, j.ID)
			if err != nil || now.Status == state.JobCompleted { // by another process
				return err
			}
			return n.carry(ctx, tx, now)
		})
	}
	return fault.Wrap("source networks: resume", err)
}

// carry does a network's job, which is nothing but records, in the transaction that makes it.
func (n *Networks) carry(ctx context.Context, tx state.Tx, j state.Job) error {
	id := j.Participants[0].SourceNetworkID
	v, err := n.In(ctx, tx, j.Scope, id)
	if err == nil && v.LastRecovery.JobID == j.ID {
		v.LastRecovery.Result = resultPartial
		err = tx.PutSourceNetwork(ctx, v)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return jobs.Within(ctx, tx, j,
		func(state.Participant) state.JobEvent {
			return state.JobEvent{Event: state.UpdateLaunchTemplateStart, SourceNetworkID: id}
		},
		func(state.Participant) state.JobEvent {
			return state.JobEvent{Event: state.UpdateLaunchTemplateFailed, SourceNetworkID: id,
				RawError: "the stack's name was noted; launch templates stay as they are, for there is no CloudFormation to ask for its subnets"}
		})
}
