package launchconfig

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var mgnScope = state.Scope{Account: "111122223333", Service: state.MGN}

// mgnStore has one server, added as an agent's registration adds one.
func mgnStore(t *testing.T, templates ...state.MGNLaunchTemplate) state.Store {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
		require.NoError(t, tx.PutInitialised(t.Context(), mgnScope, time.Now()))
		for _, v := range templates {
			require.NoError(t, tx.PutMGNLaunchTemplate(t.Context(), v))
		}
		return nil
	}))
	return store
}

func mgnAdd(t *testing.T, store state.Store, id, os string) {
	v := state.Server{ID: id, Scope: mgnScope, Identity: id, CreatedAt: time.Now().UTC(), Properties: state.SourceProperties{OS: os}}
	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
		require.NoError(t, tx.PutServer(t.Context(), v))
		return NewMGNServers(store).Added(t.Context(), tx, v)
	}))
}

func TestMGNServerStartsWithTheOldestTemplate(t *testing.T) {
	store := mgnStore(t)
	templates, servers, actions := NewMGNTemplates(store), NewMGNServers(store), NewMGNActions(store)
	mgnAdd(t, store, "s-none", "Linux")
	c, err := servers.Get(t.Context(), mgnScope, "s-none")
	require.NoError(t, err)
	require.Equal(t, "STARTED", c.Disposition, "the service's own defaults")
	require.Equal(t, "Launch Configuration for Source Server s-none", c.Name)

	first, err := templates.Create(t.Context(), mgnScope, MGNPatch{Disposition: new("STOPPED"), CopyTags: new(true)}, map[string]string{"k": "v"})
	require.NoError(t, err)
	_, err = templates.Create(t.Context(), mgnScope, MGNPatch{BootMode: new("UEFI")}, nil)
	require.NoError(t, err)
	for n, os := range []string{"", "linux", "windows"} {
		_, err = actions.Put(t.Context(), mgnScope, state.PostLaunchAction{Owner: first.ID, ID: "for-" + os, Order: int32(2000 + n), Name: "n", Document: "d", OS: os})
		require.NoError(t, err)
	}
	mgnAdd(t, store, "s-linux", "Linux version 6.12")
	mgnAdd(t, store, "s-windows", "Microsoft Windows Server 2022")
	for id, want := range map[string][]string{"s-linux": {"for-", "for-linux"}, "s-windows": {"for-", "for-windows"}} {
		c, err = servers.Get(t.Context(), mgnScope, id)
		require.NoError(t, err)
		require.Equal(t, "STOPPED", c.Disposition)
		require.True(t, c.CopyTags)
		require.Equal(t, "USE_SOURCE", c.BootMode)
		list, _, err := actions.List(t.Context(), mgnScope, id, nil, state.Page{})
		require.NoError(t, err)
		var got []string
		for _, a := range list {
			got = append(got, a.ID)
		}
		require.Equal(t, want, got)
	}
	_, err = templates.Update(t.Context(), mgnScope, first.ID, MGNPatch{Disposition: new("STARTED")})
	require.NoError(t, err)
	require.NoError(t, templates.Delete(t.Context(), mgnScope, first.ID))
	require.True(t, fault.Is(templates.Delete(t.Context(), mgnScope, first.ID), fault.NotFound))
	c, err = servers.Get(t.Context(), mgnScope, "s-linux")
	require.NoError(t, err)
	require.Equal(t, "STOPPED", c.Disposition, "a server has its copy")
}

func TestMGNValidation(t *testing.T) {
	store := mgnStore(t)
	templates := NewMGNTemplates(store)
	vol := func(kind string, iops, throughput int64) *state.VolumeConfig {
		return &state.VolumeConfig{Type: kind, IOPS: iops, Throughput: throughput}
	}
	parameters := map[string][]state.StoreParameter{"p": {{Name: "/p", Type: "STRING"}}}
	document := func(name string, external map[string]string) *state.PostLaunch {
		return &state.PostLaunch{Documents: []state.SSMDocument{{ActionName: name, Document: "doc", Parameters: parameters, External: external}}}
	}
	for _, c := range []struct {
		patch  MGNPatch
		member string // empty: it is good
	}{
		{MGNPatch{}, ""},
		{MGNPatch{SmallVolume: vol("gp3", 3000, 125)}, ""},
		{MGNPatch{SmallVolume: vol("io2", 3000, 0), LargeVolume: vol("st1", 0, 0)}, ""},
		{MGNPatch{SmallVolume: vol("", 0, 0)}, ""},
		{MGNPatch{SmallVolume: vol("", 3000, 0)}, "smallVolumeConf.volumeType"},
		{MGNPatch{SmallVolume: vol("gp2", 3000, 0)}, "smallVolumeConf.iops"},
		{MGNPatch{LargeVolume: vol("io1", 0, 0)}, "largeVolumeConf.iops"},
		{MGNPatch{LargeVolume: vol("io1", 100, 125)}, "largeVolumeConf.throughput"},
		{MGNPatch{MapTagging: new(true)}, "mapAutoTaggingMpeID"},
		{MGNPatch{MapTagging: new(true), MapMpeID: new("mpe")}, ""},
		{MGNPatch{PostLaunch: document("a", map[string]string{"q": "sourceServerID"})}, ""},
		{MGNPatch{PostLaunch: document("", nil)}, "postLaunchActions.ssmDocuments.actionName"},
		{MGNPatch{PostLaunch: document("a", map[string]string{"p": "sourceServerID"})}, "postLaunchActions.ssmDocuments.externalParameters"},
	} {
		v, err := templates.Create(t.Context(), mgnScope, c.patch, nil)
		if c.member == "" {
			require.NoError(t, err, "%+v", c.patch)
			require.Equal(t, "TEST_AND_CUTOVER", v.Config.PostLaunch.Deployment)
			continue
		}
		bad := &control.FieldError{}
		require.ErrorAs(t, err, &bad, "%+v", c.patch)
		require.True(t, fault.Is(err, fault.Invalid))
		require.Equal(t, c.member, bad.Fields[0].Name)
	}
}

func TestMGNServerConfiguration(t *testing.T) {
	store := mgnStore(t)
	servers := NewMGNServers(store)
	mgnAdd(t, store, "s-1", "Linux")
	_, err := servers.Get(t.Context(), mgnScope, "s-2")
	require.True(t, fault.Is(err, fault.NotFound))
	c, err := servers.Update(t.Context(), mgnScope, "s-1", MGNPatch{Name: new("mine"), OSByol: new(false)})
	require.NoError(t, err)
	require.Equal(t, "mine", c.Name)
	require.False(t, c.OSByol)
	c, err = servers.Update(t.Context(), mgnScope, "s-1", MGNPatch{CopyTags: new(true)})
	require.NoError(t, err)
	require.False(t, c.OSByol, "what is not named stays")
	_, err = servers.Update(t.Context(), mgnScope, "s-1", MGNPatch{MapTagging: new(true)})
	require.True(t, fault.Is(err, fault.Invalid))

	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
		_, err := jobs.New(store, nil).Create(t.Context(), tx, mgnScope, jobs.Spec{Type: state.JobLaunch, Participants: []state.Participant{{ServerID: "s-1"}}})
		return err
	}))
	_, err = servers.Update(t.Context(), mgnScope, "s-1", MGNPatch{})
	require.True(t, fault.Is(err, fault.Conflict), "a launch is reading it: %v", err)
}

func TestMGNActions(t *testing.T) {
	store := mgnStore(t)
	actions := NewMGNActions(store)
	mgnAdd(t, store, "s-1", "Linux")
	put := func(id string, order int32, change ...func(*state.PostLaunchAction)) error {
		a := state.PostLaunchAction{Owner: "s-1", ID: id, Order: order, Name: "n", Document: "d"}
		for _, fn := range change {
			fn(&a)
		}
		_, err := actions.Put(t.Context(), mgnScope, a)
		return err
	}
	require.NoError(t, put("a", 1001))
	require.NoError(t, put("a", 1002), "again, elsewhere in the order")
	require.True(t, fault.Is(put("b", 1002), fault.Conflict), "the place is taken")
	require.ErrorContains(t, put("b", 1002), "action a has order 1002 already")
	require.NoError(t, put("b", 1001))
	require.True(t, fault.Is(put("c", 1003, func(a *state.PostLaunchAction) { a.Owner = "s-2" }), fault.NotFound))
	require.True(t, fault.Is(put("c", 1003, func(a *state.PostLaunchAction) { a.Owner = "lct-2" }), fault.NotFound))
	require.True(t, fault.Is(put("c", 1003, func(a *state.PostLaunchAction) { a.Document = "" }), fault.Invalid))
	require.True(t, fault.Is(put("c", 1003, func(a *state.PostLaunchAction) { a.Name = "" }), fault.Invalid))
	require.True(t, fault.Is(put("c", 1003, func(a *state.PostLaunchAction) {
		a.Parameters, a.External = map[string][]state.StoreParameter{"p": nil}, map[string]string{"p": "x"}
	}), fault.Invalid))
	list, _, err := actions.List(t.Context(), mgnScope, "s-1", nil, state.Page{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "b", list[0].ID)
	require.Equal(t, []string{"$DEFAULT", "OTHER"}, []string{list[0].Version, list[0].Category})
	for n := range mgnMaxActions - 2 {
		require.NoError(t, put(fmt.Sprint("more-", n), int32(2000+n)))
	}
	require.ErrorIs(t, put("one too many", 9000), control.ErrQuota)
	require.NoError(t, put("a", 9001), "a change is not one more")
	require.NoError(t, actions.Remove(t.Context(), mgnScope, "s-1", "a"))
	require.True(t, fault.Is(actions.Remove(t.Context(), mgnScope, "s-1", "a"), fault.NotFound))
	require.True(t, fault.Is(actions.Remove(t.Context(), mgnScope, "s-9", "a"), fault.NotFound))
	_, _, err = actions.List(t.Context(), state.Scope{Account: "444455556666", Service: state.MGN}, "s-1", nil, state.Page{})
	require.True(t, fault.Is(err, fault.NotFound), "another account's server")
}
