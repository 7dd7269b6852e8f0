package serve

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
)

// replica is the replication server as the control plane wants it: the two know nothing of each other.
type replica struct{ *sink.Server }

var _ replication.ReplicationServer = replica{}

func (r replica) CreateStaging(ctx context.Context, serverID string, disks []replication.StagingDisk) (bool, error) {
	staged := make([]sink.StagingDisk, len(disks))
	for i, d := range disks {
		staged[i] = sink.StagingDisk{Index: uint16(d.Index), Device: d.DeviceName, Bytes: d.Bytes}
	}
	return r.Server.CreateStaging(ctx, serverID, staged)
}

func (r replica) Status(serverID string) replication.ReplicaStatus {
	s := r.Server.Status(serverID)
	out := replication.ReplicaStatus{
		Attached: s.Attached, Connected: s.Connected, ConnectedAt: s.ConnectedAt, FirstByteAt: s.FirstByteAt,
		LastFrameAt: s.LastFrameAt, JournalID: s.JournalID, Durable: s.Durable, Watermark: s.Watermark, Epoch: s.Epoch,
		BaselineComplete: s.BaselineComplete, Recoverable: s.Recoverable, BytesReceived: s.BytesReceived, Err: s.Err,
	}
	if d := s.Doubt; d.Epoch != 0 {
		out.Finding = &state.Finding{Journal: s.JournalID, Epoch: d.Epoch, Since: d.Since, Bytes: d.Bytes, Absent: d.Absent}
	}
	return out
}
