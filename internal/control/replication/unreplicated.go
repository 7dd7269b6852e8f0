package replication

import (
	"context"
	"fmt"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// unreplicated are the life cycle states of servers that have no replication record: no agent has ever registered for
// one that was discovered or imported. It can be disconnected, and deleted before or after.
var unreplicated = map[Trigger][]state.LifeCycleState{
	OpDisconnect: {state.Discovered, state.PendingInstallation},
	OpDelete:     {state.Discovered, state.PendingInstallation, state.LifeDisconnected},
}

// operateUnreplicated is operate for a server without a record.
func (e *Engine) operateUnreplicated(ctx context.Context, s state.Scope, id string, on Trigger) error {
	op := fmt.Sprintf("replication: %s", on)
	err := e.store.Update(ctx, func(tx state.Tx) error {
		v, err := tx.Server(ctx, s, id)
		if fault.Is(err, fault.NotFound) {
			return control.Missing(op, control.SourceServer, id)
		}
		if err != nil {
			return err
		}
		if !slices.Contains(unreplicated[on], v.LifeCycle.State) {
			return neverReplicated(op, on, v)
		}
		if on == OpDelete {
			return tx.DeleteServer(ctx, id)
		}
		if err := lifecycle.Apply(&v, lifecycle.Disconnected); err != nil {
			return err
		}
		return tx.PutServer(ctx, v)
	})
	return fault.Wrap(op, err)
}

func neverReplicated(op string, on Trigger, v state.Server) error {
	kind := fault.Conflict
	if on == OpRetry {
		kind = fault.Invalid // it has no conflict among its errors
	}
	return fault.New(kind, op, "%w", &control.ResourceError{Type: control.SourceServer, ID: v.ID,
		Err: fmt.Errorf("%s is not possible: no agent has registered for it, its life cycle state is %s", on, v.LifeCycle.State)})
}
