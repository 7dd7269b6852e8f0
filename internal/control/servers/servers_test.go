package servers

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	drs = state.Scope{Account: "111122223333", Service: state.DRS}
	mgn = state.Scope{Account: "111122223333", Service: state.MGN}
)

func setup(t *testing.T) (*Servers, *sqlite.Store) {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return New(s), s
}

func machine(disks ...string) Registration {
	r := Registration{Identity: "uuid-1", Agent: state.Agent{Version: "1", WireVersions: []uint32{1}}}
	for i, d := range disks {
		r.Devices = append(r.Devices, Device{Name: d, Bytes: 1 << 30, Boot: i == 0})
	}
	return r
}

func requireKind(t *testing.T, k fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, k, fault.KindOf(err), "%v", err)
}

func TestRegistrationNeedsAnAccountAndATemplate(t *testing.T) {
	v, s := setup(t)
	_, err := v.Register(t.Context(), drs, machine("/dev/vda"))
	require.ErrorIs(t, err, control.ErrUninitialized)
	require.Contains(t, fault.HintOf(err), "initialize-service")
	require.NoError(t, accounts.New(s).Initialize(t.Context(), drs))
	require.NoError(t, accounts.New(s).Initialize(t.Context(), drs))
	_, err = v.Register(t.Context(), drs, machine("/dev/vda"))
	requireKind(t, fault.Conflict, err)
	require.Contains(t, fault.HintOf(err), "create-replication-configuration-template")
	items, _, err := v.List(t.Context(), drs, state.ServerFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items)

	require.NoError(t, accounts.New(s).Initialize(t.Context(), mgn))
	_, err = v.Register(t.Context(), mgn, machine("/dev/vda"))
	require.NoError(t, err, "MGN's initialisation makes a template")
}

func ready(t *testing.T) (*Servers, *sqlite.Store) {
	v, s := setup(t)
	require.NoError(t, accounts.New(s).Initialize(t.Context(), mgn))
	require.NoError(t, accounts.New(s).Initialize(t.Context(), drs))
	policy, subnet := templates.DefaultPITPolicy(), templates.NoSubnet
	_, err := templates.New(s).Create(t.Context(), drs, control.ConfigPatch{PITPolicy: &policy, StagingAreaSubnetID: &subnet}, nil)
	require.NoError(t, err)
	return v, s
}

func TestRegistrationIsIdempotent(t *testing.T) {
	v, s := ready(t)
	r := machine("/dev/vda", "/dev/vdb")
	r.Tags = map[string]string{"a": "1"}
	first, err := v.Register(t.Context(), mgn, r)
	require.NoError(t, err)
	require.Regexp(t, `^s-[0-9a-f]{17}$`, first.ID)
	require.Equal(t, state.NotReady, first.LifeCycle.State)
	r.Tags = map[string]string{"a": "2"}
	r.Agent.Version = "2"
	again, err := v.Register(t.Context(), mgn, r)
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	require.Equal(t, "2", again.Agent.Version)
	require.Equal(t, "1", again.Tags["a"], "tags are given when a server is new")
	elsewhere, err := v.Register(t.Context(), drs, r)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, elsewhere.ID, "a server belongs to an account and a service")
	clone := r
	clone.UserProvidedID = "clone"
	other, err := v.Register(t.Context(), mgn, clone)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, other.ID)
	require.NoError(t, s.View(t.Context(), func(tx state.Reader) error {
		rec, err := tx.Replication(t.Context(), first.ID)
		require.Equal(t, state.Initiating, rec.State)
		require.Len(t, rec.Disks, 2)
		return err
	}))
}

func TestConcurrentRegistrationsMakeOneServer(t *testing.T) {
	v, _ := ready(t)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	errs := make([]error, 8)
	for i := range ids {
		wg.Go(func() {
			got, err := v.Register(t.Context(), drs, machine("/dev/vda"))
			ids[i], errs[i] = got.ID, err
		})
	}
	wg.Wait()
	for i := range ids {
		require.NoError(t, errs[i])
		require.Equal(t, ids[0], ids[i])
	}
}

func TestDiskIndexesLast(t *testing.T) {
	v, _ := ready(t)
	index := func(s state.Server) map[string]uint32 {
		out := map[string]uint32{}
		for _, d := range s.Replicated() {
			out[d.DeviceName] = d.Index
		}
		return out
	}
	got, err := v.Register(t.Context(), drs, machine("a", "b", "c"))
	require.NoError(t, err)
	require.Equal(t, map[string]uint32{"a": 0, "b": 1, "c": 2}, index(got))
	iops := []state.DiskConfig{{DeviceName: "b", StagingDiskType: "GP3", IOPS: 4000}}
	_, err = v.UpdateConfig(t.Context(), drs, got.ID, control.ConfigPatch{Disks: &iops})
	require.NoError(t, err)
	got, err = v.Register(t.Context(), drs, machine("c", "b"))
	require.NoError(t, err)
	require.Equal(t, map[string]uint32{"b": 1, "c": 2}, index(got))
	require.Len(t, got.Config.Disks, 2)
	require.EqualValues(t, 4000, got.Config.Disks[0].IOPS, "the configuration of a disk that stays is kept")
	got, err = v.Register(t.Context(), drs, machine("d", "a", "b"))
	require.NoError(t, err)
	require.Equal(t, map[string]uint32{"a": 0, "b": 1, "d": 3}, index(got), "an index is never given to another disk")
	bigger := machine("d", "a", "b")
	bigger.Devices[0].Bytes++
	got, err = v.Register(t.Context(), drs, bigger)
	require.NoError(t, err)
	require.EqualValues(t, 1<<30+1, got.Replicated()[2].Bytes)
}

// A disk that has an identity is known by it: names may be exchanged, and a name may go to another disk.
func TestDisksHaveIdentities(t *testing.T) {
	v, _ := ready(t)
	got, err := v.Register(t.Context(), drs, machine("a", "b")) // by an older agent, which tells none
	require.NoError(t, err)
	is := func(want map[string]uint32, devices ...Device) {
		t.Helper()
		for again := range 2 {
			var changed bool
			for i := range devices {
				devices[i].Bytes = 1 << 30
			}
			got, changed, err = v.Devices(t.Context(), got, devices)
			require.NoError(t, err)
			require.Equal(t, again == 0, changed)
			disks := map[string]uint32{}
			for _, d := range got.Replicated() {
				disks[d.DeviceName] = d.Index
			}
			require.Equal(t, want, disks)
			require.Len(t, got.Config.Disks, len(want))
		}
	}
	is(map[string]uint32{"a": 0, "b": 1}, Device{Name: "a", Identity: "1"}, Device{Name: "b", Identity: "2"})
	is(map[string]uint32{"b": 0, "a": 1}, Device{Name: "b", Identity: "1"}, Device{Name: "a", Identity: "2"})
	is(map[string]uint32{"b": 2, "a": 1}, Device{Name: "b", Identity: "3"}, Device{Name: "a", Identity: "2"})
	is(map[string]uint32{"x": 0, "a": 1}, Device{Name: "x", Identity: "1"}, Device{Name: "a", Identity: "2"})
	_, _, err = v.Devices(t.Context(), got, []Device{{Name: "a", Identity: "1", Bytes: 1 << 30}, {Name: "b", Identity: "1", Bytes: 1 << 30}})
	requireKind(t, fault.Invalid, err)
}

func TestDiskIndexesRunOut(t *testing.T) {
	have := []state.Disk{{DeviceName: "old", Index: 1<<16 - 2, Gone: true}}
	got, err := assign(have, []Device{{Name: "new"}})
	require.NoError(t, err)
	require.EqualValues(t, 1<<16-1, got[1].Index)
	_, err = assign(got, []Device{{Name: "one too many"}})
	requireKind(t, fault.OutOfSpace, err)
	_, err = assign(got, []Device{{Name: "old"}, {Name: "new"}})
	require.NoError(t, err)
}

func TestDiskConfigurationIsPartialToo(t *testing.T) {
	have := []state.DiskConfig{{DeviceName: "a", Boot: true, StagingDiskType: "GP3", IOPS: 4000, Throughput: 200}}
	require.NoError(t, updateDisks(have, []state.DiskConfig{{DeviceName: "a", IOPS: 5000}}))
	require.Equal(t, state.DiskConfig{DeviceName: "a", Boot: true, StagingDiskType: "GP3", IOPS: 5000, Throughput: 200}, have[0])
	require.NoError(t, updateDisks(have, []state.DiskConfig{{DeviceName: "a", StagingDiskType: "ST1"}}))
	require.Equal(t, state.DiskConfig{DeviceName: "a", Boot: true, StagingDiskType: "ST1"}, have[0])
}

func TestConfigurationIsACopyOfTheTemplate(t *testing.T) {
	v, s := ready(t)
	got, err := v.Register(t.Context(), drs, machine("a"))
	require.NoError(t, err)
	ts, _, err := templates.New(s).List(t.Context(), drs, nil, state.Page{})
	require.NoError(t, err)
	limit := int64(77)
	_, err = templates.New(s).Update(t.Context(), drs, ts[0].ID, control.ConfigPatch{BandwidthMbps: &limit})
	require.NoError(t, err)
	after, err := v.Get(t.Context(), drs, got.ID)
	require.NoError(t, err)
	require.Zero(t, after.Config.BandwidthMbps)
	require.Equal(t, templates.DefaultPITPolicy(), after.Config.PITPolicy)
	require.Equal(t, "Data Replication Configuration for Source Server "+got.ID, after.Config.Name)
	mine := int64(5)
	after, err = v.UpdateConfig(t.Context(), drs, got.ID, control.ConfigPatch{BandwidthMbps: &mine})
	require.NoError(t, err)
	require.EqualValues(t, 5, after.Config.BandwidthMbps)
	require.Equal(t, templates.DefaultPITPolicy(), after.Config.PITPolicy, "absent members keep their value")
	unknown := []state.DiskConfig{{DeviceName: "zz"}}
	_, err = v.UpdateConfig(t.Context(), drs, got.ID, control.ConfigPatch{Disks: &unknown})
	requireKind(t, fault.Invalid, err)
}

func TestBadRegistrations(t *testing.T) {
	v, _ := ready(t)
	for name, spoil := range map[string]func(*Registration){
		"no identity":        func(r *Registration) { r.Identity = "" },
		"line break":         func(r *Registration) { r.Identity = "a\nb" },
		"long identity":      func(r *Registration) { r.Identity = strings.Repeat("x", 300) },
		"no disks":           func(r *Registration) { r.Devices = nil },
		"many disks":         func(r *Registration) { r.Devices = make([]Device, 61) },
		"twice":              func(r *Registration) { r.Devices = append(r.Devices, r.Devices[0]) },
		"tiny":               func(r *Registration) { r.Devices[0].Bytes = 1<<20 - 1 },
		"nameless":           func(r *Registration) { r.Devices[0].Name = "" },
		"tags":               func(r *Registration) { r.Tags = map[string]string{"": "x"} },
		"user's own id":      func(r *Registration) { r.UserProvidedID = "\x00" },
		"too many cores":     func(r *Registration) { r.Properties.CPUs = make([]state.CPU, 257) },
		"too many routes":    func(r *Registration) { r.Properties.Routes = make([]state.Route, maxRoutes+1) },
		"too many resolvers": func(r *Registration) { r.Properties.Resolver.Servers = make([]string, maxResolvers+1) },
	} {
		r := machine("/dev/vda")
		spoil(&r)
		_, err := v.Register(t.Context(), drs, r)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%s: %v", name, err)
	}
	_, err := v.Register(t.Context(), state.Scope{Account: "111122223333", Service: "ec2"}, machine("/dev/vda"))
	requireKind(t, fault.Invalid, err)
}

func TestTagsAndArchive(t *testing.T) {
	v, _ := ready(t)
	got, err := v.Register(t.Context(), mgn, machine("a"))
	require.NoError(t, err)
	id := got.ID
	require.NoError(t, v.Tag(t.Context(), mgn, id, map[string]string{"a": "1", "b": "2"}))
	require.NoError(t, v.Untag(t.Context(), mgn, id, []string{"a", "none"}))
	x, err := v.Get(t.Context(), mgn, id)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"b": "2"}, x.Tags)
	requireKind(t, fault.NotFound, v.Tag(t.Context(), drs, id, nil))
	_, err = v.Archive(t.Context(), mgn, id)
	requireKind(t, fault.Conflict, err)
}

func TestChangeLifeCycle(t *testing.T) {
	v, s := ready(t)
	got, err := v.Register(t.Context(), mgn, machine("a"))
	require.NoError(t, err)
	id := got.ID
	put := func(l state.LifeCycleState, launchable bool) {
		require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error {
			x, err := tx.Server(t.Context(), mgn, id)
			require.NoError(t, err)
			x.LifeCycle = state.LifeCycle{State: l}
			r, err := tx.Replication(t.Context(), id)
			require.NoError(t, err)
			if r.RecoverableAt = (time.Time{}); launchable {
				r.RecoverableAt = time.Now()
			}
			require.NoError(t, tx.PutReplication(t.Context(), r))
			return tx.PutServer(t.Context(), x)
		}))
	}
	put(state.Testing, false)
	_, err = v.ChangeLifeCycle(t.Context(), mgn, id, state.ReadyForCutover)
	requireKind(t, fault.Conflict, err)
	put(state.Testing, true)
	x, err := v.ChangeLifeCycle(t.Context(), mgn, id, state.ReadyForCutover)
	require.NoError(t, err)
	require.False(t, x.LifeCycle.LastTest.FinalizedAt.IsZero())
	x, err = v.ChangeLifeCycle(t.Context(), mgn, id, state.ReadyForTest)
	require.NoError(t, err)
	require.False(t, x.LifeCycle.LastTest.RevertedAt.IsZero())
	_, err = v.ChangeLifeCycle(t.Context(), mgn, id, state.Cutover)
	requireKind(t, fault.Conflict, err)
	_, err = v.ChangeLifeCycle(t.Context(), mgn, id, state.Testing)
	requireKind(t, fault.Invalid, err)
	put(state.LifeDisconnected, false)
	x, err = v.ChangeLifeCycle(t.Context(), mgn, id, state.Cutover)
	require.NoError(t, err, "migration tools disconnect first")
	require.False(t, x.LifeCycle.LastCutover.FinalizedAt.IsZero())
	x, err = v.Archive(t.Context(), mgn, id)
	require.NoError(t, err)
	require.True(t, x.Archived)
}
