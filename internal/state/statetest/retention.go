package statetest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func pin(server state.Server, n int, owner string) state.Pin {
	return state.Pin{
		ID: fmt.Sprintf("pin-%02d", n), Scope: server.Scope, ServerID: server.ID, Position: math.MaxUint64 - uint64(n),
		At: epoch, Owner: owner, Purpose: state.PinLaunch, CreatedAt: epoch.Add(time.Duration(n/2) * time.Second), // pairs share a time
	}
}

func putPins(ctx context.Context, tx state.Tx, pins ...state.Pin) error {
	for _, p := range pins {
		if err := tx.PutPin(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func testPins(t *testing.T, s state.Store) {
	initialise(t, s)
	a, b := server(drs, 1), server(drs, 2)
	foreign := server(mgn, 3)
	put(t, s, a, b, foreign)
	all := []state.Pin{pin(a, 0, "job-1"), pin(b, 1, "job-1"), pin(a, 2, "job-2"), pin(a, 3, "nbd-1")}
	all[3].Purpose = state.PinExport
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return putPins(ctx, tx, all[2], all[0], all[3], all[1], pin(foreign, 9, "job-9")) // order of insertion must not show
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		var walked []state.Pin
		for page := (state.Page{Limit: 3}); ; {
			items, next, err := r.Pins(ctx, drs, page)
			require.NoError(t, err)
			walked = append(walked, items...)
			if next == "" {
				break
			}
			page.After = next
		}
		require.Equal(t, all, walked)
		of, err := r.ServerPins(ctx, a.ID)
		require.NoError(t, err)
		require.Equal(t, []state.Pin{all[0], all[2], all[3]}, of)
		of, err = r.OwnerPins(ctx, "job-1")
		require.NoError(t, err)
		require.Equal(t, all[:2], of)
	})
	twin := pin(a, 7, "job-1")
	twin.Position = all[0].Position
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPin(ctx, twin) }))
	nowhere := pin(a, 8, "job-1")
	nowhere.PointID = "pit-none"
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPin(ctx, nowhere) }))
	left := func() (owners []string) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			items, _, err := r.Pins(ctx, drs, state.Page{})
			require.NoError(t, err)
			for _, p := range items {
				owners = append(owners, p.Owner)
			}
		})
		return owners
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePins(ctx, "job-1") })
	require.Equal(t, []string{"job-2", "nbd-1"}, left())
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePinsFor(ctx, state.PinExport) })
	require.Equal(t, []string{"job-2"}, left())
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePin(ctx, all[2].ID) })
	require.Empty(t, left())
}

func testPointRequest(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	put(t, s, v)
	ask := func() (q state.PointRequest, err error) {
		view(t, s, func(ctx context.Context, r state.Reader) { q, err = r.PointRequest(ctx, v.ID) })
		return q, err
	}
	_, err := ask()
	requireKind(t, fault.NotFound, err)
	for _, want := range []state.PointRequest{
		{ID: "ask-1", Scope: drs, ServerID: v.ID, AskedAt: epoch, Until: epoch.Add(time.Minute)},
		{ID: "ask-2", Scope: drs, ServerID: v.ID, AskedAt: epoch, Until: epoch.Add(time.Minute), PointID: "pit-1", Error: "x"},
	} {
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPointRequest(ctx, want) })
		got, err := ask()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	_, err = ask()
	requireKind(t, fault.NotFound, err)
}

func testPinnedPoints(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	put(t, s, v)
	point := state.Point{ID: "pit-1", Scope: drs, ServerID: v.ID, Expected: epoch, At: epoch, Position: 7}
	free := state.Point{ID: "pit-2", Scope: drs, ServerID: v.ID, Expected: epoch.Add(time.Hour), At: epoch, Position: 8}
	onPoint := pin(v, 1, "drsjob-1")
	onPoint.PointID = point.ID
	bare := pin(v, 2, "drsjob-2")
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for _, p := range []state.Point{point, free} {
			if err := tx.PutPoint(ctx, p); err != nil {
				return err
			}
		}
		return putPins(ctx, tx, onPoint, bare)
	})
	wipe := func(ctx context.Context, tx state.Tx) error { return tx.WipePoints(ctx, v.ID) }
	err := try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePoint(ctx, point.ID) })
	requireKind(t, fault.Conflict, err)
	require.NotEmpty(t, fault.HintOf(err))
	require.ErrorContains(t, err, "drsjob-1")
	requireKind(t, fault.Conflict, try(t, s, wipe))
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePoint(ctx, free.ID) })
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePins(ctx, onPoint.Owner) })
	requireKind(t, fault.Conflict, try(t, s, wipe)) // a pin that names no point keeps the journal
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePins(ctx, bare.Owner) })
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPin(ctx, onPoint) })
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		items, _, err := r.Pins(ctx, drs, state.Page{})
		require.NoError(t, err)
		require.Empty(t, items, "a server's end takes its points and their pins")
	})
}

func testJournalSettings(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	put(t, s, v)
	read := func() (out state.JournalSettings, err error) {
		view(t, s, func(ctx context.Context, r state.Reader) { out, err = r.JournalSettings(ctx, v.ID) })
		return out, err
	}
	_, err := read()
	requireKind(t, fault.NotFound, err)
	window := 48 * time.Hour
	for _, want := range []state.JournalSettings{
		{ServerID: v.ID, Window: &window, QuotaBytes: 1 << 40}, {ServerID: v.ID, Window: new(time.Duration)}, {ServerID: v.ID, QuotaBytes: 5},
	} {
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutJournalSettings(ctx, want) })
		got, err := read()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	_, err = read()
	requireKind(t, fault.NotFound, err)
}
