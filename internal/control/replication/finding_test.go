package replication_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
)

// What a verify pass found reaches the record, and with it whoever is told of its changes: while all is well, and while a baseline is
// under way, as it is when it is found.
func TestAFindingReachesTheRecord(t *testing.T) {
	in(t, state.DRS, func(t *testing.T, w *world) {
		record := func() (r state.Replication) {
			require.NoError(t, w.store.View(t.Context(), func(tx state.Reader) (err error) {
				r, err = tx.Replication(t.Context(), w.v.ID)
				return err
			}))
			return r
		}
		w.until(state.Continuous, 2*time.Minute)
		require.Nil(t, record().Finding)
		for n, busy := range []time.Duration{0, time.Hour} {
			f := &state.Finding{Journal: "j", Epoch: uint64(n + 2), Bytes: 4096}
			w.server.set(func() {
				r := w.server.of(w.v.ID)
				r.finding, r.copied = f, time.Now().Add(busy)
			})
			wait(time.Minute)
			require.Equal(t, f, record().Finding)
		}
	})
}
