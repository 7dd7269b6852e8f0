package simulate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentclient"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	defaultEvery     = 30 * time.Second
	handshakeTimeout = 20 * time.Second
	maxRetries       = 30
	diskBytes        = 20 << 30
	ramBytes         = 4 << 30
)

// agent is one of the fleet, registered.
type agent struct {
	fleet     *fleet
	server    string // its source server
	machine   string // its machine identity
	transport *http.Transport
	client    agentpbconnect.AgentServiceClient
	attempt   uint64
	backoff   agentclient.Backoff
}

// enrol registers one machine. A server that is busy is asked again.
func (f *fleet) enrol(ctx context.Context, client agentpbconnect.AgentServiceClient, i int) (*agent, error) {
	key, csr, err := pki.NewAgentKey()
	if err != nil {
		return nil, err
	}
	request := f.machine(i)
	request.CsrPem = csr
	var backoff agentclient.Backoff
	for try := 0; ; try++ {
		began := time.Now()
		m, err := client.Register(ctx, request)
		if err == nil {
			f.registered.add(time.Since(began))
			return f.connect(m, key, request.GetMachineIdentity())
		}
		err = agentpb.Fault("register "+request.GetMachineIdentity(), err)
		f.failed(ctx, &f.registered, "register", err)
		if !fault.Is(err, fault.Transient) || try == maxRetries {
			return nil, err
		}
		if err := pause(ctx, backoff.Next()); err != nil {
			return nil, err
		}
	}
}

// machine is the i-th machine: like no other, and the same at every run of one name.
func (f *fleet) machine(i int) *agentpb.RegisterRequest {
	host := fmt.Sprintf("%s-%06d", f.cfg.Name, i)
	disk := &agentpb.Device{DeviceName: "/dev/vda", Bytes: diskBytes, Boot: true}
	return &agentpb.RegisterRequest{
		Service: f.cfg.Service, MachineIdentity: "simulated-" + host, Hostname: host, AgentVersion: buildinfo.Version, WireVersions: wire.Versions,
		Capture: "simulated", NoReplication: !f.cfg.Replicate, Tags: map[string]string{"simulated": f.cfg.Name}, Devices: []*agentpb.Device{disk},
		Properties: &agentpb.SourceProperties{Os: "simulated", RamBytes: ramBytes, Fqdn: host + ".simulated.test",
			Cpus:  []*agentpb.Cpu{{Cores: 2, Model: "simulated"}},
			Nics:  []*agentpb.Nic{{Mac: fmt.Sprintf("02:00:00:%02x:%02x:%02x", byte(i>>16), byte(i>>8), byte(i)), Ips: []string{fmt.Sprintf("10.%d.%d.%d", byte(i>>16), byte(i>>8), byte(i))}, Primary: true}},
			Disks: []*agentpb.Device{disk}},
	}
}

// connect gives an agent a connection of its own, which its certificate authenticates.
func (f *fleet) connect(m *agentpb.RegisterResponse, key []byte, machine string) (*agent, error) {
	tlsConfig, err := pki.ClientTLS(f.ca, m.GetCertificatePem(), key)
	if err != nil {
		return nil, err
	}
	transport := agentclient.Transport(tlsConfig, nil)
	return &agent{fleet: f, server: m.GetSourceServerId(), machine: machine, transport: transport,
		client: agentpbconnect.NewAgentServiceClient(&http.Client{Transport: transport}, f.cfg.Endpoint)}, nil
}

// run handshakes until ctx ends.
func (a *agent) run(ctx context.Context, first time.Duration) {
	for wait := first; pause(ctx, wait) == nil; wait = a.ask(ctx) {
	}
}

// ask handshakes once and tells when to do so again.
func (a *agent) ask(ctx context.Context) time.Duration {
	// The end of the run is no deadline of the call, of which the server would be told, and which it may find passed before we do.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	every := a.fleet.cfg.Every
	if every == 0 {
		every = defaultEvery
	}
	began := time.Now()
	m, err := a.client.Handshake(call, a.report(began))
	took := time.Since(began)
	if err != nil {
		a.fleet.failed(ctx, &a.fleet.handshakes, "handshake", agentpb.Fault("handshake of "+a.server, err))
		return a.backoff.Next()
	}
	a.backoff.Reset()
	a.fleet.handshakes.add(took)
	if m.GetReplicationAddress() != "" {
		a.attempt = m.GetAttemptId()
	}
	if a.fleet.cfg.Every == 0 {
		every = max(time.Second, time.Duration(m.GetNextHandshakeSeconds())*time.Second)
	}
	return max(0, agentclient.Interval(every)-took)
}

func (a *agent) report(now time.Time) *agentpb.HandshakeRequest {
	return &agentpb.HandshakeRequest{SourceServerId: a.server, AttemptId: a.attempt, AgentTimeNs: now.UnixNano(),
		Presence: &agentpb.Presence{MachineIdentity: a.machine},
		Progress: &agentpb.Progress{Disks: []*agentpb.DiskProgress{{DeviceName: "/dev/vda", TotalBytes: diskBytes}}}}
}

// probe asks for a page of source servers, as a console does.
func (f *fleet) probe(ctx context.Context) {
	began := time.Now()
	if err := f.describe(ctx); err != nil {
		f.failed(ctx, &f.probes, "describe source servers", err)
		return
	}
	f.probes.add(time.Since(began))
}

func (f *fleet) describe(ctx context.Context) error {
	const op = "describe source servers"
	transport := *f.signed.Transport.(*sigv4.Transport) // which signer made
	transport.Service = f.cfg.Service
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(f.cfg.Endpoint, "/")+"/DescribeSourceServers", strings.NewReader(`{"maxResults":100}`))
	if err != nil {
		return fault.New(fault.Invalid, op, "%w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return fault.New(fault.Transient, op, "%w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fault.New(fault.Transient, op, "%w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Transient, op, "%s: %.200s", answer.Status, body)
	}
	return nil
}

// pause waits, or returns why not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
