package agent

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
)

// What is frozen by schedule is what --freeze says; none means that nothing is ever held, not that a hold freezes nothing.
func TestHoldsFreezeWhatIsToBeFrozen(t *testing.T) {
	r := func(freeze string) *replicator {
		return &replicator{cfg: Config{StateDir: t.TempDir(), Freeze: freeze, HoldAtMost: time.Second}, disks: &inventory{}}
	}
	for _, freeze := range []string{"", consistency.Auto, "/srv,/var/lib/data"} {
		hold, err := r(freeze).holder()
		require.NoError(t, err)
		require.NotNil(t, hold)
		want, err := consistency.ParseSelection(freeze)
		require.NoError(t, err)
		require.Equal(t, want, r(freeze).holding(want, nil).Freeze)
	}
	hold, err := r(consistency.None).holder()
	require.NoError(t, err)
	require.Nil(t, hold)
	_, err = r("relative").holder()
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)

	// A mount point that is not there is an error of the hold, and f is not called as if all were still.
	hold, err = r("/not/mounted/anywhere").holder()
	require.NoError(t, err)
	require.Error(t, hold(t.Context(), func(context.Context) error { t.Error("nothing is frozen"); return nil }))
}
