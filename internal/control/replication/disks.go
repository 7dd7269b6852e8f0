package replication

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// DisksChanged tells the engine that a server replicates other disks now. What runs goes on: the agent and the journal
// agree on disks by themselves. What was measured of those that stay is kept.
func (e *Engine) DisksChanged(ctx context.Context, v state.Server) error {
	const op = "replication: disks changed"
	a, err := e.in(ctx, v.Scope, v.ID)
	if err != nil {
		return fault.Wrap(op, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	rec := a.current()
	if sameDisks(rec, v) {
		return nil
	}
	fresh := sizes(v)
	for i, d := range fresh {
		had := slices.IndexFunc(rec.Disks, func(o state.DiskProgress) bool { return o.DeviceName == d.DeviceName })
		if had >= 0 {
			fresh[i] = rec.Disks[had]
			fresh[i].Total = d.Total
			fresh[i].Replicated, fresh[i].Rescanned = min(fresh[i].Replicated, d.Total), min(fresh[i].Rescanned, d.Total)
		}
	}
	rec.Disks = fresh
	return fault.Wrap(op, e.save(ctx, a, rec))
}
