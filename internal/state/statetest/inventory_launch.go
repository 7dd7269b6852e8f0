package statetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func testMGNLaunch(t *testing.T, s state.Store) {
	initialise(t, s)
	v := server(mgn, 1)
	put(t, s, v)
	parameters := map[string][]state.StoreParameter{"p": {{Name: "/a", Type: "STRING"}}}
	c := state.MGNLaunchConfig{Name: "n", Disposition: "STARTED", RightSizing: "BASIC", CopyTags: true, BootMode: "UEFI",
		PostLaunch: state.PostLaunch{Deployment: "TEST_ONLY", Documents: []state.SSMDocument{{ActionName: "a", Document: "d", Timeout: 5, MustSucceed: true,
			Parameters: parameters, External: map[string]string{"q": "sourceServerID"}}}}}
	var all []state.MGNLaunchTemplate
	for n := range 3 {
		all = append(all, state.MGNLaunchTemplate{ID: fmt.Sprintf("lct-%d", n), Scope: mgn, Config: c, SmallVolumeMax: 3,
			SmallVolume: state.VolumeConfig{Type: "gp3", IOPS: 3000}, Tags: map[string]string{"a": "b"}, CreatedAt: epoch.Add(time.Duration(n) * time.Second)})
	}
	action := func(owner string, n int32) state.PostLaunchAction {
		return state.PostLaunchAction{Owner: owner, ID: fmt.Sprint("action-", n), Order: 2000 - n, Name: "n", Document: "d", Active: true, Parameters: parameters}
	}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		_, err := tx.MGNLaunchConfig(ctx, v.ID)
		requireKind(t, fault.NotFound, err)
		err = errors.Join(tx.PutMGNLaunchConfig(ctx, v.ID, state.MGNLaunchConfig{}), tx.PutMGNLaunchConfig(ctx, v.ID, c))
		for _, x := range all {
			err = errors.Join(err, tx.PutMGNLaunchTemplate(ctx, x))
		}
		for n := range int32(5) {
			err = errors.Join(err, tx.PutPostLaunchAction(ctx, action(v.ID, n)), tx.PutPostLaunchAction(ctx, action(all[0].ID, n)))
		}
		return err
	})
	actions := func(ctx context.Context, r state.Reader, owner string, ids ...string) []state.PostLaunchAction {
		return pages(t, func(p state.Page) ([]state.PostLaunchAction, string, error) {
			return r.PostLaunchActions(ctx, owner, ids, p)
		})
	}
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.MGNLaunchConfig(ctx, v.ID)
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.Equal(t, all, pages(t, func(p state.Page) ([]state.MGNLaunchTemplate, string, error) {
			return r.MGNLaunchTemplates(ctx, mgn, nil, p)
		}))
		require.Equal(t, all[2:], pages(t, func(p state.Page) ([]state.MGNLaunchTemplate, string, error) {
			return r.MGNLaunchTemplates(ctx, mgn, []string{all[2].ID}, p)
		}))
		_, err = r.MGNLaunchTemplate(ctx, drs, all[0].ID)
		requireKind(t, fault.NotFound, err)
		want := []state.PostLaunchAction{action(v.ID, 4), action(v.ID, 3), action(v.ID, 2), action(v.ID, 1), action(v.ID, 0)}
		require.Equal(t, want, actions(ctx, r, v.ID), "in their order")
		require.Equal(t, want[3:], actions(ctx, r, v.ID, "action-0", "action-1", "action-9"))
		one, err := r.PostLaunchAction(ctx, v.ID, "action-3")
		require.NoError(t, err)
		require.Equal(t, want[1], one)
		_, _, err = r.PostLaunchActions(ctx, v.ID, nil, state.Page{After: "x"})
		requireKind(t, fault.Invalid, err)
	})
	twin := action(v.ID, 0)
	twin.ID = "other"
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutPostLaunchAction(ctx, twin) }))
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeletePostLaunchAction(ctx, v.ID, "action-4"), tx.DeleteMGNLaunchTemplate(ctx, mgn, all[0].ID))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Len(t, actions(ctx, r, v.ID), 4)
		require.Empty(t, actions(ctx, r, all[0].ID), "they go with their template")
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Empty(t, actions(ctx, r, v.ID), "and with their server")
		_, err := r.MGNLaunchConfig(ctx, v.ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testTransfers(t *testing.T, s state.Store) {
	initialise(t, s)
	var imports []state.Transfer
	for n := range 5 {
		kind := state.Import
		if n == 4 {
			kind = state.Export
		}
		x := state.Transfer{ID: fmt.Sprintf("t-%d", n), Scope: mgn, Kind: kind, Bucket: "b", Key: "k.csv", Status: state.TransferPending,
			CreatedAt: epoch.Add(time.Duration(n) * time.Second), Servers: state.TransferCount{Created: 1, Modified: 2, Written: 3}, Tags: map[string]string{}}
		if n == 1 {
			x.ClientToken = "token"
		}
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutTransfer(ctx, x) })
		if kind == state.Import {
			imports = append([]state.Transfer{x}, imports...)
		}
	}
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Equal(t, imports, pages(t, func(p state.Page) ([]state.Transfer, string, error) {
			return r.Transfers(ctx, mgn, state.Import, nil, p)
		}), "newest first")
		require.Equal(t, imports[:1], pages(t, func(p state.Page) ([]state.Transfer, string, error) {
			return r.Transfers(ctx, mgn, state.Import, []string{"t-3", "t-4"}, p)
		}))
		got, err := r.TransferByToken(ctx, mgn, "token")
		require.NoError(t, err)
		require.Equal(t, "t-1", got.ID)
		_, err = r.TransferByToken(ctx, mgn, "")
		requireKind(t, fault.NotFound, err)
		_, err = r.Transfer(ctx, mgn, state.Export, "t-1")
		requireKind(t, fault.NotFound, err)
		require.Len(t, pages(t, func(p state.Page) ([]state.Transfer, string, error) { return r.UnfinishedTransfers(ctx, p) }), 5)
	})
	done := imports[0]
	done.Status, done.EndedAt = state.TransferFailed, epoch
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		first := []state.TransferError{{At: epoch, Validation: true, Row: 2, RawError: "a"}, {At: epoch, Row: 3, RawError: "b", ServerID: "s-1"}}
		return errors.Join(tx.PutTransfer(ctx, done), tx.AddTransferErrors(ctx, done.ID, first), tx.AddTransferErrors(ctx, done.ID, first[:1]))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Len(t, pages(t, func(p state.Page) ([]state.Transfer, string, error) { return r.UnfinishedTransfers(ctx, p) }), 4)
		errs := pages(t, func(p state.Page) ([]state.TransferError, string, error) { return r.TransferErrors(ctx, done.ID, p) })
		require.Len(t, errs, 3)
		for i, e := range errs {
			require.EqualValues(t, i+1, e.Seq)
			require.Equal(t, done.ID, e.TransferID)
		}
	})
}

func testNetworkMigrations(t *testing.T, s state.Store) {
	var all []state.NetworkMigration // no initialisation: they need none
	for n := range 3 {
		v := state.NetworkMigration{ID: fmt.Sprintf("nmd-%d", n), Scope: mgn, Name: "n", Topology: "ISOLATED_VPC", TargetBucket: "b",
			Sources: []state.NetworkSource{{Environment: "NSX", Bucket: "b", Key: "k", Owner: "o"}}, Tags: map[string]string{},
			ScopeTags: map[string]string{"a": "b"}, CreatedAt: epoch.Add(time.Duration(n) * time.Second), UpdatedAt: epoch}
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutNetworkMigration(ctx, v) })
		all = append([]state.NetworkMigration{v}, all...)
	}
	var runs []state.NetworkExecution
	for n := range 3 {
		e := state.NetworkExecution{ID: uuid.NewString(), Scope: mgn, DefinitionID: all[0].ID, Stage: "MAPPING", Status: []string{"PENDING", "FAILED", "PENDING"}[n],
			Tags: map[string]string{}, CreatedAt: epoch.Add(time.Duration(n) * time.Second), UpdatedAt: epoch}
		update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutNetworkExecution(ctx, e) })
		runs = append([]state.NetworkExecution{e}, runs...)
	}
	executions := func(ctx context.Context, r state.Reader, sc state.Scope, f state.ExecutionFilter) []state.NetworkExecution {
		return pages(t, func(p state.Page) ([]state.NetworkExecution, string, error) {
			return r.NetworkExecutions(ctx, sc, all[0].ID, f, p)
		})
	}
	view(t, s, func(ctx context.Context, r state.Reader) {
		require.Equal(t, all, pages(t, func(p state.Page) ([]state.NetworkMigration, string, error) {
			return r.NetworkMigrations(ctx, mgn, nil, p)
		}), "newest first")
		require.Equal(t, runs, executions(ctx, r, mgn, state.ExecutionFilter{}))
		require.Equal(t, runs[1:2], executions(ctx, r, mgn, state.ExecutionFilter{Statuses: []string{"FAILED"}}))
		require.Equal(t, runs[:1], executions(ctx, r, mgn, state.ExecutionFilter{IDs: []string{runs[0].ID}}))
		require.Empty(t, executions(ctx, r, other, state.ExecutionFilter{}))
		got, err := r.NetworkExecution(ctx, mgn, all[0].ID, runs[0].ID)
		require.NoError(t, err)
		require.Equal(t, runs[0], got)
		_, err = r.NetworkExecution(ctx, mgn, all[1].ID, runs[0].ID)
		requireKind(t, fault.NotFound, err)
		n, err := r.CountNetworkMigrations(ctx, mgn)
		require.NoError(t, err)
		require.Equal(t, 3, n)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteNetworkMigration(ctx, mgn, all[0].ID) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.NetworkMigration(ctx, mgn, all[0].ID)
		requireKind(t, fault.NotFound, err)
		require.Empty(t, executions(ctx, r, mgn, state.ExecutionFilter{}))
	})
}
