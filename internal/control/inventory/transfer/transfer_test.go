package transfer

import (
	"context"
	"encoding/csv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	mgn       = state.Scope{Account: "111122223333", Service: state.MGN}
	elsewhere = state.Scope{Account: "444455556666", Service: state.MGN}
)

type world struct {
	*Transfers
	t       *testing.T
	ctx     context.Context
	dir     string
	servers *servers.Servers
	lts     *launchtemplates.Templates
	stop    func()
}

func setup(t *testing.T, set map[quotas.Code]int64) *world {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	limits, err := quotas.New(set)
	require.NoError(t, err)
	catalogue, err := sizes.Default()
	require.NoError(t, err)
	w := &world{t: t, ctx: t.Context(), dir: filepath.Join(t.TempDir(), "buckets"), servers: servers.New(store), lts: launchtemplates.New(store, catalogue)}
	w.servers.OnAdd(limits.Added)
	w.servers.OnAdd(w.lts.Added)
	w.servers.OnAdd(launchconfig.NewMGNServers(store).Added)
	for _, s := range []state.Scope{mgn, elsewhere} {
		require.NoError(t, accounts.New(store).Initialize(w.ctx, s))
		require.NoError(t, os.MkdirAll(filepath.Join(w.dir, s.Account, "inventory"), 0o700))
	}
	w.Transfers = New(Config{Store: store, Buckets: buckets.NewDir(w.dir), Region: "eu-north-1", Applications: inventory.NewApplications(store, limits),
		Waves: inventory.NewWaves(store, limits), Servers: w.servers, LaunchTemplates: w.lts, LaunchConfigs: launchconfig.NewMGNServers(store),
		Limits: limits, Log: slog.New(slog.DiscardHandler)})
	w.run()
	return w
}

// run runs the transfers until stop is called.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(w.stop)
}

func (w *world) file(s state.Scope, key string) string {
	return filepath.Join(w.dir, s.Account, "inventory", key)
}

// wait waits until a transfer is over.
func (w *world) wait(x state.Transfer) state.Transfer {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		keep := w.Imports
		if x.Kind == state.Export {
			keep = w.Exports
		}
		now, err := keep.Get(w.ctx, x.Scope, x.ID)
		require.NoError(w.t, err)
		if !now.EndedAt.IsZero() {
			return now
		}
		select {
		case <-tick.C:
		case <-deadline:
			require.Fail(w.t, "the transfer does not end", "%+v", now)
		}
	}
}

// load imports lines as a file.
func (w *world) load(s state.Scope, lines ...string) state.Transfer {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.file(s, "in.csv"), []byte(strings.Join(lines, "\n")), 0o600))
	x, err := w.StartImport(w.ctx, s, Request{Bucket: "inventory", Key: "in.csv"})
	require.NoError(w.t, err)
	require.Equal(w.t, state.TransferPending, x.Status)
	return w.wait(x)
}

func (w *world) errorsOf(x state.Transfer) []state.TransferError {
	w.t.Helper()
	list, _, err := w.Errors(w.ctx, x.Scope, x.Kind, x.ID, state.Page{Limit: state.MaxLimit})
	require.NoError(w.t, err)
	return list
}

func (w *world) succeeded(x state.Transfer) state.Transfer {
	w.t.Helper()
	require.Equal(w.t, state.TransferSucceeded, x.Status, "%+v", w.errorsOf(x))
	require.EqualValues(w.t, 100, x.Progress)
	return x
}

func (w *world) all(s state.Scope) (list []state.Server) {
	w.t.Helper()
	list, _, err := w.servers.List(w.ctx, s, state.ServerFilter{}, state.Page{Limit: state.MaxLimit})
	require.NoError(w.t, err)
	return list
}

func (w *world) application(s state.Scope, name string) (v state.Application) {
	w.t.Helper()
	require.NoError(w.t, w.cfg.Store.View(w.ctx, func(r state.Reader) (err error) {
		v, err = r.ApplicationByName(w.ctx, s, name)
		return err
	}))
	return v
}

func TestTable(t *testing.T) {
	for _, on := range Triggers {
		for _, from := range state.TransferStatuses {
			x := state.Transfer{ID: "import-1", Status: from}
			i := slices.IndexFunc(Table, func(r Row) bool { return r.On == on && slices.Contains(r.From, from) })
			err := move(&x, on)
			if i < 0 {
				require.True(t, fault.Is(err, fault.Conflict), "%s in %s", on, from)
				require.Equal(t, from, x.Status)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, Table[i].To, x.Status)
			require.Equal(t, on != Begin, !x.EndedAt.IsZero())
		}
	}
}

const header = "mgn:wave:name,mgn:wave:tag:owner,mgn:app:name,mgn:app:description,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework," +
	"mgn:server:platform,mgn:server:tag:role,mgn:launch:instance-type,mgn:launch:nic:0:subnet-id,mgn:launch:nic:0:private-ip:0,mgn:launch:transfer-server-tags,my notes"

var sample = []string{
	header,
	"first,ann,shop,sells,web-1,web-1.test,linux,web,c5.large,subnet-0123abcd,192.0.2.7,true,whatever I like",
	"first,,shop,,web-2,web-2.test,linux,web,,,,,",
	",,,,,,,,,,,,",
	"second,bob,,,,,,,,,,,",
	",,idle,does nothing,,,,,,,,,",
	",,,,lone,192.0.2.9,windows,,,,,,",
}

func TestImport(t *testing.T) {
	w := setup(t, nil)
	x := w.succeeded(w.load(mgn, sample...))
	require.Equal(t, []state.TransferCount{{Created: 2}, {Created: 2}, {Created: 3}}, []state.TransferCount{x.Waves, x.Applications, x.Servers})
	shop := w.application(mgn, "shop")
	require.Equal(t, "sells", shop.Description)
	list := w.all(mgn)
	require.Len(t, list, 3)
	web := list[0]
	require.Equal(t, state.PendingInstallation, web.LifeCycle.State)
	require.Equal(t, []string{"web-1", "web-1.test", "linux", shop.ID}, []string{web.UserProvidedID, web.Migration.ActionFQDN, web.Migration.Platform, web.Migration.ApplicationID})
	require.Equal(t, map[string]string{"role": "web"}, web.Tags)
	require.NoError(t, w.cfg.Store.View(w.ctx, func(r state.Reader) error {
		wave, err := r.Wave(w.ctx, mgn, shop.WaveID)
		require.NoError(t, err)
		require.Equal(t, "first", wave.Name)
		require.Equal(t, map[string]string{"owner": "ann"}, wave.Tags)
		d, err := w.lts.Current(w.ctx, r, web)
		require.NoError(t, err)
		require.Equal(t, "c5.large", d.InstanceType)
		require.Len(t, d.NetworkInterfaces, 1)
		require.Equal(t, []string{"subnet-0123abcd", "192.0.2.7"}, []string{d.NetworkInterfaces[0].SubnetID, d.NetworkInterfaces[0].PrivateIPAddress})
		c, err := w.cfg.LaunchConfigs.In(w.ctx, r, mgn, web.ID)
		require.NoError(t, err)
		require.True(t, c.CopyTags)
		return nil
	}))

	again := w.succeeded(w.load(mgn, sample...))
	require.Empty(t, []state.TransferCount{again.Waves, again.Applications, again.Servers}[0], "the same file changes nothing")
	require.Empty(t, again.Applications)
	require.Empty(t, again.Servers)

	changed := w.succeeded(w.load(mgn,
		"mgn:app:id,mgn:app:name,mgn:server:id,mgn:server:tag:role,mgn:wave:name,mgn:launch:volume:/dev/sda:type,mgn:launch:placement:operating-system-licensing",
		shop.ID+",store,"+web.ID+",front,second,gp2,LI"))
	require.Equal(t, state.TransferCount{Modified: 1}, changed.Applications)
	require.Equal(t, state.TransferCount{Modified: 1}, changed.Servers)
	require.Empty(t, changed.Waves)
	require.Equal(t, shop.ID, w.application(mgn, "store").ID, "an id renames")
	require.NotEqual(t, shop.WaveID, w.application(mgn, "store").WaveID)
	require.Empty(t, w.all(elsewhere))
}

func TestRowErrors(t *testing.T) {
	w := setup(t, nil)
	for name, c := range map[string]struct {
		lines []string
		want  []string // "row: part of the text"
	}{
		"empty file":     {[]string{""}, []string{"1: no header"}},
		"unknown column": {[]string{"mgn:wave:name,mgn:wave:colour,mgn:launch:nic:x:subnet-id"}, []string{"1: mgn:wave:colour", "1: mgn:launch:nic:x"}},
		"column twice":   {[]string{"mgn:wave:name,mgn:wave:name"}, []string{"1: twice"}},
		"long row":       {[]string{"mgn:wave:name", "a,b"}, []string{"2: 2 cells"}},
		"quotes":         {[]string{"mgn:wave:name", `a"b`}, []string{"2: bare"}},
		"another account": {[]string{"mgn:account-id,mgn:region,mgn:wave:name", "444455556666,eu-north-1,a", "111122223333,us-east-1,b"},
			[]string{"2: the account that imports", "3: this installation's region"}},
		"no identity": {[]string{"mgn:wave:description,mgn:app:tag:k,mgn:server:platform,mgn:launch:instance-type", "d,,,", ",v,,", ",,linux,", ",,,c5.large"},
			[]string{"2: mgn:wave:name", "3: mgn:app:name", "4: mgn:server:user-provided-id", "5: mgn:server:user-provided-id"}},
		"values": {[]string{"mgn:server:user-provided-id,mgn:server:platform,mgn:launch:placement:tenancy,mgn:launch:transfer-server-tags,mgn:launch:nic:0:private-ip:0,mgn:launch:volume:/dev/sda:type,mgn:launch:placement:operating-system-licensing",
			"a,beos,shared,perhaps,here,gp9,none"}, []string{"2: platform", "2: tenancy", "2: transfer-server-tags", "2: private-ip", "2: volume", "2: licensing"}},
		"missing ids": {[]string{"mgn:wave:id,mgn:app:id,mgn:server:id", "wave-00000000000000000,,", ",app-00000000000000000,", ",,s-00000000000000000"},
			[]string{"2: Wave", "3: Application", "4: SourceServer"}},
		"no address": {[]string{"mgn:server:user-provided-id", "new"}, []string{"2: is needed for a new server"}},
		"contradictions": {[]string{"mgn:wave:name,mgn:wave:description,mgn:app:name,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework,mgn:launch:instance-type",
			"w,one,a,s,s.test,c5.large", "w,two,,,,", "v,,a,,,", ",,b,s,,", ",,,s,other.test,", ",,,s,,t3.small"},
			[]string{"3: description", "4: wave", "5: application", "6: fqdn", "7: launch"}},
		"size": {[]string{"mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework,mgn:launch:instance-type", "s,s.test,gigantic"}, []string{"2: no size"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			x := w.load(mgn, c.lines...)
			require.Equal(t, state.TransferFailed, x.Status)
			require.Zero(t, x.Progress)
			list := w.errorsOf(x)
			require.Len(t, list, len(c.want), "%+v", list)
			left := slices.Clone(list)
			for _, want := range c.want {
				row, text, _ := strings.Cut(want, ": ")
				i := slices.IndexFunc(left, func(e state.TransferError) bool {
					return strings.HasPrefix(row, string(rune('0'+e.Row))) && strings.Contains(e.RawError, text)
				})
				require.GreaterOrEqual(t, i, 0, "%s in %+v", want, left)
				require.Equal(t, mgn.Account, left[i].AccountID)
				left = slices.Delete(left, i, i+1)
			}
			require.Empty(t, w.all(mgn), "a file with an error changes nothing")
			waves, _, err := w.cfg.Waves.List(w.ctx, mgn, state.WaveFilter{}, state.Page{})
			require.NoError(t, err)
			require.Empty(t, waves)
		})
	}
}

func TestIDsStay(t *testing.T) {
	w := setup(t, nil)
	w.succeeded(w.load(mgn, sample...))
	id := w.all(mgn)[0].ID
	x := w.load(mgn, "mgn:server:id,mgn:server:user-provided-id", id+",other")
	require.Contains(t, w.errorsOf(x)[0].RawError, "cannot become")
	anonymous, err := w.servers.Register(w.ctx, mgn, servers.Registration{Identity: "m", Devices: []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30}}})
	require.NoError(t, err)
	done := w.succeeded(w.load(mgn, "mgn:server:id,mgn:server:user-provided-id", anonymous.ID+",named"))
	require.Equal(t, state.TransferCount{Modified: 1}, done.Servers)
	require.Contains(t, w.errorsOf(w.load(mgn, "mgn:server:id,mgn:server:user-provided-id", anonymous.ID+",again"))[0].RawError, "cannot become")
	agent, err := w.servers.Register(w.ctx, mgn, servers.Registration{Identity: "web", UserProvidedID: "web-1", Devices: []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30}}})
	require.NoError(t, err)
	require.Equal(t, id, agent.ID, "the planned server is the agent's")
	require.Empty(t, w.succeeded(w.load(mgn, sample...)).Servers, "and is still found by the user's id")
}

func TestQuotas(t *testing.T) {
	w := setup(t, map[quotas.Code]int64{quotas.MGNPerApplication: 1, quotas.MGNPerWave: 1, quotas.MGNWaves: 2})
	x := w.load(mgn, sample...)
	require.Len(t, w.errorsOf(x), 1)
	require.Contains(t, w.errorsOf(x)[0].RawError, "source servers in one application")
	x = w.load(mgn, "mgn:wave:name,mgn:app:name", "w,a", "w,b")
	require.Contains(t, w.errorsOf(x)[0].RawError, "applications in one wave")
	x = w.load(mgn, "mgn:wave:name", "a", "b", "c")
	require.EqualValues(t, 4, w.errorsOf(x)[0].Row)
	w.succeeded(w.load(mgn, "mgn:wave:name", "a", "b"))
}

func TestExportAndBack(t *testing.T) {
	w := setup(t, nil)
	w.succeeded(w.load(mgn, sample...))
	x, err := w.StartExport(w.ctx, mgn, Request{Bucket: "inventory", Key: "a folder/out.csv", Tags: map[string]string{"k": "v"}})
	require.NoError(t, err)
	x = w.succeeded(w.wait(x))
	require.Equal(t, []int64{2, 2, 3}, []int64{x.Waves.Written, x.Applications.Written, x.Servers.Written})
	content, err := os.ReadFile(w.file(mgn, "a folder/out.csv"))
	require.NoError(t, err)
	rows, err := csv.NewReader(strings.NewReader(string(content))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 6, "a header, three servers, an application and a wave that have none")
	require.Equal(t, "mgn:account-id", rows[0][0])

	require.NotContains(t, string(content), "AWSApplicationMigrationService", "what the service itself says is of one server for good")
	back, err := w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "a folder/out.csv"})
	require.NoError(t, err)
	back = w.succeeded(w.wait(back))
	require.Empty(t, back.Waves)
	require.Empty(t, back.Applications)
	require.Empty(t, back.Servers)

	// Without ids it is an inventory for anybody.
	var lines []string
	for _, cells := range rows {
		var kept []string
		for i, cell := range cells {
			if c := rows[0][i]; !strings.HasSuffix(c, ":id") && c != colAccount {
				kept = append(kept, `"`+cell+`"`)
			}
		}
		lines = append(lines, strings.Join(kept, ","))
	}
	copied := w.succeeded(w.load(elsewhere, lines...))
	require.Equal(t, []state.TransferCount{{Created: 2}, {Created: 2}, {Created: 3}}, []state.TransferCount{copied.Waves, copied.Applications, copied.Servers})
	require.Len(t, w.all(elsewhere), 3)
	require.Equal(t, "sells", w.application(elsewhere, "shop").Description)
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	w := setup(t, nil)
	for _, r := range []Request{{Bucket: "inventory", Key: "missing.csv"}, {Bucket: "missing", Key: "in.csv"}, {Bucket: "inventory", Key: "in.csv", Owner: elsewhere.Account}} {
		x, err := w.StartImport(w.ctx, mgn, r)
		require.NoError(t, err)
		x = w.wait(x)
		require.Equal(t, state.TransferFailed, x.Status)
		list := w.errorsOf(x)
		require.Len(t, list, 1)
		require.False(t, list[0].Validation)
		require.Zero(t, list[0].Row)
		y, err := w.StartExport(w.ctx, mgn, Request{Bucket: "missing", Key: "out.csv"})
		require.NoError(t, err)
		require.Equal(t, state.TransferFailed, w.wait(y).Status)
		_, _, err = w.Errors(w.ctx, elsewhere, state.Import, x.ID, state.Page{})
		require.True(t, fault.Is(err, fault.NotFound))
		_, _, err = w.Errors(w.ctx, mgn, state.Export, x.ID, state.Page{})
		require.True(t, fault.Is(err, fault.NotFound), "it is no export")
	}
}

// TestRestart leaves imports at every place a process can die: none is lost, none is done twice.
func TestRestart(t *testing.T) {
	w := setup(t, nil)
	w.stop()
	require.NoError(t, os.WriteFile(w.file(mgn, "in.csv"), []byte(strings.Join(sample, "\n")), 0o600))
	var all []state.Transfer
	for _, status := range []state.TransferStatus{state.TransferPending, state.TransferStarted} {
		x, err := w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "in.csv"})
		require.NoError(t, err)
		x.Status = status
		require.NoError(t, w.cfg.Store.Update(w.ctx, func(tx state.Tx) error { return tx.PutTransfer(w.ctx, x) }))
		all = append(all, x)
	}
	w.run()
	require.EqualValues(t, 3, w.succeeded(w.wait(all[0])).Servers.Created)
	require.Empty(t, w.succeeded(w.wait(all[1])).Servers)
	require.Len(t, w.all(mgn), 3)
	w.stop()
	w.run()
	require.Len(t, w.all(mgn), 3)
}

func TestClientToken(t *testing.T) {
	w := setup(t, nil)
	w.stop() // so that all stay unfinished
	first, err := w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "in.csv", ClientToken: "t"})
	require.NoError(t, err)
	again, err := w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "in.csv", ClientToken: "t"})
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	_, err = w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "other.csv", ClientToken: "t"})
	require.True(t, fault.Is(err, fault.Conflict))
	_, err = w.StartImport(w.ctx, elsewhere, Request{Bucket: "inventory", Key: "other.csv", ClientToken: "t"})
	require.NoError(t, err, "another account's token")
	for range maxUnfinished - 1 {
		_, err = w.StartExport(w.ctx, mgn, Request{Bucket: "inventory", Key: "out.csv"})
		require.NoError(t, err)
	}
	_, err = w.StartImport(w.ctx, mgn, Request{Bucket: "inventory", Key: "in.csv"})
	require.ErrorIs(t, err, control.ErrQuota)
	items, _, err := w.List(w.ctx, mgn, state.Import, nil, state.Page{})
	require.NoError(t, err)
	require.Len(t, items, 1)
}
