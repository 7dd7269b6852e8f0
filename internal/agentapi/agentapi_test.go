package agentapi

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const account = "111122223333"

var scope = state.Scope{Account: account, Service: state.MGN}

// idle is a replication server that is always ready and never gets data.
type idle struct{ replication.ReplicationServer }

func (idle) Launch(context.Context) (bool, error)                { return false, nil }
func (idle) Boot(context.Context) error                          { return nil }
func (idle) Authenticate(context.Context) error                  { return nil }
func (idle) CheckSoftware(context.Context, []uint32) error       { return nil }
func (idle) Admit(context.Context, string) error                 { return nil }
func (idle) Revoke(context.Context, string) error                { return nil }
func (idle) AttachStaging(context.Context, string) (bool, error) { return false, nil }
func (idle) DetachStaging(context.Context, string) error         { return nil }
func (idle) DestroyStaging(context.Context, string) error        { return nil }
func (idle) Address() string                                     { return "data.test:1500" }
func (idle) Status(string) replication.ReplicaStatus {
	return replication.ReplicaStatus{Attached: true}
}
func (idle) CreateStaging(context.Context, string, []replication.StagingDisk) (bool, error) {
	return false, nil
}

// plane is a control port with everything real behind it but the replication server.
type plane struct {
	url    string
	ca     *pki.Authority
	engine *replication.Engine
	store  *sqlite.Store
}

func setup(t *testing.T) *plane {
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	require.NoError(t, accounts.New(store).Initialize(t.Context(), scope))
	ca, err := pki.Open(filepath.Join(dir, "pki"))
	require.NoError(t, err)
	pair, err := ca.Server()
	require.NoError(t, err)
	engine := replication.New(store, idle{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, engine.Run(ctx, nil)) })
	type signed struct{}
	path, h := New(Config{
		Account: func(ctx context.Context) (string, bool) { a, ok := ctx.Value(signed{}).(string); return a, ok },
		Region:  "eu-test-1", Servers: servers.New(store), Replication: engine, Authority: ca, Log: slog.New(slog.DiscardHandler),
	})
	mux := http.NewServeMux()
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Test-Signed-By"); a != "" { // stands for signature verification
			r = r.WithContext(context.WithValue(r.Context(), signed{}, a))
		}
		h.ServeHTTP(w, r)
	}))
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = ca.ServerTLS(pair)
	srv.StartTLS()
	t.Cleanup(func() {
		srv.Close()
		cancel()
		wg.Wait()
		require.NoError(t, store.Close())
	})
	return &plane{url: srv.URL, ca: ca, engine: engine, store: store}
}

type signer struct{ next http.RoundTripper }

func (s signer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Test-Signed-By", account)
	return s.next.RoundTrip(r)
}

func (p *plane) client(t *testing.T, cert, key []byte, sign bool) agentpbconnect.AgentServiceClient {
	c, err := pki.ClientTLS(p.ca.CertificatePEM(), cert, key)
	require.NoError(t, err)
	tr := &http.Transport{TLSClientConfig: c}
	t.Cleanup(tr.CloseIdleConnections)
	hc := &http.Client{Transport: tr}
	if sign {
		hc.Transport = signer{tr}
	}
	return agentpbconnect.NewAgentServiceClient(hc, p.url)
}

// enrol registers a machine and returns a client with its certificate.
func (p *plane) enrol(t *testing.T, identity string) (string, agentpbconnect.AgentServiceClient) {
	key, csr, err := pki.NewAgentKey()
	require.NoError(t, err)
	got, err := p.client(t, nil, nil, true).Register(t.Context(), request(identity, csr))
	require.NoError(t, err)
	return got.GetSourceServerId(), present{p.client(t, got.GetCertificatePem(), key, false), identity}
}

// present is an agent that says which machine it runs on where the test does not.
type present struct {
	agentpbconnect.AgentServiceClient
	identity string
}

func (p present) Handshake(ctx context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
	if r.Presence == nil {
		r.Presence = &agentpb.Presence{MachineIdentity: p.identity}
	}
	return p.AgentServiceClient.Handshake(ctx, r)
}

func request(identity string, csr []byte) *agentpb.RegisterRequest {
	return &agentpb.RegisterRequest{
		Service: "mgn", MachineIdentity: identity, Hostname: "web", AgentVersion: "1", WireVersions: []uint32{1}, CsrPem: csr,
		Devices:    []*agentpb.Device{{DeviceName: "/dev/vda", Bytes: 1 << 30, Boot: true}, {DeviceName: "/dev/vdb", Bytes: 1 << 30}},
		Properties: &agentpb.SourceProperties{Os: "Linux", RamBytes: 5, Fqdn: "web.example", Nics: []*agentpb.Nic{{Mac: "aa"}}},
	}
}

func requireKind(t *testing.T, k fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, k, fault.KindOf(agentpb.Fault("test", err)), "%v", err)
}

func TestRegister(t *testing.T) {
	p := setup(t)
	_, csr, err := pki.NewAgentKey()
	require.NoError(t, err)
	_, err = p.client(t, nil, nil, false).Register(t.Context(), request("m", csr))
	requireKind(t, fault.Denied, err)
	c := p.client(t, nil, nil, true)
	_, err = c.Register(t.Context(), request("m", []byte("rubbish")))
	requireKind(t, fault.Invalid, err)
	bad := request("m", csr)
	bad.Service = "drs"
	_, err = c.Register(t.Context(), bad)
	requireKind(t, fault.Invalid, err)
	require.Contains(t, err.Error(), "initialize-service", "the hint must reach the operator")
	items, _, err := servers.New(p.store).List(t.Context(), scope, state.ServerFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items, "a refused registration leaves nothing")

	got, err := c.Register(t.Context(), request("m", csr))
	require.NoError(t, err)
	require.Equal(t, "arn:aws:mgn:eu-test-1:111122223333:source-server/"+got.GetSourceServerId(), got.GetArn())
	block, _ := pem.Decode(got.GetCertificatePem())
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, "understudy:source-server/111122223333/mgn/"+got.GetSourceServerId(), cert.URIs[0].String())
	again, err := c.Register(t.Context(), request("m", csr))
	require.NoError(t, err)
	require.Equal(t, got.GetSourceServerId(), again.GetSourceServerId())
	v, err := servers.New(p.store).Get(t.Context(), scope, got.GetSourceServerId())
	require.NoError(t, err)
	require.Equal(t, state.Hints{Hostname: "web", FQDN: "web.example"}, v.Properties.Hints)
	require.Equal(t, []uint32{1}, v.Agent.WireVersions)
}

func TestHandshakeIdentity(t *testing.T) {
	p := setup(t)
	a, ca := p.enrol(t, "a")
	b, _ := p.enrol(t, "b")
	_, err := ca.Handshake(t.Context(), &agentpb.HandshakeRequest{SourceServerId: b})
	requireKind(t, fault.Denied, err)
	_, err = p.client(t, nil, nil, true).Handshake(t.Context(), &agentpb.HandshakeRequest{SourceServerId: a})
	requireKind(t, fault.Denied, err)
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	got, err := ca.Handshake(t.Context(), &agentpb.HandshakeRequest{SourceServerId: a})
	require.NoError(t, err)
	require.Equal(t, agentpb.Desired_DESIRED_RUN, got.GetDesired())
	require.Equal(t, "data.test:1500", got.GetReplicationAddress())
	require.EqualValues(t, 1, got.GetNextHandshakeSeconds())
	require.Len(t, got.GetDisks(), 2)
	require.Equal(t, "/dev/vdb", got.GetDisks()[1].GetDeviceName())
	require.EqualValues(t, 1, got.GetDisks()[1].GetIndex())
	require.NotZero(t, got.GetAttemptId())
}

// A disk image that is booted elsewhere has the certificate of the machine it was taken of.
func TestACopyIsRefusedAndChangesNothing(t *testing.T) {
	p := setup(t)
	id, c := p.enrol(t, "a")
	ask := func(identity, boot string, facts *agentpb.SourceProperties) error {
		_, err := c.Handshake(t.Context(), &agentpb.HandshakeRequest{SourceServerId: id, Properties: facts,
			Presence: &agentpb.Presence{MachineIdentity: identity, BootId: boot, UptimeNs: int64(time.Hour)}})
		return err
	}
	facts := func() state.SourceProperties {
		v, err := servers.New(p.store).Get(t.Context(), scope, id)
		require.NoError(t, err)
		return v.Properties
	}
	require.NoError(t, ask("a", "boot 1", nil))
	require.Equal(t, "web.example", facts().Hints.FQDN)
	require.NoError(t, ask("a", "boot 1", &agentpb.SourceProperties{Fqdn: "renamed.example", Hostname: "renamed", VmwareUuid: "v", AwsInstanceId: "i"}))
	want := state.Hints{Hostname: "renamed", FQDN: "renamed.example", VMWareUUID: "v", AWSInstanceID: "i"}
	require.Equal(t, want, facts().Hints)
	stranger := &agentpb.SourceProperties{Fqdn: "copy.example"}
	requireKind(t, fault.Fenced, ask("b", "boot 2", stranger))
	requireKind(t, fault.Fenced, ask("a", "boot 2", stranger))
	err := ask("", "", stranger)
	requireKind(t, fault.Fenced, err)
	require.Contains(t, err.Error(), "systemd-machine-id-setup", "the hint must reach whoever made the copy")
	require.Equal(t, want, facts().Hints)
	require.NoError(t, ask("a", "boot 1", nil), "the machine itself goes on")
}

func TestHandshakeTellsWhatTheOperatorWants(t *testing.T) {
	p := setup(t)
	id, c := p.enrol(t, "a")
	ask := func() agentpb.Desired {
		got, err := c.Handshake(t.Context(), &agentpb.HandshakeRequest{SourceServerId: id})
		require.NoError(t, err)
		return got.GetDesired()
	}
	ctx := t.Context()
	require.NoError(t, p.engine.Pause(ctx, scope, id))
	require.Equal(t, agentpb.Desired_DESIRED_PAUSE, ask())
	require.NoError(t, p.engine.Resume(ctx, scope, id))
	require.Equal(t, agentpb.Desired_DESIRED_RUN, ask())
	require.NoError(t, p.engine.Stop(ctx, scope, id))
	require.Equal(t, agentpb.Desired_DESIRED_STOP, ask())
	require.NoError(t, p.engine.Disconnect(ctx, scope, id))
	require.Equal(t, agentpb.Desired_DESIRED_DISCONNECT, ask())
	require.NoError(t, p.engine.Delete(ctx, scope, id))
	require.Equal(t, agentpb.Desired_DESIRED_DISCONNECT, ask())
}

// TestConcurrentHandshakes has many agents report while operators act and readers look; the race
// detector is the judge, and every answer must be a valid one.
func TestConcurrentHandshakes(t *testing.T) {
	p := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for n := range 6 {
		id, c := p.enrol(t, fmt.Sprint("machine-", n))
		for range 2 {
			wg.Go(func() {
				for i := range 30 {
					got, err := c.Handshake(ctx, &agentpb.HandshakeRequest{SourceServerId: id, AttemptId: uint64(i), Progress: &agentpb.Progress{
						Phase: agentpb.Phase_PHASE_RESCAN, LastError: "x",
						Disks: []*agentpb.DiskProgress{{DeviceName: "/dev/vda", ReplicatedBytes: uint64(i)}},
					}})
					if err != nil || got.GetDesired() == agentpb.Desired_DESIRED_UNSPECIFIED {
						t.Errorf("handshake: %v %v", got, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			v, err := servers.New(p.store).Get(ctx, scope, id)
			if err != nil {
				t.Error(err)
				return
			}
			for range 4 {
				for _, op := range []func(context.Context, state.Scope, string) error{p.engine.Pause, p.engine.Resume, p.engine.Stop, p.engine.Start} {
					if err := op(ctx, scope, id); err != nil {
						t.Error(err)
					}
					if _, err := p.engine.Describe(ctx, []state.Server{v}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestFaultOfAFailedCall(t *testing.T) {
	p := setup(t)
	c := p.client(t, nil, nil, true)
	p.url = "https://127.0.0.1:1"
	_, err := p.client(t, nil, nil, true).Register(t.Context(), &agentpb.RegisterRequest{})
	requireKind(t, fault.Transient, err)
	big := request("m", make([]byte, 2*maxMessage))
	_, err = c.Register(t.Context(), big)
	require.Error(t, err)
}
