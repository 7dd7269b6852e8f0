package agentapi

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/state"
)

// Register enrols a machine. Each part may be repeated, so an agent that got no answer asks again.
func (s *service) Register(ctx context.Context, r *agentpb.RegisterRequest) (*agentpb.RegisterResponse, error) {
	const op = "register"
	account, ok := s.Account(ctx)
	if !ok {
		return nil, s.answer(op, fault.New(fault.Denied, op, "the request is not signed"))
	}
	// First of all: a request that cannot be signed must not set anything going.
	if err := pki.CheckRequest(r.GetCsrPem()); err != nil {
		return nil, s.answer(op, err)
	}
	scope := state.Scope{Account: account, Service: state.Service(r.GetService())}
	v, err := s.Servers.Register(ctx, scope, registration(r))
	if err != nil {
		return nil, s.answer(op, err)
	}
	if err := s.Replication.Registered(ctx, v); err != nil {
		return nil, s.answer(op, err)
	}
	cert, err := s.Authority.SignAgent(r.GetCsrPem(), pki.ID{Account: account, Service: string(scope.Service), Server: v.ID})
	if err != nil {
		return nil, s.answer(op, err)
	}
	return &agentpb.RegisterResponse{
		SourceServerId: v.ID,
		Arn:            fmt.Sprintf("arn:aws:%s:%s:%s:source-server/%s", scope.Service, s.Region, account, v.ID),
		CertificatePem: cert,
		CaPem:          s.Authority.CertificatePEM(),
	}, nil
}

func registration(r *agentpb.RegisterRequest) servers.Registration {
	out := servers.Registration{
		Identity:       r.GetMachineIdentity(),
		Presence:       presence(r.GetPresence()),
		UserProvidedID: r.GetUserProvidedId(),
		Agent:          state.Agent{Version: r.GetAgentVersion(), WireVersions: r.GetWireVersions(), Capture: r.GetCapture()},
		Properties:     properties(r.GetProperties()),
		Tags:           r.GetTags(),
		NoReplication:  r.GetNoReplication(),
	}
	if out.Properties.Hints.Hostname == "" {
		out.Properties.Hints.Hostname = r.GetHostname()
	}
	for _, d := range r.GetDevices() {
		out.Devices = append(out.Devices, device(d))
	}
	return out
}

func device(d *agentpb.Device) servers.Device {
	return servers.Device{Name: d.GetDeviceName(), Identity: d.GetIdentity(), Bytes: d.GetBytes(), Boot: d.GetBoot()}
}

// maxDiskIdentities bounds what is kept of a machine's disks.
const maxDiskIdentities = 1000

func presence(p *agentpb.Presence) servers.Presence {
	disks := p.GetDiskIdentities()
	return servers.Presence{
		Identity: p.GetMachineIdentity(), Disks: disks[:min(len(disks), maxDiskIdentities)], Boot: p.GetBootId(),
		Up: time.Duration(p.GetUptimeNs()),
	}
}

func properties(p *agentpb.SourceProperties) state.SourceProperties {
	out := state.SourceProperties{
		OS:       p.GetOs(),
		RAMBytes: p.GetRamBytes(),
		Hints: state.Hints{
			Hostname: p.GetHostname(), FQDN: p.GetFqdn(), AWSInstanceID: p.GetAwsInstanceId(), VMWareUUID: p.GetVmwareUuid(),
		},
	}
	for _, c := range p.GetCpus() {
		out.CPUs = append(out.CPUs, state.CPU{Cores: c.GetCores(), Model: c.GetModel()})
	}
	for _, n := range p.GetNics() {
		out.NICs = append(out.NICs, state.NIC{MAC: n.GetMac(), IPs: n.GetIps(), Primary: n.GetPrimary(), Prefixes: n.GetPrefixes()})
	}
	for _, r := range p.GetRoutes() {
		out.Routes = append(out.Routes, state.Route{Destination: r.GetDestination(), Gateway: r.GetGateway(), MAC: r.GetMac()})
	}
	out.Resolver = state.Resolver{Servers: p.GetResolver().GetServers(), Search: p.GetResolver().GetSearch()}
	for _, d := range p.GetDisks() {
		out.Disks = append(out.Disks, state.SourceDisk{DeviceName: d.GetDeviceName(), Bytes: d.GetBytes()})
	}
	return out
}
