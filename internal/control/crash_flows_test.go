package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// only is the one record of a list; nothing may be there twice.
func only[R any](t *testing.T, list []R, err error) (v R, found bool) {
	t.Helper()
	require.NoError(t, err)
	require.LessOrEqual(t, len(list), 1, "%+v", list)
	if len(list) == 0 {
		return v, false
	}
	return list[0], true
}

var everything = state.Page{Limit: state.MaxLimit}

// machine is a source server that is added in a workflow.
type machine struct {
	s    state.Scope
	name string
	id   string
}

func (m *machine) find(t *testing.T, r state.Reader) (state.Server, bool) {
	v, err := r.ServerByIdentity(t.Context(), m.s, m.name)
	if fault.Is(err, fault.NotFound) {
		return v, false
	}
	require.NoError(t, err)
	m.id = v.ID
	return v, true
}

// register installs an agent, again until it was told who it is.
func (m *machine) register(o *outside) step {
	return step{"register " + m.name, func(p *process) error {
		v, err := p.servers.Register(p.t.Context(), m.s, servers.Registration{Identity: m.name, Agent: state.Agent{WireVersions: []uint32{1}},
			Properties: state.SourceProperties{NICs: []state.NIC{{MAC: "52:54:00:00:00:01", IPs: []string{"10.1.0.7"}, Primary: true}}},
			Devices:    []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30, Boot: true}}})
		if err == nil {
			err = p.engine.Registered(p.t.Context(), v)
		}
		if err == nil {
			o.mu.Lock()
			o.agents[v.ID] = m.s
			o.mu.Unlock()
		}
		return err
	}, func(t *testing.T, r state.Reader) bool {
		_, found := m.find(t, r)
		o.mu.Lock()
		defer o.mu.Unlock()
		return found && o.agents[m.id] == m.s
	}}
}

func (m *machine) replication(t *testing.T, r state.Reader) state.Replication {
	rec, err := r.Replication(t.Context(), m.id)
	require.NoError(t, err)
	return rec
}

func (m *machine) points(t *testing.T, r state.Reader) int {
	list, _, err := r.Points(t.Context(), m.id, state.PointFilter{}, everything)
	require.NoError(t, err)
	return len(list)
}

func (m *machine) continuous() step {
	return step{"continuous", nil, func(t *testing.T, r state.Reader) bool {
		rec := m.replication(t, r)
		return rec.State == state.Continuous && !rec.RecoverableAt.IsZero() && m.points(t, r) > 0
	}}
}

// off waits until replication is in a state that has no staging area.
func (m *machine) off(o *outside, want state.ReplicationState) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool {
		rec := m.replication(t, r)
		o.mu.Lock()
		defer o.mu.Unlock()
		if rec.State == want {
			require.Zero(t, m.points(t, r))
		}
		return rec.State == want && !rec.Teardown && !o.staging[m.id]
	}
}

func (m *machine) gone(o *outside) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool {
		_, err := r.Replication(t.Context(), m.id)
		_, shown := m.find(t, r)
		o.mu.Lock()
		defer o.mu.Unlock()
		if fault.Is(err, fault.NotFound) {
			require.False(t, shown)
			require.False(t, o.staging[m.id])
			return true
		}
		require.NoError(t, err)
		return false
	}
}

func replicate(o *outside) []step {
	m := &machine{s: drs, name: "web"}
	return []step{
		m.register(o), m.continuous(),
		{"tag", func(p *process) error { return p.servers.Tag(p.ctx, drs, m.id, map[string]string{"a": "b"}) }, nil},
		{"stop", func(p *process) error { return p.engine.Stop(p.t.Context(), drs, m.id) }, m.off(o, state.Stopped)},
		{"start", func(p *process) error { return p.engine.Start(p.t.Context(), drs, m.id) }, func(t *testing.T, r state.Reader) bool {
			return m.replication(t, r).Intent == state.IntentRun
		}},
		m.continuous(),
		{"disconnect", func(p *process) error { return p.engine.Disconnect(p.t.Context(), drs, m.id) }, m.off(o, state.Disconnected)},
		{"delete", func(p *process) error { return p.engine.Delete(p.t.Context(), drs, m.id) }, m.gone(o)},
	}
}

// job waits until the one job of its kind has ended, all of it well.
func job(s state.Scope, by state.JobInitiator, want state.LaunchStatus) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool {
		list, _, err := r.Jobs(t.Context(), s, state.JobFilter{}, everything)
		j, found := only(t, slices.DeleteFunc(list, func(j state.Job) bool { return j.InitiatedBy != by }), err)
		if !found || j.Status != state.JobCompleted {
			return false
		}
		for _, p := range j.Participants {
			require.Equal(t, want, p.Status)
		}
		return true
	}
}

func (m *machine) life(want state.LifeCycleState) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool {
		v, found := m.find(t, r)
		return found && v.LifeCycle.State == want
	}
}

func (o *outside) running(want int) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, _ state.Reader) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		require.LessOrEqual(t, len(o.machines), want)
		return len(o.machines) == want
	}
}

func migrate(o *outside) []step {
	m := &machine{s: mgn, name: "db"}
	return []step{
		m.register(o), m.continuous(), {"ready", nil, m.life(state.ReadyForTest)},
		{"test", func(p *process) error {
			_, err := p.launches.StartTest(p.t.Context(), mgn, []string{m.id}, nil)
			return err
		}, job(mgn, state.ByStartTest, state.Launched)},
		{"one machine", nil, o.running(1)},
		{"tested", func(p *process) error {
			_, err := p.servers.ChangeLifeCycle(p.t.Context(), mgn, m.id, state.ReadyForCutover)
			return err
		}, m.life(state.ReadyForCutover)},
		{"terminate", func(p *process) error {
			_, err := p.launches.Terminate(p.t.Context(), mgn, []string{m.id}, nil)
			return err
		}, job(mgn, state.ByTerminate, state.LaunchTerminated)},
		{"no machine", nil, o.running(0)},
		{"cut over", func(p *process) error {
			_, err := p.launches.StartCutover(p.t.Context(), mgn, []string{m.id}, nil)
			return err
		}, job(mgn, state.ByStartCutover, state.Launched)},
		{"another machine", nil, o.running(1)},
		{"finalise", func(p *process) error { return p.launches.FinalizeCutover(p.t.Context(), mgn, m.id) }, m.off(o, state.Disconnected)},
		{"it stays cut over", nil, m.life(state.Cutover)},
		{"archive", func(p *process) error {
			_, err := p.servers.Archive(p.t.Context(), mgn, m.id)
			return err
		}, func(t *testing.T, r state.Reader) bool { v, _ := m.find(t, r); return v.Archived }},
		{"delete", func(p *process) error { return p.engine.Delete(p.t.Context(), mgn, m.id) }, m.gone(o)},
	}
}

func recoverAndFailBack(o *outside) []step {
	m := &machine{s: drs, name: "mail"}
	instance := func(t *testing.T, r state.Reader) (state.RecoveryInstance, bool) {
		list, _, err := r.RecoveryInstances(t.Context(), drs, state.RecoveryInstanceFilter{ServerIDs: []string{m.id}}, everything)
		return only(t, list, err)
	}
	var id string
	observed := func(on failback.Trigger, to state.FailbackState) step {
		return step{string(on), func(p *process) error {
			_, err := p.recoveries.Change(p.t.Context(), drs, id, func(_ state.Tx, v *state.RecoveryInstance) error { return failback.Move(v, on) })
			return err
		}, func(t *testing.T, r state.Reader) bool {
			v, found := instance(t, r)
			return found && v.Failback.State == to
		}}
	}
	return []step{
		m.register(o), m.continuous(),
		{"recover", func(p *process) error {
			_, err := p.recoveries.Start(p.t.Context(), drs, []recovery.Target{{ServerID: m.id}}, true, nil)
			return err
		}, job(drs, state.ByStartDrill, state.Launched)},
		{"instance", nil, func(t *testing.T, r state.Reader) bool { v, found := instance(t, r); id = v.ID; return found }},
		{"configure", func(p *process) error {
			return p.failbacks.UpdateConfig(p.t.Context(), drs, id, failback.Patch{Name: new("back")})
		}, nil},
		observed(failback.Linked, state.FailbackInProgress), observed(failback.Synced, state.FailbackReadyForLaunch),
		{"fail back", func(p *process) error {
			_, err := p.failbacks.Launch(p.t.Context(), drs, []string{id}, nil)
			return err
		}, job(drs, state.ByFailback, state.Launched)},
		{"terminate", func(p *process) error {
			_, err := p.recoveries.Terminate(p.t.Context(), drs, []string{id})
			return err
		}, job(drs, state.ByTerminateRecoveryInstances, state.LaunchTerminated)},
		{"nothing left", nil, func(t *testing.T, r state.Reader) bool {
			_, found := instance(t, r)
			return !found && o.running(0)(t, r)
		}},
		{"disconnect", func(p *process) error { return p.engine.Disconnect(p.t.Context(), drs, m.id) }, m.off(o, state.Disconnected)},
	}
}

func keepInventory(o *outside) []step {
	m := &machine{s: mgn, name: "app"}
	var wave, app, connector string
	waves := func(t *testing.T, r state.Reader) (state.Wave, bool) {
		list, _, err := r.Waves(t.Context(), mgn, state.WaveFilter{}, everything)
		v, found := only(t, list, err)
		wave = v.ID
		return v, found
	}
	apps := func(t *testing.T, r state.Reader) (state.Application, bool) {
		list, _, err := r.Applications(t.Context(), mgn, state.ApplicationFilter{}, everything)
		v, found := only(t, list, err)
		app = v.ID
		return v, found
	}
	connectors := func(t *testing.T, r state.Reader) (state.Connector, bool) {
		list, _, err := r.Connectors(t.Context(), mgn, nil, everything)
		v, found := only(t, list, err)
		connector = v.ID
		return v, found
	}
	return []step{
		m.register(o),
		{"wave", func(p *process) error { _, err := p.waves.Create(p.t.Context(), mgn, "first", "", nil); return err }, exists(waves)},
		{"application", func(p *process) error { _, err := p.apps.Create(p.t.Context(), mgn, "shop", "", nil); return err }, exists(apps)},
		{"server joins", func(p *process) error { return p.apps.Associate(p.t.Context(), mgn, app, []string{m.id}) }, func(t *testing.T, r state.Reader) bool {
			v, _ := m.find(t, r)
			return v.Migration.ApplicationID == app
		}},
		{"application joins", func(p *process) error { return p.waves.Associate(p.t.Context(), mgn, wave, []string{app}) }, func(t *testing.T, r state.Reader) bool {
			v, _ := apps(t, r)
			return v.WaveID == wave
		}},
		{"connector", func(p *process) error {
			_, err := p.connectors.Create(p.t.Context(), mgn, "c", "mi-0123456789abcdef0", nil, nil)
			return err
		}, exists(connectors)},
		{"no connector", func(p *process) error { return p.connectors.Delete(p.t.Context(), mgn, connector) }, missing(connectors)},
		{"application leaves", func(p *process) error { return p.waves.Disassociate(p.t.Context(), mgn, wave, []string{app}) }, func(t *testing.T, r state.Reader) bool {
			v, _ := apps(t, r)
			return v.WaveID == ""
		}},
		{"server leaves", func(p *process) error { return p.apps.Disassociate(p.t.Context(), mgn, app, []string{m.id}) }, func(t *testing.T, r state.Reader) bool {
			v, _ := m.find(t, r)
			return v.Migration.ApplicationID == ""
		}},
		{"archive", func(p *process) error { _, err := p.waves.Archive(p.t.Context(), mgn, wave); return err }, nil},
		{"back", func(p *process) error { _, err := p.waves.Unarchive(p.t.Context(), mgn, wave); return err }, nil},
		{"no wave", func(p *process) error { return p.waves.Delete(p.t.Context(), mgn, wave) }, missing(waves)},
		{"no application", func(p *process) error { return p.apps.Delete(p.t.Context(), mgn, app) }, missing(apps)},
	}
}

func exists[R any](find func(*testing.T, state.Reader) (R, bool)) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool { _, found := find(t, r); return found }
}

func missing[R any](find func(*testing.T, state.Reader) (R, bool)) func(*testing.T, state.Reader) bool {
	return func(t *testing.T, r state.Reader) bool { _, found := find(t, r); return !found }
}

const sheet = `mgn:account-id,mgn:region,mgn:wave:name,mgn:app:name,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework
` + account + `,` + region + `,one,a,first,first.test
` + account + `,` + region + `,one,b,second,second.test
`

func importInventory(o *outside) []step {
	request := transfer.Request{Bucket: bucket, Key: "in.csv", ClientToken: "once"}
	var id string
	transfers := func(kind state.TransferKind) func(*testing.T, state.Reader) (state.Transfer, bool) {
		return func(t *testing.T, r state.Reader) (state.Transfer, bool) {
			list, _, err := r.Transfers(t.Context(), mgn, kind, nil, everything)
			v, found := only(t, list, err)
			return v, found
		}
	}
	succeeded := func(kind state.TransferKind) func(*testing.T, state.Reader) bool {
		return func(t *testing.T, r state.Reader) bool {
			v, found := transfers(kind)(t, r)
			require.NotEqual(t, state.TransferFailed, v.Status)
			return found && v.Status == state.TransferSucceeded
		}
	}
	begin := func(p *process) error {
		v, err := p.transfers.StartImport(p.t.Context(), mgn, request)
		if err == nil && id != "" && v.ID != id {
			p.t.Errorf("the same token began %s and %s", id, v.ID)
		}
		if err == nil {
			id = v.ID
		}
		return err
	}
	return []step{
		{"file", func(*process) error {
			return os.WriteFile(filepath.Join(o.dir, "buckets", account, bucket, "in.csv"), []byte(sheet), 0o600)
		}, nil},
		{"import", begin, nil}, {"again", begin, nil}, {"imported", nil, succeeded(state.Import)}, {"once more", begin, nil},
		{"whole", nil, func(t *testing.T, r state.Reader) bool {
			list, _, err := r.Servers(t.Context(), mgn, state.ServerFilter{}, everything)
			require.NoError(t, err)
			waves, _, err := r.Waves(t.Context(), mgn, state.WaveFilter{}, everything)
			require.NoError(t, err)
			apps, _, err := r.Applications(t.Context(), mgn, state.ApplicationFilter{}, everything)
			require.NoError(t, err)
			require.Equal(t, []int{2, 1, 2}, []int{len(list), len(waves), len(apps)})
			return true
		}},
		{"export", func(p *process) error {
			_, err := p.transfers.StartExport(p.t.Context(), mgn, transfer.Request{Bucket: bucket, Key: "out.csv"})
			return err
		}, exists(transfers(state.Export))}, // it has no token: a client looks before it asks again
		{"export done", nil, succeeded(state.Export)},
		{"exported", nil, func(t *testing.T, _ state.Reader) bool {
			b, err := os.ReadFile(filepath.Join(o.dir, "buckets", account, bucket, "out.csv"))
			require.NoError(t, err)
			require.Contains(t, string(b), "second.test")
			return true
		}},
	}
}

func followNetwork(o *outside) []step {
	m := &machine{s: drs, name: "router"}
	var id string
	find := func(t *testing.T, r state.Reader) (state.SourceNetwork, bool) {
		list, _, err := r.SourceNetworks(t.Context(), drs, state.SourceNetworkFilter{}, everything)
		v, found := only(t, list, err)
		id = v.ID
		return v, found
	}
	is := func(want state.NetworkStatus) func(*testing.T, state.Reader) bool {
		return func(t *testing.T, r state.Reader) bool { v, found := find(t, r); return found && v.Status == want }
	}
	return []step{
		m.register(o),
		{"create", func(p *process) error {
			_, err := p.networks.Create(p.t.Context(), drs, "vpc-0123456789abcdef0", account, region, nil)
			return err
		}, exists(find)},
		{"start", func(p *process) error { _, err := p.networks.Start(p.t.Context(), drs, id); return err }, func(t *testing.T, r state.Reader) bool {
			v, found := find(t, r)
			return found && v.Status != state.NetworkStopped
		}},
		{"look", func(p *process) error {
			_, _, err := p.networks.List(p.t.Context(), drs, state.SourceNetworkFilter{}, everything)
			return err
		}, is(state.NetworkProtected)},
		{"associate", func(p *process) error { _, err := p.networks.Associate(p.t.Context(), drs, id, "stack"); return err },
			job(drs, state.ByAssociateNetworkRecovery, state.Launched)},
		{"noted", nil, func(t *testing.T, r state.Reader) bool {
			v, _ := find(t, r)
			require.Equal(t, "stack", v.StackName)
			require.Equal(t, "PARTIAL_SUCCESS", v.LastRecovery.Result)
			return true
		}},
		{"stop", func(p *process) error { _, err := p.networks.Stop(p.t.Context(), drs, id); return err }, is(state.NetworkStopped)},
		{"delete", func(p *process) error { return p.networks.Delete(p.t.Context(), drs, id) }, missing(find)},
		{"refused", func(p *process) error {
			err := p.networks.Recover(p.t.Context(), drs, []networks.Recovery{{ID: "sn-00000000000000000"}})
			if !fault.Is(err, fault.NotFound) {
				return errors.Join(err, errBroken)
			}
			return nil
		}, nil},
	}
}

func extend(o *outside) []step {
	there := state.Scope{Account: otherAccount, Service: state.DRS}
	m := &machine{s: there, name: "theirs"}
	find := func(t *testing.T, r state.Reader) (state.Server, bool) {
		list, _, err := r.Servers(t.Context(), drs, state.ServerFilter{}, everything)
		return only(t, list, err)
	}
	var id string
	return []step{
		{"account", func(p *process) error { _, err := p.accounts.Create(p.t.Context(), otherAccount, "them"); return err }, func(t *testing.T, r state.Reader) bool {
			_, err := r.Account(t.Context(), otherAccount)
			return err == nil
		}},
		{"role", func(p *process) error {
			_, err := p.keys.PutRole(p.t.Context(), state.Role{Account: otherAccount, Name: extended.RolePrefix + account, Trust: []string{account}})
			return err
		}, nil},
		m.register(o),
		{"extend", func(p *process) error {
			_, err := p.extensions.Extend(p.t.Context(), drs, otherAccount, m.id, nil)
			return err
		}, func(t *testing.T, r state.Reader) bool { v, found := find(t, r); id = v.ID; return found }},
		{"delete", func(p *process) error { return p.extensions.Replication(p.engine).Delete(p.t.Context(), drs, id) }, missing(find)},
		{"the original stays", nil, exists(m.find)},
	}
}

func configure(o *outside) []step {
	d, g := &machine{s: drs, name: "d"}, &machine{s: mgn, name: "g"}
	const actionID = "00000001-0000-0000-0000-000000000000"
	var template, versioned, rct string
	found := func(t *testing.T, r state.Reader) (state.DRSLaunchTemplate, bool) {
		list, _, err := r.DRSLaunchTemplates(t.Context(), drs, everything)
		v, found := only(t, list, err)
		template = v.ID
		return v, found
	}
	mine := func(t *testing.T, r state.Reader) (state.LaunchTemplate, bool) {
		list, _, err := r.LaunchTemplates(t.Context(), account, state.LaunchTemplateFilter{Names: []string{"mine"}}, everything)
		v, found := only(t, list, err)
		versioned = v.ID
		return v, found
	}
	version := func(p *process) error {
		_, v, err := p.machines.CreateVersion(p.t.Context(), account, launchtemplates.Ref{ID: versioned}, "", launchtemplates.Draft{Token: "once",
			Data: state.LaunchTemplateData{InstanceType: "m5.large"}})
		if err == nil && v.Number != 2 {
			p.t.Errorf("the same token made version %d", v.Number)
		}
		return err
	}
	return []step{
		{"launch template", func(p *process) error {
			_, err := p.drsTemp.Create(p.t.Context(), drs, launchconfig.DRSPatch{CopyTags: new(true)}, nil)
			return err
		}, exists(found)},
		{"its action", func(p *process) error {
			_, err := p.drsActions.Put(p.t.Context(), drs, state.DRSLaunchAction{Resource: template, ID: actionID, Code: "AWS-RunShellScript",
				Version: "$DEFAULT", Name: "a", Category: "OTHER", Order: 1000, Active: true})
			return err
		}, nil},
		d.register(o), g.register(o),
		{"the server has it too", nil, func(t *testing.T, r state.Reader) bool {
			list, _, err := r.DRSLaunchActions(t.Context(), d.id, nil, everything)
			require.NoError(t, err)
			require.Len(t, list, 1)
			return true
		}},
		{"configuration", func(p *process) error {
			_, err := p.drsConfigs.Update(p.t.Context(), drs, d.id, launchconfig.DRSPatch{Name: new("n")})
			return err
		}, nil},
		{"MGN's", func(p *process) error {
			_, err := p.mgnConfigs.Update(p.t.Context(), mgn, g.id, launchconfig.MGNPatch{Disposition: new("STOPPED")})
			return err
		}, nil},
		{"MGN's action", func(p *process) error {
			_, err := p.mgnActions.Put(p.t.Context(), mgn, state.PostLaunchAction{Owner: g.id, ID: "a", Order: 1001, Name: "n", Document: "d"})
			return err
		}, nil},
		{"replication template", func(p *process) error {
			_, err := p.templates.Update(p.t.Context(), mgn, rct, control.ConfigPatch{BandwidthMbps: new(int64(7))})
			return err
		}, func(t *testing.T, r state.Reader) bool {
			list, _, err := r.Templates(t.Context(), mgn, everything)
			v, _ := only(t, list, err)
			rct = v.ID
			return v.Config.BandwidthMbps == 7
		}},
		{"machine", func(p *process) error {
			_, _, err := p.machines.Create(p.t.Context(), account, "mine", nil, launchtemplates.Draft{Data: state.LaunchTemplateData{InstanceType: "m5.xlarge"}})
			return err
		}, exists(mine)},
		{"version", version, nil}, {"version again", version, nil},
		{"default", func(p *process) error {
			_, err := p.machines.SetDefault(p.t.Context(), account, launchtemplates.Ref{ID: versioned}, "2")
			return err
		}, nil},
		{"no machine", func(p *process) error {
			_, err := p.machines.Delete(p.t.Context(), account, launchtemplates.Ref{ID: versioned})
			return err
		}, missing(mine)},
		{"no launch template", func(p *process) error { return p.drsTemp.Delete(p.t.Context(), drs, template) }, missing(found)},
		{"the server's action stays", nil, func(t *testing.T, r state.Reader) bool {
			_, err := r.DRSLaunchAction(t.Context(), d.id, actionID)
			require.NoError(t, err)
			return true
		}},
	}
}

func manageAccess(*outside) []step {
	const id, name = "777788889999", "ann"
	var first, second state.AccessKey
	keys := func(t *testing.T, r state.Reader) []state.AccessKey {
		list, err := r.AccessKeys(t.Context(), id)
		require.NoError(t, err)
		return list
	}
	user := func(t *testing.T, r state.Reader) (state.User, bool) {
		list, _, err := r.Users(t.Context(), id, everything)
		return only(t, list, err)
	}
	sessions := func(p *process) ([]state.Session, error) { return p.keys.Sessions(p.t.Context(), id) }
	return []step{
		{"account", func(p *process) error { _, err := p.accounts.Create(p.t.Context(), id, "a"); return err }, func(t *testing.T, r state.Reader) bool {
			_, err := r.Account(t.Context(), id)
			return err == nil
		}},
		{"policy", func(p *process) error {
			_, err := p.keys.PutPolicy(p.t.Context(), id, "look", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"drs:Describe*","Resource":"*"}]}`)
			return err
		}, nil},
		{"user", func(p *process) error {
			_, err := p.keys.CreateUser(p.t.Context(), id, name, []string{"look"})
			return err
		}, exists(user)},
		{"key", func(p *process) error { _, err := p.keys.CreateKey(p.t.Context(), id, name); return err }, func(t *testing.T, r state.Reader) bool {
			v, found := only(t, keys(t, r), nil)
			first = v
			return found
		}},
		{"works", func(p *process) error {
			k, err := p.keys.Lookup(p.t.Context(), first.ID)
			if err == nil && k.Secret == "" {
				p.t.Error("a key without its secret")
			}
			return err
		}, nil},
		{"another key", func(p *process) error { _, err := p.keys.CreateKey(p.t.Context(), id, name); return err }, func(t *testing.T, r state.Reader) bool {
			list := keys(t, r)
			require.LessOrEqual(t, len(list), 2)
			for _, v := range list {
				if v.ID != first.ID {
					second = v
				}
			}
			return len(list) == 2
		}},
		{"deactivate", func(p *process) error { return p.keys.SetKeyActive(p.t.Context(), id, first.ID, false) }, nil},
		{"refused", func(p *process) error {
			_, err := p.keys.Lookup(p.t.Context(), first.ID)
			if !fault.Is(err, fault.Denied) {
				return errors.Join(err, errBroken)
			}
			return nil
		}, nil},
		{"no first key", func(p *process) error { return p.keys.Delete(p.t.Context(), id, first.ID) }, func(t *testing.T, r state.Reader) bool {
			v, found := only(t, slices.DeleteFunc(keys(t, r), func(k state.AccessKey) bool { return k.ID == second.ID }), nil)
			return !found && v.ID == ""
		}},
		{"session", func(p *process) error {
			k, err := p.keys.Lookup(p.t.Context(), second.ID)
			if err == nil {
				_, err = p.keys.SessionToken(p.t.Context(), k.Principal, access.MinSession)
			}
			return err
		}, nil},
		{"suspend", func(p *process) error {
			_, err := p.accounts.Change(p.t.Context(), id, accounts.Change{Suspended: new(true), Quotas: map[string]*int64{string(quotas.DRSJobs): new(int64(3))}})
			return err
		}, nil},
		{"no user", func(p *process) error { return p.keys.DeleteUser(p.t.Context(), id, name) }, missing(user)},
		{"nothing of it stays", func(p *process) error {
			list, err := sessions(p)
			if err == nil && len(list) > 0 {
				p.t.Errorf("sessions of nobody: %+v", list)
			}
			return err
		}, nil},
		{"no keys either", nil, func(t *testing.T, r state.Reader) bool { return len(keys(t, r)) == 0 }},
	}
}
