package networkmigration

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

func TestDefinitions(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	ctx, d := t.Context(), New(store)
	mgn := state.Scope{Account: "111122223333", Service: state.MGN} // not initialised: it need not be
	elsewhere := state.Scope{Account: "444455556666", Service: state.MGN}

	v, err := d.Create(ctx, mgn, Patch{Name: new("n"), Topology: new("ISOLATED_VPC"), TargetBucket: new("b"),
		Sources: new([]state.NetworkSource{{Environment: "NSX", Bucket: "b", Key: "k"}})}, map[string]string{"a": "b"})
	require.NoError(t, err)
	require.Regexp(t, `^nmd-[0-9a-f]{17}$`, v.ID)
	runs, _, err := d.Executions(ctx, mgn, v.ID, state.ExecutionFilter{}, state.Page{})
	require.NoError(t, err)
	require.Len(t, runs, 1, "a definition comes with an execution")
	require.Equal(t, []string{"MAPPING", "PENDING"}, []string{runs[0].Stage, runs[0].Status})

	twice := []state.NetworkSource{{Environment: "NSX"}, {Environment: "NSX"}}
	_, err = d.Update(ctx, mgn, v.ID, Patch{Sources: &twice})
	require.True(t, fault.Is(err, fault.Invalid))
	changed, err := d.Update(ctx, mgn, v.ID, Patch{Description: new("d"), InboundCIDR: new("10.0.0.0/16")})
	require.NoError(t, err)
	require.Equal(t, "n", changed.Name, "what is not named stays")
	require.True(t, changed.UpdatedAt.After(v.UpdatedAt))
	require.Len(t, changed.Sources, 1)

	require.NoError(t, d.Has(ctx, mgn, v.ID, runs[0].ID))
	for _, err := range []error{d.Has(ctx, mgn, v.ID, "no"), d.Has(ctx, mgn, "no", runs[0].ID), d.Has(ctx, elsewhere, v.ID, runs[0].ID),
		d.Segment(ctx, mgn, v.ID, runs[0].ID, "segment"), d.Start(ctx, mgn, v.ID, "no", "analysis")} {
		require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	}
	err = d.Start(ctx, mgn, v.ID, runs[0].ID, "network migration analysis")
	require.True(t, fault.Is(err, fault.Unsupported))
	require.ErrorContains(t, err, "network migration analysis has no meaning on this installation")

	list, _, err := d.List(ctx, mgn, nil, state.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, d.Delete(ctx, mgn, v.ID))
	_, _, err = d.Executions(ctx, mgn, v.ID, state.ExecutionFilter{}, state.Page{})
	require.True(t, fault.Is(err, fault.NotFound))
	_, err = d.Create(ctx, mgn, Patch{Sources: &twice}, nil)
	require.True(t, fault.Is(err, fault.Invalid))
}
