package statetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func launchTemplate(n int) state.LaunchTemplate {
	return state.LaunchTemplate{ID: fmt.Sprintf("lt-%017x", n), Account: drs.Account, Name: fmt.Sprint("template-", n), Default: 1, Latest: 1,
		Tags: map[string]string{}, CreatedAt: epoch.Add(time.Duration(n/2) * time.Second)}
}

func launchVersion(t state.LaunchTemplate, n int64) state.LaunchTemplateVersion {
	yes, size := true, n
	return state.LaunchTemplateVersion{TemplateID: t.ID, Number: n, CreatedAt: epoch, Data: state.LaunchTemplateData{InstanceType: fmt.Sprint("size-", n),
		EBSOptimized: &yes, NetworkInterfaces: []state.TemplateNetworkInterface{{SubnetID: "subnet-1", Groups: []string{"sg-1"}}},
		BlockDeviceMappings: []state.BlockDeviceMapping{{DeviceName: "/dev/sda", EBS: &state.EBSBlockDevice{VolumeSize: &size}}},
		TagSpecifications:   []state.TemplateTags{{ResourceType: "instance", Tags: []state.Tag{{Key: "k", Value: "v"}}}}}}
}

func testLaunchTemplates(t *testing.T, s state.Store) {
	initialise(t, s)
	put(t, s, server(drs, 1))
	own, free := launchTemplate(1), launchTemplate(2)
	own.Service, own.ServerID = state.DRS, server(drs, 1).ID
	one, two := launchVersion(own, 1), launchVersion(own, 2)
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutLaunchTemplate(ctx, own), tx.PutLaunchTemplate(ctx, free), tx.PutLaunchTemplateVersion(ctx, one),
			tx.PutLaunchTemplateVersion(ctx, two), tx.PutLaunchTemplateVersion(ctx, launchVersion(free, 1)))
	})
	own.Latest, own.Tags = 2, map[string]string{"a": "b"}
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutLaunchTemplate(ctx, own) })
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.LaunchTemplate(ctx, own.Account, own.ID)
		require.NoError(t, err)
		require.Equal(t, own, got)
		_, err = r.LaunchTemplate(ctx, other.Account, own.ID)
		requireKind(t, fault.NotFound, err)
		got, err = r.LaunchTemplateByServer(ctx, drs, own.ServerID)
		require.NoError(t, err)
		require.Equal(t, own, got)
		_, err = r.LaunchTemplateByServer(ctx, mgn, own.ServerID)
		requireKind(t, fault.NotFound, err)
		v, err := r.LaunchTemplateVersion(ctx, own.ID, 2)
		require.NoError(t, err)
		require.Equal(t, two, v)
		_, err = r.LaunchTemplateVersion(ctx, own.ID, 3)
		requireKind(t, fault.NotFound, err)
	})

	twin := launchTemplate(3)
	twin.Name = free.Name
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutLaunchTemplate(ctx, twin) }))
	second := launchTemplate(4)
	second.Service, second.ServerID = own.Service, own.ServerID
	requireKind(t, fault.Conflict, try(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutLaunchTemplate(ctx, second) }))

	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.DeleteServer(ctx, own.ServerID), tx.DeleteLaunchTemplate(ctx, other.Account, free.ID))
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.LaunchTemplate(ctx, own.Account, own.ID)
		requireKind(t, fault.NotFound, err)
		_, err = r.LaunchTemplateVersion(ctx, own.ID, 1)
		requireKind(t, fault.NotFound, err)
		_, err = r.LaunchTemplate(ctx, free.Account, free.ID)
		require.NoError(t, err, "another account does not delete it")
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return tx.DeleteLaunchTemplate(ctx, free.Account, free.ID)
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		_, err := r.LaunchTemplateVersion(ctx, free.ID, 1)
		requireKind(t, fault.NotFound, err)
	})
}

func testLaunchTemplatePages(t *testing.T, s state.Store) {
	const n = 5
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		var err error
		for i := range n {
			err = errors.Join(err, tx.PutLaunchTemplate(ctx, launchTemplate(i)), tx.PutLaunchTemplateVersion(ctx, launchVersion(launchTemplate(i), 1)))
			if i > 0 {
				err = errors.Join(err, tx.PutLaunchTemplateVersion(ctx, launchVersion(launchTemplate(0), int64(i+1))))
			}
		}
		return err
	})
	view(t, s, func(ctx context.Context, r state.Reader) {
		var got []string
		page := state.Page{Limit: 2}
		for more := true; more; more = page.After != "" {
			items, next, err := r.LaunchTemplates(ctx, drs.Account, state.LaunchTemplateFilter{}, page)
			require.NoError(t, err)
			for _, v := range items {
				got = append(got, v.Name)
			}
			page.After = next
		}
		require.Equal(t, []string{"template-0", "template-1", "template-2", "template-3", "template-4"}, got)

		var numbers []int64
		page = state.Page{Limit: 2}
		for more := true; more; more = page.After != "" {
			items, next, err := r.LaunchTemplateVersions(ctx, launchTemplate(0).ID, page)
			require.NoError(t, err)
			for _, v := range items {
				numbers = append(numbers, v.Number)
			}
			page.After = next
		}
		require.Equal(t, []int64{5, 4, 3, 2, 1}, numbers)

		some, _, err := r.LaunchTemplates(ctx, drs.Account, state.LaunchTemplateFilter{Names: []string{"template-3", "none"}}, state.Page{})
		require.NoError(t, err)
		require.Equal(t, []state.LaunchTemplate{launchTemplate(3)}, some)
		some, _, err = r.LaunchTemplates(ctx, drs.Account, state.LaunchTemplateFilter{IDs: []string{launchTemplate(2).ID}}, state.Page{})
		require.NoError(t, err)
		require.Equal(t, []state.LaunchTemplate{launchTemplate(2)}, some)
		_, _, err = r.LaunchTemplateVersions(ctx, launchTemplate(0).ID, state.Page{After: "x"})
		requireKind(t, fault.Invalid, err)
	})
}
