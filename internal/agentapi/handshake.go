package agentapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Handshake takes an agent's report and tells it what to do. The certificate says who the agent is; a
// request in another's name is refused.
func (s *service) Handshake(ctx context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
	const op = "handshake"
	id, err := peer(ctx)
	if err != nil {
		return nil, s.answer(op, err)
	}
	if id.Server != r.GetSourceServerId() {
		return nil, s.answer(op, fault.New(fault.Denied, op, "the certificate is %s's, the request %q's", id.Server, r.GetSourceServerId()))
	}
	scope := state.Scope{Account: id.Account, Service: state.Service(id.Service)}
	v, err := s.present(ctx, scope, id.Server, r) // before anything of the report counts: it may be a copy's
	deleted := fault.Is(err, fault.NotFound)
	if err != nil && !deleted {
		return nil, s.answer(op, err)
	}
	if !deleted {
		if v, err = s.devices(ctx, v, r.GetDevices()); err != nil {
			return nil, s.answer(op, err)
		}
	}
	command, err := s.Replication.Handshake(ctx, scope, id.Server, report(r))
	if err != nil {
		return nil, s.answer(op, err)
	}
	out := &agentpb.HandshakeResponse{
		Desired:              desired[command.Desired],
		AttemptId:            command.AttemptID,
		ReplicationAddress:   command.Address,
		NextHandshakeSeconds: uint32(command.Next / time.Second),
	}
	if deleted { // the command says so
		return out, nil
	}
	out.BandwidthMbps, out.AutoReplicateNewDisks = v.Config.BandwidthMbps, v.Config.AutoReplicateNewDisks
	if err := s.points(ctx, scope, r, out); err != nil {
		return nil, s.answer(op, err)
	}
	for _, d := range v.Replicated() {
		out.Disks = append(out.Disks, &agentpb.AssignedDisk{DeviceName: d.DeviceName, Index: d.Index, Identity: d.Identity})
	}
	return out, nil
}

// devices takes over the disks that the agent replicates.
func (s *service) devices(ctx context.Context, v state.Server, told []*agentpb.Device) (state.Server, error) {
	if len(told) == 0 {
		return v, nil
	}
	list := make([]servers.Device, 0, min(len(told), maxDisks))
	for _, d := range told[:min(len(told), maxDisks)] {
		list = append(list, device(d))
	}
	v, changed, err := s.Servers.Devices(ctx, v, list)
	if err != nil || !changed {
		return v, err
	}
	return v, s.Replication.DisksChanged(ctx, v)
}

// soon is when to ask again while a point is being made.
const soon = 1

// maxPoints bounds the points of one handshake.
const maxPoints = 16

// points takes reported points and hands out the request for another.
func (s *service) points(ctx context.Context, scope state.Scope, r *agentpb.HandshakeRequest, out *agentpb.HandshakeResponse) error {
	if s.Points == nil {
		return nil
	}
	told := r.GetPoints()
	for _, p := range told[:min(len(told), maxPoints)] {
		m := points.Reported{ID: p.GetId(), RequestID: p.GetRequestId(), Epoch: p.GetEpoch(), Position: p.GetPosition(),
			Age: time.Duration(r.GetAgentTimeNs() - p.GetTimeNs()), Error: p.GetError()}
		settled, err := s.Points.Settle(ctx, scope, r.GetSourceServerId(), m)
		if err != nil {
			return err
		}
		if settled {
			out.PointsSettled = append(out.PointsSettled, m.ID)
		}
	}
	wanted, err := s.Points.Wanted(ctx, r.GetSourceServerId())
	out.PointWanted = wanted
	if wanted != "" || len(out.PointsSettled) < len(told) {
		out.NextHandshakeSeconds = soon
	}
	return err
}

func (s *service) present(ctx context.Context, scope state.Scope, id string, r *agentpb.HandshakeRequest) (state.Server, error) {
	var facts *state.SourceProperties
	if p := r.GetProperties(); p != nil {
		facts = new(properties(p))
	}
	return s.Servers.Present(ctx, scope, id, presence(r.GetPresence()), facts)
}

var desired = map[state.Intent]agentpb.Desired{
	state.IntentRun:        agentpb.Desired_DESIRED_RUN,
	state.IntentPause:      agentpb.Desired_DESIRED_PAUSE,
	state.IntentStop:       agentpb.Desired_DESIRED_STOP,
	state.IntentDisconnect: agentpb.Desired_DESIRED_DISCONNECT,
}

var phases = map[agentpb.Phase]replication.Phase{
	agentpb.Phase_PHASE_INITIAL_SYNC: replication.PhaseInitialSync,
	agentpb.Phase_PHASE_RESCAN:       replication.PhaseRescan,
	agentpb.Phase_PHASE_STREAMING:    replication.PhaseStreaming,
}

// maxDisks and maxErrorBytes bound what is kept of a report.
const (
	maxDisks      = 1000
	maxErrorBytes = 4096
)

func report(r *agentpb.HandshakeRequest) replication.Report {
	p := r.GetProgress()
	out := replication.Report{Phase: phases[p.GetPhase()], AttemptID: r.GetAttemptId(), LastError: p.GetLastError()}
	out.LastError = out.LastError[:min(len(out.LastError), maxErrorBytes)]
	if ns := r.GetAgentTimeNs(); ns != 0 {
		out.AgentTime = time.Unix(0, ns)
	}
	disks := p.GetDisks()
	for _, d := range disks[:min(len(disks), maxDisks)] {
		out.Disks = append(out.Disks, state.DiskProgress{
			DeviceName: d.GetDeviceName(), Total: d.GetTotalBytes(), Replicated: d.GetReplicatedBytes(),
			Rescanned: d.GetRescannedBytes(), Backlogged: d.GetBackloggedBytes(),
		})
	}
	return out
}
