package launchtemplates

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var scope = state.Scope{Account: "111122223333", Service: state.MGN}

type world struct {
	*Templates
	servers *servers.Servers
	store   state.Store
}

func setup(t *testing.T) world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	c, err := sizes.Default()
	require.NoError(t, err)
	require.NoError(t, accounts.New(store).Initialize(t.Context(), scope))
	w := world{New(store, c), servers.New(store), store}
	w.now = func() time.Time { return time.Date(2022, 8, 31, 0, 47, 11, 0, time.UTC) }
	return w
}

func (w world) register(t *testing.T) state.Server {
	t.Helper()
	v, err := w.servers.Register(t.Context(), scope, servers.Registration{Identity: "m", Devices: []servers.Device{{Name: "/dev/sda", Bytes: 20<<30 + 1, Boot: true}},
		Properties: state.SourceProperties{RAMBytes: 6 << 30, CPUs: []state.CPU{{Cores: 2}}, Hints: state.Hints{Hostname: "web"}}})
	require.NoError(t, err)
	return v
}

func requireKind(t *testing.T, kind fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err), "%v", err)
}

func TestTemplateOfANewServer(t *testing.T) {
	w := setup(t)
	w.servers.OnAdd(w.Added)
	w.servers.Recommend(func(p state.SourceProperties) string { return w.Recommended(p).Name })
	v := w.register(t)
	require.Equal(t, "m5.large", v.Properties.RecommendedType)
	of, err := w.Ensure(t.Context(), v)
	require.NoError(t, err)
	require.Regexp(t, `^lt-[0-9a-f]{17}$`, of.ID)
	require.Equal(t, "created-and-used-by-application-migration-service-"+v.ID+"-223108-004711", of.Name)
	require.Equal(t, map[string]string{"AWSApplicationMigrationServiceSourceServerID": v.ID,
		"AWSApplicationMigrationServiceManaged": "mgn.amazonaws.com", "Name": "web"}, of.Tags)
	again, err := w.Ensure(t.Context(), v)
	require.NoError(t, err)
	require.Equal(t, of, again)

	s, err := w.Settings(t.Context(), v)
	require.NoError(t, err)
	require.Equal(t, "m5.large", s.Size.Name)
	require.Equal(t, int64(21), *s.Volumes["/dev/sda"].VolumeSize)
	require.Equal(t, of.Tags, s.Tags["instance"])
	require.Len(t, s.Interfaces, 1)

	_, err = w.Delete(t.Context(), scope.Account, Ref{ID: of.ID})
	requireKind(t, fault.Conflict, err)
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.DeleteServer(t.Context(), v.ID) }))
	_, err = w.Get(t.Context(), scope.Account, Ref{ID: of.ID})
	requireKind(t, fault.NotFound, err)
}

func TestServerFromBeforeGetsItsTemplate(t *testing.T) {
	w := setup(t)
	v := w.register(t)
	of, err := w.Ensure(t.Context(), v)
	require.NoError(t, err)
	require.Equal(t, v.ID, of.ServerID)
}

// What a script does to the real services: a new version with another size and subnet, made the default.
func TestTheDefaultVersionCounts(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	v := w.register(t)
	of, err := w.Ensure(ctx, v)
	require.NoError(t, err)
	draft := Draft{By: "arn:aws:iam::111122223333:user/ann", Description: "bigger", Data: state.LaunchTemplateData{InstanceType: "r5.2xlarge",
		NetworkInterfaces: []state.TemplateNetworkInterface{{SubnetID: "subnet-1", PrivateIPAddress: "10.0.0.7"}}}}
	of, two, err := w.CreateVersion(ctx, scope.Account, Ref{ID: of.ID}, Default, draft)
	require.NoError(t, err)
	require.Equal(t, []int64{2, 1, 2}, []int64{of.Latest, of.Default, two.Number})
	require.Equal(t, int64(21), *two.Data.BlockDeviceMappings[0].EBS.VolumeSize, "taken from the source version")
	require.Equal(t, "10.0.0.7", two.Data.NetworkInterfaces[0].PrivateIPAddress)
	s, err := w.Settings(ctx, v)
	require.NoError(t, err)
	require.Equal(t, "m5.large", s.Size.Name, "not the latest")
	_, err = w.SetDefault(ctx, scope.Account, Ref{Name: of.Name}, "2")
	require.NoError(t, err)
	s, err = w.Settings(ctx, v)
	require.NoError(t, err)
	require.Equal(t, "r5.2xlarge", s.Size.Name)
	require.Equal(t, int64(2), s.Version)
	require.Equal(t, "subnet-1", s.Interfaces[0].SubnetID)

	of, three, err := w.CreateVersion(ctx, scope.Account, Ref{ID: of.ID}, "", Draft{Data: state.LaunchTemplateData{SecurityGroupIDs: []string{"sg-1"}}})
	require.NoError(t, err)
	require.Empty(t, three.Data.BlockDeviceMappings, "no source version, nothing taken")
	_, err = w.SetDefault(ctx, scope.Account, Ref{ID: of.ID}, Latest)
	require.NoError(t, err)
	s, err = w.Settings(ctx, v)
	require.NoError(t, err)
	require.Equal(t, "m5.large", s.Size.Name, "a version that names no size leaves the recommended one")
	require.Equal(t, []string{"sg-1"}, s.Interfaces[0].Groups)

	_, versions, _, err := w.Versions(ctx, scope.Account, Ref{ID: of.ID}, state.Page{})
	require.NoError(t, err)
	require.Equal(t, []int64{3, 2, 1}, []int64{versions[0].Number, versions[1].Number, versions[2].Number})
}

func TestOwnTemplates(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	of, v, err := w.Create(ctx, scope.Account, "web-tier", map[string]string{"a": "b"}, Draft{Data: state.LaunchTemplateData{InstanceType: "m9i.large"}})
	require.NoError(t, err)
	require.Equal(t, int64(1), v.Number)
	_, _, err = w.Create(ctx, scope.Account, "web-tier", nil, Draft{})
	requireKind(t, fault.Conflict, err)
	require.ErrorIs(t, err, ErrExists)
	_, _, err = w.Create(ctx, "444455556666", "web-tier", nil, Draft{})
	require.NoError(t, err, "names are an account's own")

	_, err = w.Get(ctx, "444455556666", Ref{ID: of.ID})
	requireKind(t, fault.NotFound, err)
	_, _, err = w.CreateVersion(ctx, "444455556666", Ref{ID: of.ID}, "", Draft{})
	requireKind(t, fault.NotFound, err)
	require.NoError(t, w.Tag(ctx, scope.Account, Ref{ID: of.ID}, map[string]string{"c": "d"}, []string{"a"}))
	got, err := w.Get(ctx, scope.Account, Ref{Name: "web-tier"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"c": "d"}, got.Tags)
	for _, ref := range []Ref{{}, {ID: of.ID, Name: "web-tier"}} {
		_, err = w.Get(ctx, scope.Account, ref)
		requireKind(t, fault.Invalid, err)
	}
	for version, kind := range map[string]fault.Kind{"2": fault.NotFound, "0": fault.Invalid, "x": fault.Invalid, "$Newest": fault.Invalid} {
		_, err = w.SetDefault(ctx, scope.Account, Ref{ID: of.ID}, version)
		requireKind(t, kind, err)
	}
	_, err = w.Delete(ctx, scope.Account, Ref{Name: "web-tier"})
	require.NoError(t, err)
	_, err = w.Get(ctx, scope.Account, Ref{ID: of.ID})
	requireKind(t, fault.NotFound, err)
	_, err = w.Get(ctx, scope.Account, Ref{Name: "web-tier"})
	requireKind(t, fault.NotFound, err)
}

func TestRefusedData(t *testing.T) {
	w := setup(t)
	zero := int64(0)
	for name, d := range map[string]state.LaunchTemplateData{
		"InstanceType":                        {InstanceType: "huge"},
		"SecurityGroupId":                     {SecurityGroupIDs: []string{"sg"}, NetworkInterfaces: make([]state.TemplateNetworkInterface, 1)},
		"NetworkInterface":                    {NetworkInterfaces: make([]state.TemplateNetworkInterface, 17)},
		"NetworkInterface.1.PrivateIpAddress": {NetworkInterfaces: []state.TemplateNetworkInterface{{PrivateIPAddress: "::1"}}},
		"BlockDeviceMapping.1.Ebs.VolumeSize": {BlockDeviceMappings: []state.BlockDeviceMapping{{EBS: &state.EBSBlockDevice{VolumeSize: &zero}}}},
		"TagSpecification.1":                  {TagSpecifications: []state.TemplateTags{{Tags: make([]state.Tag, 51)}}},
		"UserData":                            {UserData: strings.Repeat("x", 64<<10+1)},
		"KeyName":                             {KeyName: strings.Repeat("x", 1025)},
		"Placement.Tenancy":                   {Placement: &state.TemplatePlacement{Tenancy: "\xff"}},
	} {
		_, _, err := w.Create(t.Context(), scope.Account, "some-name", nil, Draft{Data: d})
		requireKind(t, fault.Invalid, err)
		var f *control.FieldError
		require.ErrorAs(t, err, &f)
		require.Equal(t, name, f.Fields[0].Name)
	}
	for _, name := range []string{"", "ab", "a b c", strings.Repeat("x", 129)} {
		_, _, err := w.Create(t.Context(), scope.Account, name, nil, Draft{})
		requireKind(t, fault.Invalid, err)
	}
	_, _, err := w.Create(t.Context(), scope.Account, "some-name", nil, Draft{Description: strings.Repeat("x", 256)})
	requireKind(t, fault.Invalid, err)
}
