package replication_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/state"
)

// A quota that is full refuses the start, and leaves the server as it was.
func TestStartBeyondTheQuota(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		w.until(state.Continuous, time.Minute)
		require.NoError(t, w.engine.Stop(t.Context(), w.scope, w.v.ID))
		none, err := quotas.New(map[quotas.Code]int64{quotas.DRSReplicating: 0})
		require.NoError(t, err)
		full := true
		w.engine.OnBegin(func(ctx context.Context, r state.Reader, s state.Scope) error {
			if !full {
				return nil
			}
			return none.Room(ctx, r, s)
		})
		require.ErrorIs(t, w.engine.Start(t.Context(), w.scope, w.v.ID), control.ErrQuota)
		require.Equal(t, state.Stopped, w.info().State)
		full = false
		require.NoError(t, w.engine.Start(t.Context(), w.scope, w.v.ID))
		w.until(state.Continuous, time.Minute)
	})
}
