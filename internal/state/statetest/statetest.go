// Package statetest is the conformance suite of state.Store: whatever implements the store must pass it.
// Only tests import it.
package statetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Open opens the store that lives in dir, making it the first time.
type Open func(t *testing.T, dir string) state.Store

// Run checks every promise of state.Store against stores that open makes.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, state.Store){
		"Initialisation":       testInitialisation,
		"AccessKeys":           testAccessKeys,
		"Templates":            testTemplates,
		"ServerRecord":         testServerRecord,
		"ServerPages":          testServerPages,
		"ServerFilters":        testServerFilters,
		"ServerIdentity":       testServerIdentity,
		"ServerDeletion":       testServerDeletion,
		"Replications":         testReplications,
		"Points":               testPoints,
		"PointPages":           testPointPages,
		"Jobs":                 testJobs,
		"JobSubjects":          testJobSubjects,
		"JobLog":               testJobLog,
		"Applications":         testApplications,
		"Waves":                testWaves,
		"Members":              testMembers,
		"Connectors":           testConnectors,
		"MGNLaunch":            testMGNLaunch,
		"Transfers":            testTransfers,
		"NetworkMigrations":    testNetworkMigrations,
		"DRSLaunch":            testDRSLaunch,
		"SourceNetworks":       testSourceNetworks,
		"Extensions":           testExtensions,
		"RecoveryInstances":    testRecoveryInstances,
		"Pins":                 testPins,
		"PinnedPoints":         testPinnedPoints,
		"PointRequest":         testPointRequest,
		"JournalSettings":      testJournalSettings,
		"Access":               testAccess,
		"AccessPages":          testAccessPages,
		"Sessions":             testSessions,
		"CountServers":         testCountServers,
		"LaunchTemplates":      testLaunchTemplates,
		"LaunchTemplatePages":  testLaunchTemplatePages,
		"Events":               testEvents,
		"FirstTime":            testFirstTime,
		"Webhooks":             testWebhooks,
		"Lanes":                testLanes,
		"BadPageToken":         testBadPageToken,
		"UpdateIsAtomic":       testUpdateIsAtomic,
		"UpdateEndsWithAFault": testUpdateEndsWithAFault,
		"UpdatesAreSerialised": testUpdatesAreSerialised,
		"ViewIsASnapshot":      testViewIsASnapshot,
		"CancelledContext":     testCancelledContext,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			test(t, s)
		})
	}
	t.Run("Reopen", func(t *testing.T) { testReopen(t, open) })
}

var (
	drs   = state.Scope{Account: "111122223333", Service: state.DRS}
	mgn   = state.Scope{Account: "111122223333", Service: state.MGN}
	other = state.Scope{Account: "444455556666", Service: state.DRS}
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
)

func update(t *testing.T, s state.Store, fn func(context.Context, state.Tx) error) {
	t.Helper()
	require.NoError(t, try(t, s, fn))
}

func try(t *testing.T, s state.Store, fn func(context.Context, state.Tx) error) error {
	return s.Update(t.Context(), func(tx state.Tx) error { return fn(t.Context(), tx) })
}

func view(t *testing.T, s state.Store, fn func(context.Context, state.Reader)) {
	t.Helper()
	require.NoError(t, s.View(t.Context(), func(r state.Reader) error { fn(t.Context(), r); return nil }))
}

func initialise(t *testing.T, s state.Store) {
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutInitialised(ctx, drs, epoch), tx.PutInitialised(ctx, mgn, epoch), tx.PutInitialised(ctx, other, epoch))
	})
}

func server(s state.Scope, n int) state.Server {
	return state.Server{
		ID: fmt.Sprintf("s-%017x", n), Scope: s, Identity: fmt.Sprintf("machine-%d", n),
		CreatedAt: epoch.Add(time.Duration(n/2) * time.Second), // pairs share a time: ids break the tie
		Tags:      map[string]string{"n": fmt.Sprint(n)}, ReplicationType: state.AgentBased,
	}
}

func put(t *testing.T, s state.Store, servers ...state.Server) {
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for _, v := range servers {
			if err := tx.PutServer(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func requireKind(t *testing.T, k fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, k, fault.KindOf(err), "%v", err)
}

func testInitialisation(t *testing.T, s state.Store) {
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Initialised(ctx, drs)
		requireKind(t, fault.NotFound, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutInitialised(ctx, drs, epoch) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		at, err := r.Initialised(ctx, drs)
		require.NoError(t, err)
		require.Equal(t, epoch, at)
		_, err = r.Initialised(ctx, mgn)
		requireKind(t, fault.NotFound, err)
	})
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutServer(ctx, server(mgn, 1)) }))
}

func testAccessKeys(t *testing.T, s state.Store) {
	a := state.AccessKey{ID: "AKIAA", Account: drs.Account, User: "admin", Sealed: []byte{0, 1, 255}, Admin: true, CreatedAt: epoch}
	b := a
	b.ID, b.CreatedAt = "AKIAB", epoch.Add(-time.Second)
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutAccessKey(ctx, a), tx.PutAccessKey(ctx, b))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.AccessKey(ctx, a.ID)
		require.NoError(t, err)
		require.Equal(t, a, got)
		all, err := r.AccessKeys(ctx, a.Account)
		require.NoError(t, err)
		require.Equal(t, []state.AccessKey{b, a}, all)
		none, err := r.AccessKeys(ctx, other.Account)
		require.NoError(t, err)
		require.Empty(t, none)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteAccessKey(ctx, a.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.AccessKey(ctx, a.ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testTemplates(t *testing.T, s state.Store) {
	initialise(t, s)
	v := state.Template{ID: "rct-1", Scope: drs, CreatedAt: epoch, Tags: map[string]string{"a": "b"}, Config: state.ReplicationConfig{
		StagingAreaSubnetID: "subnet-1", SecurityGroupIDs: []string{"sg-1"}, BandwidthMbps: 7,
		PITPolicy: []state.PITRule{{ID: 1, Units: state.Minute, Interval: 10, Retention: 60, Enabled: true}},
	}}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutTemplate(ctx, v) })
	v.Config.BandwidthMbps = 9
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutTemplate(ctx, v) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Template(ctx, drs, v.ID)
		require.NoError(t, err)
		require.Equal(t, v, got)
		_, err = r.Template(ctx, other, v.ID)
		requireKind(t, fault.NotFound, err)
		all, next, err := r.Templates(ctx, drs, state.Page{})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Equal(t, []state.Template{v}, all)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteTemplate(ctx, other, v.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Template(ctx, drs, v.ID)
		require.NoError(t, err, "a delete in another scope must not reach it")
	})
}

func testPoints(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	put(t, s, v)
	p := state.Point{ID: "pit-1", Scope: drs, ServerID: v.ID, Expected: epoch, At: epoch.Add(-time.Millisecond), Position: math.MaxUint64 - 1}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPoint(ctx, p) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Point(ctx, drs, p.ID)
		require.NoError(t, err)
		require.Equal(t, p, got)
		_, err = r.Point(ctx, mgn, p.ID)
		requireKind(t, fault.NotFound, err)
	})
	twin := p
	twin.ID = "pit-2"
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPoint(ctx, twin) }))
	p.Consistency = state.ApplicationConsistent
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPoint(ctx, p) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, _, err := r.Points(ctx, v.ID, state.PointFilter{}, state.Page{})
		require.NoError(t, err)
		require.Equal(t, []state.Point{p}, got)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeletePoint(ctx, p.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Point(ctx, drs, p.ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testPointPages(t *testing.T, s state.Store) {
	initialise(t, s)
	a, b := server(drs, 1), server(drs, 2)
	put(t, s, a, b)
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for i := range 10 {
			for _, v := range []state.Server{a, b} {
				p := state.Point{ID: fmt.Sprintf("pit-%s-%d", v.ID, i), Scope: drs, ServerID: v.ID, Expected: epoch.Add(time.Duration(i) * time.Minute)}
				if err := tx.PutPoint(ctx, p); err != nil {
					return err
				}
			}
		}
		return nil
	})
	walk := func(f state.PointFilter) (minutes []int) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			for page := (state.Page{Limit: 3}); ; {
				items, next, err := r.Points(ctx, a.ID, f, page)
				require.NoError(t, err)
				require.LessOrEqual(t, len(items), 3)
				for _, p := range items {
					require.Equal(t, a.ID, p.ServerID)
					minutes = append(minutes, int(p.Expected.Sub(epoch)/time.Minute))
				}
				if next == "" {
					return
				}
				page.After = next
			}
		})
		return minutes
	}
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, walk(state.PointFilter{}))
	require.Equal(t, []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, walk(state.PointFilter{Descending: true}))
	between := state.PointFilter{From: epoch.Add(2 * time.Minute), To: epoch.Add(6 * time.Minute)}
	require.Equal(t, []int{2, 3, 4, 5, 6}, walk(between))
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.WipePoints(ctx, b.ID) })
	require.Len(t, walk(state.PointFilter{}), 10)
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.WipePoints(ctx, a.ID) })
	require.Empty(t, walk(state.PointFilter{}))
}

func testBadPageToken(t *testing.T, s state.Store) {
	for _, token := range []string{"x", "1", "x.y", "."} {
		view(t, s, func(ctx context.Context, r state.Reader) {
			_, _, err := r.Servers(ctx, drs, state.ServerFilter{}, state.Page{After: token})
			requireKind(t, fault.Invalid, err)
			_, _, err = r.Points(ctx, "s-1", state.PointFilter{}, state.Page{After: token})
			requireKind(t, fault.Invalid, err)
		})
	}
}

func testUpdateIsAtomic(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	boom := errors.New("boom")
	err := try(t, s, func(ctx context.Context, tx state.Tx) error {
		require.NoError(t, tx.PutServer(ctx, v))
		_, err := tx.Server(ctx, drs, v.ID)
		require.NoError(t, err, "a transaction sees its own writes")
		return boom
	})
	require.ErrorIs(t, err, boom)
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Server(ctx, drs, v.ID)
		requireKind(t, fault.NotFound, err)
	})
}

// testUpdateEndsWithAFault: no database may go on after a statement that it refused, since one of them cannot.
func testUpdateEndsWithAFault(t *testing.T, s state.Store) {
	initialise(t, s)
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error {
		if err := tx.PutServer(ctx, server(drs, 1)); err != nil {
			return err
		}
		twin := server(drs, 2)
		twin.Identity = server(drs, 1).Identity
		requireKind(t, fault.Conflict, tx.PutServer(ctx, twin))
		return nil
	}))
	require.Empty(t, list(t, s, drs, state.ServerFilter{}, 5))
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		_, err := tx.Server(ctx, drs, "s-none")
		requireKind(t, fault.NotFound, err)
		return tx.PutServer(ctx, server(drs, 1)) // what is not there is no fault of the transaction
	})
}

func testUpdatesAreSerialised(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(drs, 1)
	v.Config.BandwidthMbps = 0
	put(t, s, v)
	const workers, rounds = 8, 10
	var wg sync.WaitGroup
	errs := make(chan error, workers*rounds)
	for range workers {
		wg.Go(func() {
			for range rounds {
				errs <- s.Update(t.Context(), func(tx state.Tx) error {
					got, err := tx.Server(t.Context(), drs, v.ID)
					if err != nil {
						return err
					}
					got.Config.BandwidthMbps++
					return tx.PutServer(t.Context(), got)
				})
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Server(ctx, drs, v.ID)
		require.NoError(t, err)
		require.EqualValues(t, workers*rounds, got.Config.BandwidthMbps)
	})
}

func testViewIsASnapshot(t *testing.T, s state.Store) {
	initialise(t, s)
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.Server(ctx, drs, server(drs, 1).ID) // the snapshot begins with the first read
		requireKind(t, fault.NotFound, err)
		put(t, s, server(drs, 1))
		_, err = r.Server(ctx, drs, server(drs, 1).ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testCancelledContext(t *testing.T, s state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, func(state.Tx) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
	requireKind(t, fault.Transient, err)
	ctx, cancel = context.WithCancel(t.Context()) // of one under way: by the time it ends, it has been rolled back
	err = s.View(ctx, func(r state.Reader) error {
		cancel()
		for {
			if _, err := r.Server(t.Context(), drs, server(drs, 1).ID); !fault.Is(err, fault.NotFound) {
				return nil
			}
		}
	})
	requireKind(t, fault.Transient, err)
}

func testReopen(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir)
	initialise(t, s)
	put(t, s, server(drs, 1))
	require.NoError(t, s.Close())
	s = open(t, dir)
	defer func() { require.NoError(t, s.Close()) }()
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Server(ctx, drs, server(drs, 1).ID)
		require.NoError(t, err)
		require.Equal(t, server(drs, 1), got)
	})
}
