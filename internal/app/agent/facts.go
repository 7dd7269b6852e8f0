package agent

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/machine"
)

// presence is what tells this machine from a copy of it.
func presence() (*agentpb.Presence, error) {
	p, err := machine.Here().Presence(hardwareNames())
	if err != nil {
		return nil, err
	}
	return &agentpb.Presence{MachineIdentity: p.Identity, DiskIdentities: p.Disks, BootId: p.Boot, UptimeNs: int64(p.Up)}, nil
}

// hardwareNames are what the machine's hardware disks call themselves.
func hardwareNames() []string {
	all, err := blockdev.List()
	if err != nil {
		return nil // which says nothing of the machine
	}
	var names []string
	for _, d := range all {
		if d.Hardware {
			names = append(names, hardwareName(d))
		}
	}
	return names
}

// hardwareName is what a disk calls itself wherever it is plugged in, "" when it has no name of its own.
func hardwareName(d blockdev.Info) string {
	if d.WWN != "" {
		return d.WWN
	}
	return d.Serial
}

// sourceProperties are the facts that the APIs show of this machine.
func sourceProperties(ctx context.Context, disks diskSet, mode *choice) *agentpb.SourceProperties {
	f := machine.Here().Facts(ctx)
	p := &agentpb.SourceProperties{Os: withMode(f.OS, mode), RamBytes: f.RAMBytes, Hostname: f.Hostname, Fqdn: f.FQDN,
		AwsInstanceId: f.AWSInstanceID, VmwareUuid: f.VMWareUUID, Disks: allDisks(disks)}
	for _, c := range f.CPUs {
		p.Cpus = append(p.Cpus, &agentpb.Cpu{Cores: c.Cores, Model: c.Model})
	}
	for _, n := range f.NICs {
		p.Nics = append(p.Nics, &agentpb.Nic{Mac: n.MAC, Ips: n.IPs, Primary: n.Primary, Prefixes: n.Prefixes})
	}
	for _, r := range f.Routes {
		p.Routes = append(p.Routes, &agentpb.Route{Destination: r.Destination, Gateway: r.Gateway, Mac: r.MAC})
	}
	p.Resolver = &agentpb.Resolver{Servers: f.Resolver.Servers, Search: f.Resolver.Search}
	return p
}

// maxOS is the API's bound of os.fullString.
const maxOS = 256

// withMode says a fall-back in the only member of the API's source properties that is free text. With payloads the string is
// what the real service shows.
func withMode(os string, mode *choice) string {
	now := mode.get()
	if now.Mode == capture.ModePayload {
		return os
	}
	note := "; understudy captures by " + string(now.Mode)
	if len(os)+len(note)+len(": ")+len(now.Why) <= maxOS {
		note += ": " + now.Why
	}
	return os[:min(len(os), maxOS-len(note))] + note
}

// devices are the disks to replicate.
func (s diskSet) devices() []*agentpb.Device {
	boot := bootDisk()
	var out []*agentpb.Device
	for _, d := range s {
		out = append(out, &agentpb.Device{DeviceName: d.path, Bytes: d.bytes, Boot: d.dev == boot, Identity: d.identity})
	}
	return out
}

// allDisks are the disks to replicate, as they are named there, and the machine's other hardware disks.
func allDisks(replicated diskSet) []*agentpb.Device {
	out := replicated.devices()
	all, err := blockdev.List()
	if err != nil {
		return out
	}
	known := map[blockdev.Dev]bool{}
	for _, d := range replicated {
		known[d.dev] = true
	}
	boot := bootDisk()
	for _, d := range all {
		if !known[d.Disk] && d.Hardware {
			out = append(out, &agentpb.Device{DeviceName: d.Path, Bytes: d.Bytes, Boot: d.Disk == boot})
		}
	}
	return out
}

// bootDisk is the whole disk that / lives on; the zero Dev when that is no single disk.
func bootDisk() blockdev.Dev {
	dev, err := blockdev.OfFile("/")
	if err != nil {
		return blockdev.Dev{}
	}
	return dev
}

// How often the facts are read, and told even when they have not changed.
const (
	factsEvery = time.Minute
	factsAgain = time.Hour
)

// bulletin is the facts that the service has been told of. One call at a time uses it.
type bulletin struct {
	read  func(context.Context) *agentpb.SourceProperties
	told  *agentpb.SourceProperties
	next  time.Time // when to read them
	again time.Time // when to tell them in any case
}

// news is what the service is to be told, nil when it knows.
func (b *bulletin) news(ctx context.Context, now time.Time) *agentpb.SourceProperties {
	if now.Before(b.next) {
		return nil
	}
	facts := b.read(ctx)
	if proto.Equal(facts, b.told) && now.Before(b.again) {
		b.next = now.Add(factsEvery)
		return nil
	}
	return facts
}

// accepted takes note of what the service has taken; nil changes nothing.
func (b *bulletin) accepted(facts *agentpb.SourceProperties, now time.Time) {
	if facts != nil {
		b.told, b.next, b.again = facts, now.Add(factsEvery), now.Add(factsAgain)
	}
}
