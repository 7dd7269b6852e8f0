package networks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	scope    = state.Scope{Account: "111122223333", Service: state.DRS}
	stranger = state.Scope{Account: "444455556666", Service: state.DRS}
)

// shelf keeps what was put into buckets.
type shelf map[string][]byte

func (s shelf) Put(_ context.Context, o buckets.Object, content []byte) error {
	s[o.Account+" s3://"+o.Bucket+"/"+o.Key] = content
	return nil
}

type world struct {
	*networks.Networks
	store state.Store
	jobs  *jobs.Jobs
	shelf shelf
}

func open(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	for _, s := range []state.Scope{scope, stranger} {
		require.NoError(t, accounts.New(store).Initialize(t.Context(), s))
	}
	w := &world{store: store, jobs: jobs.New(store, nil), shelf: shelf{}}
	w.Networks = networks.New(store, w.jobs, w.shelf)
	return w
}

func (w *world) server(t *testing.T, n int, ips ...string) state.Server {
	v := state.Server{ID: fmt.Sprintf("s-%017d", n), Scope: scope, Identity: fmt.Sprint(n), CreatedAt: time.Unix(int64(n), 0),
		Properties: state.SourceProperties{NICs: []state.NIC{{MAC: "m", IPs: append([]string{"fe80::1", "127.0.0.1"}, ips...)}},
			Hints: state.Hints{Hostname: fmt.Sprint("host-", n)}}}
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutServer(t.Context(), v) }))
	return v
}

func (w *world) create(t *testing.T, n int, tags map[string]string) string {
	v, err := w.Create(t.Context(), scope, fmt.Sprintf("vpc-%08x", n), "123456789012", "eu-west-1", tags)
	require.NoError(t, err)
	return v.ID
}

func (w *world) shown(t *testing.T, id string) state.SourceNetwork {
	list, _, err := w.List(t.Context(), scope, state.SourceNetworkFilter{IDs: []string{id}}, state.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

// golden is the whole table: what each status becomes; "." is refused.
var golden = map[networks.Trigger]map[state.NetworkStatus]state.NetworkStatus{
	networks.OpStart:  {"STOPPED": "IN_PROGRESS", "ERROR": "IN_PROGRESS"},
	networks.OpStop:   {"IN_PROGRESS": "STOPPED", "PROTECTED": "STOPPED", "ERROR": "STOPPED"},
	networks.OpDelete: {"STOPPED": "STOPPED", "ERROR": "STOPPED"},
	networks.Found:    {"IN_PROGRESS": "PROTECTED", "PROTECTED": "PROTECTED", "ERROR": "PROTECTED"},
	networks.NotFound: {"IN_PROGRESS": "ERROR", "PROTECTED": "ERROR", "ERROR": "ERROR"},
}

func TestTable(t *testing.T) {
	for _, on := range networks.Triggers {
		got := map[state.NetworkStatus]state.NetworkStatus{}
		for _, row := range networks.Table {
			if row.On == on {
				for _, from := range row.From {
					require.NotContains(t, got, from, "one row per status and trigger")
					got[from] = row.To
				}
			}
		}
		require.Equal(t, golden[on], got, on)
	}
}

// Every operation in every status: what the table has no row for is a conflict and changes nothing.
func TestOperationsFollowTheTable(t *testing.T) {
	w, ctx := open(t), t.Context()
	for _, status := range state.NetworkStatuses {
		for _, on := range []networks.Trigger{networks.OpStart, networks.OpStop, networks.OpDelete} {
			id := w.create(t, len(status)<<8|len(on), nil)
			_, err := w.Change(ctx, scope, id, func(_ state.Tx, v *state.SourceNetwork) error {
				v.Status = status
				v.ObservedAt = time.Now()
				return nil
			})
			require.NoError(t, err)
			switch on {
			case networks.OpStart:
				_, err = w.Start(ctx, scope, id)
			case networks.OpStop:
				_, err = w.Stop(ctx, scope, id)
			case networks.OpDelete:
				err = w.Delete(ctx, scope, id)
			}
			want, allowed := golden[on][status]
			got, readErr := w.Get(ctx, scope, id)
			switch {
			case !allowed:
				require.True(t, fault.Is(err, fault.Conflict), "%s %s: %v", on, status, err)
				require.Equal(t, status, got.Status)
			case on == networks.OpDelete:
				require.NoError(t, err)
				require.True(t, fault.Is(readErr, fault.NotFound))
			default:
				require.NoError(t, err)
				require.Equal(t, want, got.Status)
			}
			if readErr == nil { // the next one may be of the same VPC
				require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteSourceNetwork(ctx, scope, id) }))
			}
		}
	}
}

func TestANetworkIsWhereItsServersAre(t *testing.T) {
	w, ctx := open(t), t.Context()
	a, b := w.server(t, 1, "10.1.0.7", "192.0.2.1"), w.server(t, 2, "10.2.0.9")
	id := w.create(t, 1, map[string]string{networks.PrefixTag: "10.1.0.0/16, 10.3.0.0/24"})
	rest := w.create(t, 2, nil)
	empty := w.create(t, 3, map[string]string{networks.PrefixTag: "172.16.0.0/12"})
	wrong := w.create(t, 4, map[string]string{networks.PrefixTag: "ten"})
	require.Equal(t, state.NetworkStopped, w.shown(t, id).Status)
	require.Empty(t, w.shown(t, id).Facts.Hosts)
	for _, v := range []string{rest, id, empty, wrong} {
		started, err := w.Start(ctx, scope, v)
		require.NoError(t, err)
		require.Equal(t, state.NetworkInProgress, started.Status)
	}
	seen := w.shown(t, id)
	require.Equal(t, state.NetworkProtected, seen.Status)
	require.Equal(t, []state.NetworkHost{{ServerID: a.ID, Hostname: "host-1", NICs: []state.NIC{{MAC: "m", IPs: []string{"10.1.0.7"}}}}}, seen.Facts.Hosts)
	require.Len(t, w.shown(t, rest).Facts.Hosts, 2, "without a tag it is that of all servers")
	require.Equal(t, state.NetworkError, w.shown(t, empty).Status)
	require.Equal(t, "no source server has an address in this network", w.shown(t, empty).StatusDetails)
	require.Contains(t, w.shown(t, wrong).StatusDetails, "ten is no address prefix")

	of, err := w.Of(ctx, scope, []state.Server{a, b})
	require.NoError(t, err)
	require.Equal(t, map[string]string{a.ID: id, b.ID: rest}, of, "the oldest that fits")

	stopped, err := w.Stop(ctx, scope, id)
	require.NoError(t, err)
	require.Empty(t, stopped.Facts.Hosts)
	of, err = w.Of(ctx, scope, []state.Server{a})
	require.NoError(t, err)
	require.Equal(t, map[string]string{a.ID: rest}, of)
}

// A network that lost its servers says so, and recovers when they are back.
func TestANetworkIsLookedAtAgain(t *testing.T) {
	w, ctx := open(t), t.Context()
	id := w.create(t, 1, nil)
	_, err := w.Start(ctx, scope, id)
	require.NoError(t, err)
	require.Equal(t, state.NetworkError, w.shown(t, id).Status)
	v := w.server(t, 1, "10.0.0.1")
	require.Equal(t, state.NetworkError, w.shown(t, id).Status, "not looked at every time")
	aged := func() {
		_, err := w.Change(ctx, scope, id, func(_ state.Tx, v *state.SourceNetwork) error {
			v.ObservedAt = v.ObservedAt.Add(-time.Hour)
			return nil
		})
		require.NoError(t, err)
	}
	aged()
	require.Equal(t, state.NetworkProtected, w.shown(t, id).Status)
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteServer(ctx, v.ID) }))
	aged()
	require.Equal(t, state.NetworkError, w.shown(t, id).Status)
}

func TestCreateRefuses(t *testing.T) {
	w, ctx := open(t), t.Context()
	for n := range 99 {
		w.create(t, n, nil)
	}
	_, err := w.Create(ctx, scope, "vpc-00000001", "123456789012", "eu-west-1", nil)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.NotErrorIs(t, err, control.ErrQuota)
	_, err = w.Create(ctx, scope, "vpc-00000001", "123456789012", "eu-west-2", nil)
	require.NoError(t, err, "another region's is another")
	_, err = w.Create(ctx, scope, "vpc-00000001", "123456789012", "eu-west-3", nil)
	require.ErrorIs(t, err, control.ErrQuota)
}

func (w *world) protected(t *testing.T, n int, tags map[string]string) string {
	id := w.create(t, n, tags)
	_, err := w.Start(t.Context(), scope, id)
	require.NoError(t, err)
	require.Equal(t, state.NetworkProtected, w.shown(t, id).Status)
	return id
}

func TestExport(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.server(t, 1, "10.1.0.7", "2001:db8::1")
	w.server(t, 2, "10.1.2.9", "10.1.2.10")
	id := w.create(t, 1, nil)
	_, err := w.Export(ctx, scope, id)
	require.True(t, fault.Is(err, fault.Invalid), "no bucket: %v", err)
	_, err = launchconfig.NewDRSTemplates(w.store).Create(ctx, scope, launchconfig.DRSPatch{ExportBucketARN: new("arn:aws:s3:::my-networks")}, nil)
	require.NoError(t, err)
	_, err = w.Export(ctx, scope, id)
	require.True(t, fault.Is(err, fault.Conflict), "STOPPED: %v", err)
	_, err = w.Export(ctx, stranger, id)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)

	_, err = w.Start(ctx, scope, id)
	require.NoError(t, err)
	url, err := w.Export(ctx, scope, id)
	require.NoError(t, err)
	require.Equal(t, "s3://my-networks/source-networks/"+id+".json", url)
	var made struct {
		Resources map[string]struct {
			Type       string
			Properties struct{ CidrBlock string }
		}
		Metadata struct {
			SourceNetwork struct{ SourceServers []state.NetworkHost }
		}
	}
	require.NoError(t, json.Unmarshal(w.shelf[scope.Account+" "+url], &made))
	require.Equal(t, "10.1.0.0/22", made.Resources["Vpc"].Properties.CidrBlock)
	require.Equal(t, "10.1.0.0/24", made.Resources["Subnet0"].Properties.CidrBlock)
	require.Equal(t, "10.1.2.0/24", made.Resources["Subnet1"].Properties.CidrBlock)
	require.Len(t, made.Resources, 3+1+2+2, "a route table with its associations, and a security group with its rule")
	require.Equal(t, "AWS::EC2::Subnet", made.Resources["Subnet1"].Type)
	require.Len(t, made.Metadata.SourceNetwork.SourceServers, 2)

	without := networks.New(w.store, w.jobs, nil)
	_, err = without.Export(ctx, scope, id)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
}

// What is known of prefixes, routers and name servers is in the template; what the user has to say is a parameter.
func TestTemplateOfRoutesAndNames(t *testing.T) {
	host := func(mac, ip string, routes []state.Route, servers ...string) state.NetworkHost {
		return state.NetworkHost{ServerID: "s-" + ip, NICs: []state.NIC{{MAC: mac, IPs: []string{ip}, Prefixes: []string{ip + "/22"}}},
			Routes: routes, Resolver: state.Resolver{Servers: servers, Search: []string{"corp.example"}}}
	}
	away := state.Route{Destination: "10.9.0.0/16", Gateway: "10.1.0.2", MAC: "a"}
	out := state.Route{Destination: "0.0.0.0/0", Gateway: "10.1.0.1", MAC: "a"}
	v := state.SourceNetwork{ID: "sn-1", Facts: state.NetworkFacts{Hosts: []state.NetworkHost{
		host("a", "10.1.0.7", []state.Route{out, away}, "10.1.0.54", "10.1.0.53", "::1"),
		host("b", "10.1.1.7", []state.Route{out}, "10.1.0.53", "127.0.0.53"),
		{ServerID: "old", NICs: []state.NIC{{IPs: []string{"10.1.2.9"}}}},
	}}}
	body, err := networks.Template(v)
	require.NoError(t, err)
	var made struct {
		Parameters map[string]struct {
			Default       string
			Description   string
			AllowedValues []string
		}
		Conditions map[string]any
		Resources  map[string]struct {
			Type, Condition string
			Properties      map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(body, &made))
	require.Equal(t, "10.1.0.0/22", made.Resources["Subnet0"].Properties["CidrBlock"])
	require.NotContains(t, made.Resources, "Subnet1", "the old agent's address is in the network that others told of")
	require.Equal(t, []any{"10.1.0.53", "10.1.0.54"}, made.Resources["Names"].Properties["DomainNameServers"], "by how many ask them, and none of the machine itself")
	require.Equal(t, "corp.example", made.Resources["Names"].Properties["DomainName"])
	require.Equal(t, "10.9.0.0/16", made.Resources["Route0"].Properties["DestinationCidrBlock"])
	require.Contains(t, made.Parameters["Route0Interface"].Description, "10.1.0.2")
	require.Equal(t, "AWS::EC2::InternetGateway", made.Resources["InternetGateway"].Type)
	require.Contains(t, made.Parameters["Internet"].Description, "10.1.0.1")
	for name, r := range made.Resources {
		if r.Condition != "" {
			require.Contains(t, made.Conditions, r.Condition, name)
		}
	}
	for _, p := range []string{"Internet", "NameServers"} {
		require.Contains(t, made.Parameters[p].AllowedValues, made.Parameters[p].Default)
	}
	require.Empty(t, made.Parameters["Route0Interface"].Default, "no route without its target")
}

// A route is the network's where the interface is that it goes out by.
func TestRoutesOfANetwork(t *testing.T) {
	w, ctx := open(t), t.Context()
	v := w.server(t, 1, "10.1.0.7")
	v.Properties.NICs = append(v.Properties.NICs, state.NIC{MAC: "other", IPs: []string{"10.5.0.7"}, Prefixes: []string{"10.5.0.7/24"}})
	v.Properties.Routes = []state.Route{{Destination: "10.9.0.0/16", Gateway: "10.1.0.2", MAC: "m"}, {Destination: "10.8.0.0/16", Gateway: "10.5.0.2", MAC: "other"}}
	v.Properties.Resolver = state.Resolver{Servers: []string{"10.1.0.53"}}
	require.NoError(t, w.store.Update(ctx, func(tx state.Tx) error { return tx.PutServer(ctx, v) }))
	id := w.protected(t, 1, map[string]string{networks.PrefixTag: "10.5.0.0/16"})
	found := w.shown(t, id).Facts.Hosts
	require.Len(t, found, 1)
	require.Equal(t, []state.NIC{{MAC: "other", IPs: []string{"10.5.0.7"}, Prefixes: []string{"10.5.0.7/24"}}}, found[0].NICs)
	require.Equal(t, v.Properties.Routes[1:], found[0].Routes)
	require.Equal(t, v.Properties.Resolver, found[0].Resolver)
}

func TestTemplatesThatCannotBe(t *testing.T) {
	network := func(prefixes string, ips ...string) state.SourceNetwork {
		return state.SourceNetwork{ID: "sn-1", Tags: map[string]string{networks.PrefixTag: prefixes},
			Facts: state.NetworkFacts{Hosts: []state.NetworkHost{{NICs: []state.NIC{{IPs: ips}}}}}}
	}
	for name, v := range map[string]state.SourceNetwork{
		"nothing of IPv4": network("", "2001:db8::1"),
		"of no VPC":       network("224.0.0.0/24"),
		"nothing within":  network("10.0.0.0/8"),
		"too narrow":      network("10.0.0.0/30"),
		"overlapping":     network("10.0.0.0/16,10.0.5.0/24"),
	} {
		_, err := networks.Template(v)
		require.True(t, fault.Is(err, fault.Conflict), "%s: %v", name, err)
	}
	_, err := networks.Template(network("10.0.5.0/24,10.0.0.0/20,10.0.5.0/24"))
	require.ErrorContains(t, err, "overlap")
	_, err = networks.Template(network("10.0.4.0/24,10.0.5.0/24"))
	require.NoError(t, err)
}

func TestRecoveryIsCheckedAndRefused(t *testing.T) {
	w, ctx := open(t), t.Context()
	w.server(t, 1, "10.0.0.1")
	good, stopped := w.protected(t, 1, nil), w.create(t, 2, nil)
	for name, c := range map[string]struct {
		list []networks.Recovery
		kind fault.Kind
	}{
		"twice":    {[]networks.Recovery{{ID: good}, {ID: good}}, fault.Invalid},
		"unknown":  {[]networks.Recovery{{ID: "sn-00000000000000000"}}, fault.NotFound},
		"stopped":  {[]networks.Recovery{{ID: good}, {ID: stopped}}, fault.Conflict},
		"as it is": {[]networks.Recovery{{ID: good, StackName: "stack"}}, fault.Unsupported},
	} {
		err := w.Recover(ctx, scope, c.list)
		require.True(t, fault.Is(err, c.kind), "%s: %v", name, err)
	}
	require.ErrorContains(t, w.Recover(ctx, scope, []networks.Recovery{{ID: good}}), "no network provider is configured")
	list, _, err := w.jobs.List(ctx, scope, state.JobFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, list, "nothing was begun")
}

func TestAssociate(t *testing.T) {
	w, ctx := open(t), t.Context()
	id := w.create(t, 1, nil)
	j, err := w.Associate(ctx, scope, id, "my-stack")
	require.NoError(t, err)
	require.Equal(t, state.JobPending, j.Status, "the answer shows the job as it was made")
	require.Equal(t, state.LaunchPending, j.Participants[0].Status)
	v := w.shown(t, id)
	require.Equal(t, "my-stack", v.StackName)
	require.Equal(t, state.NetworkRecovery{At: j.CreatedAt, JobID: j.ID, Result: "PARTIAL_SUCCESS"}, v.LastRecovery)
	done, err := w.jobs.Get(ctx, scope, j.ID)
	require.NoError(t, err)
	require.Equal(t, state.JobCompleted, done.Status)
	log, _, err := w.jobs.Log(ctx, scope, j.ID, state.Page{})
	require.NoError(t, err)
	var events []state.JobEventName
	for _, e := range log {
		events = append(events, e.Event)
	}
	require.Equal(t, []state.JobEventName{state.JobStart, state.UpdateLaunchTemplateStart, state.UpdateLaunchTemplateFailed, state.JobEnd}, events)
	_, err = w.Associate(ctx, stranger, id, "my-stack")
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// A process that dies between any two steps leaves a job that the next one finishes, once.
func TestResume(t *testing.T) {
	for steps := range 4 {
		w, ctx := open(t), t.Context()
		id := w.create(t, 1, nil)
		var j state.Job
		require.NoError(t, w.store.Update(ctx, func(tx state.Tx) (err error) {
			j, err = w.jobs.Create(ctx, tx, scope, jobs.Spec{Type: state.JobLaunch, InitiatedBy: state.ByAssociateNetworkRecovery,
				Participants: []state.Participant{{SourceNetworkID: id}}})
			return err
		}))
		for _, do := range []func() error{
			func() error { return w.jobs.Begin(ctx, scope, j.ID) },
			func() error {
				return w.jobs.Move(ctx, scope, j.ID, id, jobs.Proceed, nil, nil, state.JobEvent{Event: state.UpdateLaunchTemplateStart})
			},
			func() error {
				return w.jobs.Move(ctx, scope, j.ID, id, jobs.Succeed, nil, nil, state.JobEvent{Event: state.UpdateLaunchTemplateFailed})
			},
		}[:steps] {
			require.NoError(t, do())
		}
		require.True(t, fault.Is(w.Delete(ctx, scope, id), fault.Conflict), "it is in a job")
		require.NoError(t, w.Resume(ctx))
		log, _, err := w.jobs.Log(ctx, scope, j.ID, state.Page{})
		require.NoError(t, err)
		require.Len(t, log, 4, "%d steps were done before", steps)
		require.True(t, slices.ContainsFunc(log, func(e state.JobEvent) bool { return e.Event == state.JobEnd }))
		require.NoError(t, w.Resume(ctx))
		require.NoError(t, w.Delete(ctx, scope, id))
	}
}
