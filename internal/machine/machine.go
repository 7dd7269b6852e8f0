// Package machine reads the facts of the machine it runs on: what it is recognised by, what tells it from a copy of
// itself, and what the APIs show as source properties. The agent's assembly imports it.
package machine

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Machine is a machine as its file system shows it.
type Machine struct{ root string }

// Here is the machine that this process runs on.
func Here() Machine { return At("/") }

// At is a machine whose /etc, /proc and /sys are below root.
func At(root string) Machine { return Machine{root} }

// Facts are what the APIs show as source properties. No disks are among them: internal/blockdev knows those.
type Facts struct {
	Hostname      string
	FQDN          string
	OS            string // content of /proc/version, as AWS's agent reports it
	RAMBytes      uint64
	CPUs          []CPU // one for each socket
	NICs          []NIC
	Routes        []Route
	Resolver      Resolver
	VMWareUUID    string // as vCenter shows it; empty elsewhere
	AWSInstanceID string // empty elsewhere
}

// CPU is the processors of one socket.
type CPU struct {
	Cores int64 // logical processors
	Model string
}

// Facts collects the facts; what cannot be read is left empty. It may ask the resolver for the machine's full name.
func (m Machine) Facts(ctx context.Context) Facts {
	f := Facts{OS: m.line("proc/version"), RAMBytes: m.memory(), CPUs: m.processors(), NICs: m.interfaces(), Routes: m.routes(), Resolver: m.resolver()}
	f.Hostname, _ = os.Hostname() // empty is what the API shows then
	f.FQDN = m.fullName(ctx, f.Hostname)
	f.VMWareUUID, f.AWSInstanceID = m.vmwareUUID(), m.awsInstanceID()
	return f
}

// line is a file's content without the white space around it, "" when it cannot be read.
func (m Machine) line(name string) string {
	b, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		return ""
	}
	return string(bytes.Trim(b, " \t\r\n\x00"))
}

func (m Machine) memory() uint64 {
	for line := range strings.Lines(m.line("proc/meminfo")) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// processors counts logical processors by socket, in the order of their first appearance. Processors that name no
// socket share one.
func (m Machine) processors() []CPU {
	var out []CPU
	sockets := map[string]int{}
	for block := range strings.SplitSeq(m.line("proc/cpuinfo"), "\n\n") {
		values := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(line, ":")
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		if _, ok := values["processor"]; !ok {
			continue
		}
		i, ok := sockets[values["physical id"]]
		if !ok {
			i = len(out)
			sockets[values["physical id"]] = i
			out = append(out, CPU{Model: values["model name"]})
		}
		out[i].Cores++
	}
	return out
}

// resolverPatience is how long the resolver may take to tell the machine's full name.
const resolverPatience = 2 * time.Second

// fullName is what "hostname -f" says: the first name of the host's line in /etc/hosts, else the resolver's, else the
// host name itself.
func (m Machine) fullName(ctx context.Context, host string) string {
	if host == "" || strings.Contains(host, ".") {
		return host
	}
	for line := range strings.Lines(m.line("etc/hosts")) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 {
			for _, name := range f[1:] {
				if strings.EqualFold(name, host) {
					return f[1]
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, resolverPatience)
	defer cancel()
	name, err := net.DefaultResolver.LookupCNAME(ctx, host)
	if name = strings.TrimSuffix(name, "."); err != nil || !strings.HasPrefix(strings.ToLower(name), strings.ToLower(host)+".") {
		return host
	}
	return name
}
