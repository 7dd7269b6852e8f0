package launchconfig_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	drs      = state.Scope{Account: "111122223333", Service: state.DRS}
	stranger = state.Scope{Account: "444455556666", Service: state.DRS}
)

// drsWorld is a store in which DRS is ready for two accounts, with servers that get launch configurations.
type drsWorld struct {
	store     state.Store
	servers   *servers.Servers
	templates *launchconfig.DRSTemplates
	configs   *launchconfig.DRSServers
	actions   *launchconfig.DRSActions
}

func newDRS(t *testing.T) *drsWorld {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	w := &drsWorld{store: store, servers: servers.New(store), templates: launchconfig.NewDRSTemplates(store),
		configs: launchconfig.NewDRSServers(store), actions: launchconfig.NewDRSActions(store)}
	w.servers.OnAdd(w.configs.Added)
	for _, s := range []state.Scope{drs, stranger} {
		require.NoError(t, accounts.New(store).Initialize(t.Context(), s))
		_, err := templates.New(store).Create(t.Context(), s, control.ConfigPatch{StagingAreaSubnetID: new(templates.NoSubnet),
			PITPolicy: new(templates.DefaultPITPolicy())}, nil)
		require.NoError(t, err)
	}
	return w
}

func (w *drsWorld) register(t *testing.T, identity string) string {
	t.Helper()
	v, err := w.servers.Register(t.Context(), drs, servers.Registration{Identity: identity,
		Devices: []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30, Boot: true}}})
	require.NoError(t, err)
	return v.ID
}

func action(resource string, n int) state.DRSLaunchAction {
	return state.DRSLaunchAction{Resource: resource, ID: fmt.Sprintf("%08x-0000-0000-0000-000000000000", n), Code: "AWS-RunShellScript",
		Version: "$DEFAULT", Name: fmt.Sprint("action ", n), Category: "OTHER", Order: int32(10000 - n), Active: true}
}

func TestATemplateIsForServersAddedLater(t *testing.T) {
	w, ctx := newDRS(t), t.Context()
	before := w.register(t, "before")
	tpl, err := w.templates.Create(ctx, drs, launchconfig.DRSPatch{LaunchDisposition: new("STOPPED"), CopyTags: new(true)}, map[string]string{"a": "b"})
	require.NoError(t, err)
	require.Regexp(t, `^lct-[0-9a-f]{17}$`, tpl.ID)
	require.Equal(t, "BASIC", tpl.Settings.RightSizing, "what is not named takes its default")
	for _, n := range []int{1, 2} {
		_, err = w.actions.Put(ctx, drs, action(tpl.ID, n))
		require.NoError(t, err)
	}
	after := w.register(t, "after")
	_, err = w.templates.Update(ctx, drs, tpl.ID, launchconfig.DRSPatch{CopyPrivateIP: new(true)})
	require.NoError(t, err)

	c, err := w.configs.Get(ctx, drs, before)
	require.NoError(t, err)
	require.Equal(t, "STARTED", c.Settings.LaunchDisposition)
	require.Equal(t, "Launch Configuration for Source Server "+before, c.Name)
	c, err = w.configs.Get(ctx, drs, after)
	require.NoError(t, err)
	require.Equal(t, state.DRSLaunchSettings{LaunchDisposition: "STOPPED", RightSizing: "BASIC", CopyTags: true, OSByol: true}, c.Settings)
	list, _, err := w.actions.List(ctx, drs, after, nil, state.Page{})
	require.NoError(t, err)
	require.Len(t, list, 2, "actions are copied too")
	require.Equal(t, "action 2", list[0].Name, "in the order in which they run")

	require.NoError(t, w.templates.Delete(ctx, drs, tpl.ID))
	_, err = w.configs.Get(ctx, drs, after)
	require.NoError(t, err, "a server has a copy")
	_, _, err = w.actions.List(ctx, drs, tpl.ID, nil, state.Page{})
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

func TestOneDRSTemplatePerAccount(t *testing.T) {
	w, ctx := newDRS(t), t.Context()
	tpl, err := w.templates.Create(ctx, drs, launchconfig.DRSPatch{}, nil)
	require.NoError(t, err)
	_, err = w.templates.Create(ctx, drs, launchconfig.DRSPatch{}, nil)
	require.ErrorIs(t, err, control.ErrQuota)
	_, err = w.templates.Create(ctx, stranger, launchconfig.DRSPatch{}, nil)
	require.NoError(t, err, "another account has its own")
	for _, arn := range []string{"arn:aws:s3:::b", "arn:aws:ec2:::bucket-name", "arn:aws:s3:::Bucket", "bucket"} {
		_, err = w.templates.Update(ctx, drs, tpl.ID, launchconfig.DRSPatch{ExportBucketARN: &arn})
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", arn, err)
	}
	got, err := w.templates.Update(ctx, drs, tpl.ID, launchconfig.DRSPatch{ExportBucketARN: new("arn:aws:s3:::my-networks")})
	require.NoError(t, err)
	require.Equal(t, "arn:aws:s3:::my-networks", got.ExportBucketARN)

	require.NoError(t, w.templates.Tag(ctx, drs, tpl.ID, map[string]string{"x": "1", "y": "2"}))
	require.NoError(t, w.templates.Untag(ctx, drs, tpl.ID, []string{"x"}))
	got, err = w.templates.Get(ctx, drs, tpl.ID)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"y": "2"}, got.Tags)
	items, _, err := w.templates.List(ctx, drs, []string{"lct-00000000000000000"}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items)

	for _, err := range []error{
		w.templates.Delete(ctx, stranger, tpl.ID), w.templates.Tag(ctx, stranger, tpl.ID, nil),
		second(w.templates.Get(ctx, stranger, tpl.ID)), second(w.templates.Update(ctx, stranger, tpl.ID, launchconfig.DRSPatch{})),
	} {
		require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDRSServerConfiguration(t *testing.T) {
	w, ctx := newDRS(t), t.Context()
	id := w.register(t, "one")
	c, err := w.configs.Update(ctx, drs, id, launchconfig.DRSPatch{RightSizing: new("IN_AWS"), LaunchIntoInstance: new("i-0123456789abcdef0"), Name: new("mine")})
	require.NoError(t, err)
	require.Equal(t, "STARTED", c.Settings.LaunchDisposition, "what is not named stays")
	again, err := w.configs.Get(ctx, drs, id)
	require.NoError(t, err)
	require.Equal(t, c, again)
	require.Empty(t, c.TemplateID)

	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error {
		return tx.PutLaunchTemplate(ctx, state.LaunchTemplate{ID: "lt-0123456789abcdef0", Account: drs.Account, Name: "n", Service: state.DRS,
			ServerID: id, Default: 1, Latest: 1, CreatedAt: time.Now()})
	}))
	c, err = w.configs.Get(ctx, drs, id)
	require.NoError(t, err)
	require.Equal(t, "lt-0123456789abcdef0", c.TemplateID)

	_, err = w.configs.Get(ctx, stranger, id)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	_, err = w.configs.Update(ctx, drs, "s-00000000000000000", launchconfig.DRSPatch{})
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

func TestDRSLaunchActions(t *testing.T) {
	w, ctx := newDRS(t), t.Context()
	id := w.register(t, "one")
	for n := range 200 {
		_, err := w.actions.Put(ctx, drs, action(id, n))
		require.NoError(t, err)
	}
	_, err := w.actions.Put(ctx, drs, action(id, 200))
	require.ErrorIs(t, err, control.ErrQuota)
	changed := action(id, 7)
	changed.Order, changed.Code = 2, "AWSMigration-VerifyMountedVolumes"
	got, err := w.actions.Put(ctx, drs, changed)
	require.NoError(t, err, "replacing one is no more")
	require.Equal(t, "SSM_AUTOMATION", got.Type)
	first, next, err := w.actions.List(ctx, drs, id, nil, state.Page{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, next)
	require.Equal(t, got, first[0])

	require.NoError(t, w.actions.Delete(ctx, drs, id, got.ID))
	for _, err := range []error{
		w.actions.Delete(ctx, drs, id, got.ID), w.actions.Delete(ctx, stranger, id, action(id, 1).ID),
		second(w.actions.Put(ctx, stranger, action(id, 1))), second(w.actions.Put(ctx, drs, action("lct-00000000000000000", 1))),
		second(w.actions.Put(ctx, drs, action("s-00000000000000000", 1))),
	} {
		require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	}
}
