package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/understudy-dr/understudy/internal/app/agent"
	"github.com/understudy-dr/understudy/internal/capture"
)

type agentCmd struct {
	Run       agentRunCmd       `cmd:"" help:"Replicate this machine's disks."`
	Install   agentInstallCmd   `cmd:"" help:"Register this machine and make the agent a service."`
	Status    agentStatusCmd    `cmd:"" help:"Show what the agent on this machine is doing."`
	Doctor    agentDoctorCmd    `cmd:"" help:"Examine whether this machine can be replicated, and say what to do where it cannot."`
	Point     agentPointCmd     `cmd:"" help:"Make an application-consistent recovery point now."`
	Guard     agentGuardCmd     `cmd:"" hidden:""`
	Uninstall agentUninstallCmd `cmd:"" help:"End capturing, forget this machine's identity and remove the service. The server keeps what it has."`
}

// stateDir is where an agent keeps its identity and its status.
type stateDir struct {
	StateDir string `help:"The agent's own directory." type:"path" default:"/var/lib/understudy-agent" env:"UNDERSTUDY_STATE_DIR"`
}

// agentFlags have the AWS installer's names where it has them.
type agentFlags struct {
	stateDir        `embed:""`
	Service         string            `help:"drs for recovery, mgn for a migration." enum:"drs,mgn" default:"drs"`
	Endpoint        string            `help:"The server, as https://host:8480 (or AWS_ENDPOINT_URL)." env:"AWS_ENDPOINT_URL" required:""`
	CACert          string            `help:"PEM file of the server's CA, DATA-DIR/pki/ca.pem there (or AWS_CA_BUNDLE)." name:"ca-cert" type:"path" env:"AWS_CA_BUNDLE" required:""`
	Region          string            `help:"Region of the server (or AWS_REGION)."`
	AccessKeyID     string            `help:"Access key (or AWS_ACCESS_KEY_ID, or a profile)." name:"aws-access-key-id"`
	SecretAccessKey string            `help:"Its secret (or AWS_SECRET_ACCESS_KEY)." name:"aws-secret-access-key"`
	SessionToken    string            `help:"Its session token, of temporary credentials." name:"aws-session-token"`
	UserProvidedID  string            `help:"Your own name for this machine." name:"user-provided-id"`
	Tags            map[string]string `help:"Tags of the source server, when it is new: KEY=VALUE;..."`
	ProxyAddress    string            `help:"Proxy to the control port, as https://proxy:3128/ (or HTTPS_PROXY). Data goes straight to port 1500." name:"proxy-address"`
	NoReplication   bool              `help:"Register only; replication is started through the API." name:"no-replication"`
	CaptureMode     string            `help:"How writes are captured: payload (each with its data), bitmap (which blocks), scan (whether at all); auto takes the best that works here." name:"capture-mode" enum:"auto,payload,bitmap,scan" default:"auto"`
	PointInterval   time.Duration     `help:"In bitmap and scan mode: time between attempts to make a recovery point." name:"point-interval" default:"1m"`
	HoldAtMost      time.Duration     `help:"In bitmap and scan mode: how long file systems may be frozen for one; 0 never freezes." name:"hold-at-most" default:"2s"`
	HooksDir        string            `help:"Scripts for application-consistent points, in pre-freeze/ and post-thaw/ below it." name:"hooks-dir" type:"path" default:"/etc/understudy/hooks.d"`
	ScriptTimeout   time.Duration     `help:"How long a script may take that says nothing itself." name:"script-timeout" default:"30s"`
	Freeze          string            `help:"File systems to freeze for such a point: auto (all on replicated disks), none, or mount points, as /var/lib/data,/home." default:"auto"`
	FreezeAtMost    time.Duration     `help:"How long they are frozen at most." name:"freeze-at-most" default:"10s"`
	PointsEvery     time.Duration     `help:"Make such a point this often, as 15m; 0 makes them only when asked." name:"app-consistent-every" default:"0s"`
	AllBlocks       bool              `help:"Replicate what no file system uses, too: deleted files, and what is hidden between them." name:"all-blocks"`
	VerifyEvery     time.Duration     `help:"Compare disks and journal once in so long, and send again what differs; 0 never does." name:"verify-every" default:"168h"`
	RingMiB         int               `help:"Memory that holds captured writes until they are acknowledged: a power of two." name:"ring-mib" default:"256"`
	BacklogMiB      uint16            `help:"Memory that may be taken, besides, for writes that the ring has no room to keep while the link is down or slow; 0 takes none." name:"backlog-mib" default:"256"`
}

func (c agentFlags) config(devices []string, log *slog.Logger) agent.Config {
	return agent.Config{
		StateDir: c.StateDir, Service: c.Service, Endpoint: c.Endpoint, CACert: c.CACert, Devices: devices, Region: c.Region,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken, UserProvidedID: c.UserProvidedID,
		Tags: c.Tags, ProxyAddress: c.ProxyAddress, NoReplication: c.NoReplication, RingBytes: c.RingMiB << 20, Log: log,
		CaptureMode: capture.Mode(c.CaptureMode), PointInterval: c.PointInterval, HoldAtMost: c.HoldAtMost,
		HooksDir: c.HooksDir, ScriptTimeout: c.ScriptTimeout, Freeze: c.Freeze, FreezeAtMost: c.FreezeAtMost, PointsEvery: c.PointsEvery,
		AllBlocks: c.AllBlocks, VerifyEvery: c.VerifyEvery, BacklogBytes: int(c.BacklogMiB) << 20,
	}
}

type agentRunCmd struct {
	agentFlags `embed:""`
	Devices    []string `help:"Disks to replicate, as /dev/sda,/dev/sdb." required:""`
	NoPrompt   bool     `help:"Ask nothing. The agent never does; scripts written for AWS's installer pass this." name:"no-prompt"`
}

func (c *agentRunCmd) Run(ctx context.Context, log *slog.Logger) error {
	return agent.Run(ctx, c.config(c.Devices, log))
}

type agentStatusCmd struct {
	stateDir `embed:""`
	ID       bool `help:"Print the source server's id only." xor:"form" name:"id"`
	Lag      bool `help:"Print the replication lag only: write completed here until durable there." xor:"form"`
	JSON     bool `help:"Print JSON." xor:"form"`
	Metrics  bool `help:"Print it for Prometheus." xor:"form"`
}

func (c *agentStatusCmd) Run() error {
	s, err := agent.ReadStatus(c.StateDir)
	if err != nil {
		return err
	}
	switch {
	case c.ID:
		fmt.Println(s.ServerID)
	case c.Lag:
		fmt.Println(s.LagLine())
	case c.Metrics:
		fmt.Print(s.Metrics())
	case c.JSON:
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	default:
		s.Print(os.Stdout)
	}
	return nil
}

type agentPointCmd struct {
	stateDir `embed:""`
	JSON     bool `help:"Print JSON."`
}

func (c *agentPointCmd) Run(ctx context.Context) error {
	p, err := agent.TakePoint(ctx, c.StateDir)
	if err != nil || c.JSON {
		return orJSON(p, err)
	}
	fmt.Printf("taken at %s, position %d of epoch %d; %d file systems were frozen for %s\n", p.At.Format(instantFormat), p.Position, p.Epoch,
		len(p.FileSystems), p.Held.Round(time.Millisecond))
	for _, w := range p.Warnings {
		fmt.Println("warning:", w)
	}
	fmt.Println("it is a recovery point as soon as the server has all of it: 'understudy points' lists it")
	return nil
}

type agentDoctorCmd struct {
	Devices      []string `help:"Disks that are to be replicated; all hardware disks are examined when none is named."`
	Endpoint     string   `help:"The server, as https://host:8480: its ports and its clock are examined too (or AWS_ENDPOINT_URL)." env:"AWS_ENDPOINT_URL"`
	CACert       string   `help:"PEM file of the server's CA (or AWS_CA_BUNDLE)." name:"ca-cert" type:"path" env:"AWS_CA_BUNDLE"`
	DataAddress  string   `help:"The replication server's host:port, where it is not port 1500 of the endpoint." name:"data-address"`
	ProxyAddress string   `help:"Proxy to the control port, as https://proxy:3128/." name:"proxy-address"`
	RingMiB      int      `help:"The ring that is to be used." name:"ring-mib" default:"256"`
	BacklogMiB   uint16   `help:"The backlog that is to be used." name:"backlog-mib" default:"256"`
	CaptureMode  string   `help:"The way of capturing that is to be used." name:"capture-mode" enum:"auto,payload,bitmap,scan" default:"auto"`
	JSON         bool     `help:"Print JSON."`
}

func (c *agentDoctorCmd) Run(ctx context.Context) error {
	d := agent.Examine(ctx, agent.Examination{Devices: c.Devices, Endpoint: c.Endpoint, CACert: c.CACert, DataAddress: c.DataAddress,
		ProxyAddress: c.ProxyAddress, RingBytes: c.RingMiB << 20, BacklogBytes: int(c.BacklogMiB) << 20, CaptureMode: capture.Mode(c.CaptureMode)})
	if !c.JSON {
		d.Print(os.Stdout)
	} else if err := printJSON(d); err != nil {
		return err
	}
	return d.Err()
}
