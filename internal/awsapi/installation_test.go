package awsapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

// installation is the endpoint over the domain's own packages and a store, as internal/app/serve
// assembles them; only the replication server is absent.
type installation struct {
	server   *httptest.Server
	admin    control.AccessKey
	stranger control.AccessKey // the administrator of another account
	log      *logBuffer

	store     state.Store
	accounts  *accounts.Accounts
	servers   *servers.Servers
	templates *templates.Templates
	engine    *replication.Engine
	points    *points.Points
	dir       string
	made      int // servers
}

const otherAccount = "000000000002"

// install makes an installation whose two accounts are ready in both services.
func install(t *testing.T) *installation {
	t.Helper()
	ctx := t.Context()
	i := &installation{log: &logBuffer{}, dir: t.TempDir()}
	log := slog.New(slog.NewTextHandler(i.log, nil))
	store, err := sqlite.Open(ctx, filepath.Join(i.dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	keys, err := access.Open(store, i.dir)
	require.NoError(t, err)
	i.admin, err = keys.Create(ctx, account, "op", true)
	require.NoError(t, err)
	i.stranger, err = keys.Create(ctx, otherAccount, "op", true)
	require.NoError(t, err)

	i.store, i.accounts, i.servers, i.templates = store, accounts.New(store), servers.New(store), templates.New(store)
	i.engine = replication.New(store, noReplica{}, log)
	i.points = points.New(store, i.engine, i.engine.PointMade, log)
	for _, a := range []string{account, otherAccount} {
		for _, service := range []state.Service{state.DRS, state.MGN} {
			require.NoError(t, i.accounts.Initialize(ctx, state.Scope{Account: a, Service: service}))
		}
	}
	endpoint := awsapi.New(awsapi.Config{Region: region, Access: keys, Accounts: i.accounts, Log: log,
		Undeclared: func(op *rest.Operation, code string) {
			t.Errorf("%s answered %s, which it does not declare", op.Name, code)
		}})
	endpoint.Serve(drs.New(drsapi.New(i.drsDomain())))
	endpoint.Serve(mgn.New(mgnapi.New(i.mgnDomain())))
	i.server = httptest.NewTLSServer(endpoint)
	t.Cleanup(i.server.Close)
	return i
}

// add puts a source server into the store whose replication is in the given state.
func (i *installation) add(t *testing.T, sc state.Scope, in state.ReplicationState, change ...func(*state.Server)) string {
	t.Helper()
	i.made++
	now := time.Now().UTC().Truncate(time.Microsecond)
	v := state.Server{
		ID: control.NewID("s-"), Scope: sc, Identity: fmt.Sprint("machine ", i.made), CreatedAt: now.Add(-time.Hour),
		ReplicationType: state.AgentBased, Agent: state.Agent{Version: "1.0.0"}, Tags: map[string]string{},
		Properties: state.SourceProperties{
			UpdatedAt: now, OS: "Linux version 6.12", RAMBytes: 4 << 30, CPUs: []state.CPU{{Cores: 1, Model: "x86"}},
			NICs:  []state.NIC{{MAC: "52:54:00:12:34:56", IPs: []string{"192.0.2.7"}, Primary: true}},
			Disks: []state.SourceDisk{{DeviceName: "/dev/vda", Bytes: 10 << 30}},
			Hints: state.Hints{Hostname: "web", FQDN: "web.test"},
		},
		Disks:  []state.Disk{{DeviceName: "/dev/vda", Bytes: 10 << 30, Boot: true}},
		Config: templates.Defaults(sc.Service),
	}
	v.Config.StagingAreaSubnetID = templates.NoSubnet
	v.Config.Disks = []state.DiskConfig{{DeviceName: "/dev/vda", Boot: true, StagingDiskType: "AUTO"}}
	if sc.Service == state.DRS {
		v.Config.PITPolicy = templates.DefaultPITPolicy()
	} else {
		v.LifeCycle.State = state.ReadyForTest
	}
	for _, fn := range change {
		fn(&v)
	}
	rec := replication.NewRecord(v, in == state.Stopped, now.Add(-time.Hour))
	rec.State, rec.LastSeenAt, rec.FirstByteAt = in, now, now
	switch in {
	case state.Continuous:
		rec.Complete, rec.RecoverableAt, rec.LastPointAt = true, now, now
	case state.Paused:
		rec.Intent, rec.Resume = state.IntentPause, state.Continuous
	case state.Stalled:
		rec.Error, rec.ErrorAt, rec.Resume = &state.ReplicationError{Code: state.AgentNotSeen, Raw: "silent"}, now, state.Continuous
	case state.Disconnected:
		rec.Intent = state.IntentDisconnect
	}
	require.NoError(t, i.store.Update(t.Context(), func(tx state.Tx) error {
		if err := tx.PutServer(t.Context(), v); err != nil {
			return err
		}
		return tx.PutReplication(t.Context(), rec)
	}))
	return v.ID
}

func (i *installation) scope(s state.Service) state.Scope {
	return state.Scope{Account: account, Service: s}
}

func arn(service state.Service, resource string) string {
	return "arn:aws:" + string(service) + ":" + region + ":" + account + ":" + resource
}

// noReplica is a replication server that receives nothing: the engine does not run in these tests.
type noReplica struct{}

var _ replication.ReplicationServer = noReplica{}

func (noReplica) Launch(context.Context) (bool, error)                { return true, nil }
func (noReplica) Boot(context.Context) error                          { return nil }
func (noReplica) Authenticate(context.Context) error                  { return nil }
func (noReplica) CheckSoftware(context.Context, []uint32) error       { return nil }
func (noReplica) Admit(context.Context, string) error                 { return nil }
func (noReplica) Revoke(context.Context, string) error                { return nil }
func (noReplica) AttachStaging(context.Context, string) (bool, error) { return true, nil }
func (noReplica) DetachStaging(context.Context, string) error         { return nil }
func (noReplica) DestroyStaging(context.Context, string) error        { return nil }
func (noReplica) Address() string                                     { return "127.0.0.1:1500" }
func (noReplica) Status(string) replication.ReplicaStatus             { return replication.ReplicaStatus{} }
func (noReplica) CreateStaging(context.Context, string, []replication.StagingDisk) (bool, error) {
	return true, nil
}
func (noReplica) RecoverablePosition(string, time.Time) (uint64, time.Time, error) {
	return 0, time.Time{}, fault.New(fault.NotFound, "no replica", "nothing is recoverable")
}
