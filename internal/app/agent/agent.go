// Package agent assembles "understudy agent": it registers the machine, asks the control plane what to do, and runs
// capture and source accordingly. It is one of the few places that know everything on a source server, and does
// nothing else. Only cmd/understudy imports it.
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentclient"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Config of an agent. Credentials that are empty come from the environment and the shared AWS files.
type Config struct {
	StateDir        string
	Service         string // drs or mgn
	Endpoint        string
	CACert          string
	ProxyAddress    string // to the control port; the environment's when empty
	Devices         []string
	Region          string
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	UserProvidedID  string
	Tags            map[string]string
	NoReplication   bool
	RingBytes       int
	BacklogBytes    int           // of memory, for writes that the ring has no room to keep; 0: none
	AllBlocks       bool          // also what no file system uses
	VerifyEvery     time.Duration // disks and journal are compared once in so long; 0: never
	CaptureMode     capture.Mode  // auto, or one of capture.Modes
	PointInterval   time.Duration // of captures without payloads; default a minute
	HoldAtMost      time.Duration // how long they may hold file systems still for a point; 0: never
	HooksDir        string        // scripts for application-consistent points
	ScriptTimeout   time.Duration // of a script that names none
	Freeze          string        // auto, none or mount points
	FreezeAtMost    time.Duration // for one point
	PointsEvery     time.Duration // by schedule; 0: only when somebody asks
	Log             *slog.Logger
}

// Defaults of captures without payloads.
const (
	DefaultPointInterval = time.Minute
	DefaultHoldAtMost    = 2 * time.Second
)

// DefaultBacklogBytes is how much memory writes may take that the ring has no room to keep.
const DefaultBacklogBytes = 256 << 20

// DefaultVerifyEvery is how long a verify pass takes.
const DefaultVerifyEvery = 7 * 24 * time.Hour

// pinRoot holds a directory per source server; captures outlive the agent there.
const pinRoot = "/sys/fs/bpf/understudy"

func pinDir(serverID string) string { return filepath.Join(pinRoot, serverID) }

func (c Config) check() error {
	if os.Geteuid() != 0 {
		return fault.New(fault.Denied, "agent", "it loads BPF programs and reads disks").WithHint("run it as root")
	}
	if r := c.RingBytes; r < 1<<20 || r&(r-1) != 0 {
		return fault.New(fault.Invalid, "agent: --ring-mib", "%d MiB is no power of two from 1 on", r>>20)
	}
	if c.BacklogBytes < 0 {
		return fault.New(fault.Invalid, "agent: --backlog-mib", "%d", c.BacklogBytes>>20).WithHint("0 turns it off")
	}
	if c.PointInterval < 0 || c.HoldAtMost < 0 || c.HoldAtMost > consistency.MaxDeadline {
		return fault.New(fault.Invalid, "agent: --point-interval, --hold-at-most", "%s, %s", c.PointInterval, c.HoldAtMost).
			WithHint("no times below 0, and nothing is frozen for longer than a minute")
	}
	if c.VerifyEvery < 0 || c.VerifyEvery != 0 && c.VerifyEvery < time.Second {
		return fault.New(fault.Invalid, "agent: --verify-every", "%s is less than a second", c.VerifyEvery).WithHint("0 turns it off")
	}
	if c.PointsEvery < 0 || c.PointsEvery != 0 && c.PointsEvery < time.Minute {
		return fault.New(fault.Invalid, "agent: --app-consistent-every", "%s is less than a minute", c.PointsEvery)
	}
	return checkEndpoint(c.Endpoint)
}

const lockFile = "lock"

// lockState takes a state directory for this process.
func lockState(dir string) (io.Closer, error) {
	lock, err := vfs.OS.Lock(filepath.Join(dir, lockFile))
	switch {
	case fault.Is(err, fault.Conflict):
		return nil, fault.New(fault.Conflict, "agent: --state-dir", "an agent runs with %s", dir).WithHint("stop it first")
	case err != nil:
		return nil, fault.New(fault.Invalid, "agent: --state-dir", "%w", err)
	}
	return lock, nil
}

// Run replicates until ctx ends or the service disconnects the source server.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if err := thawLeftovers(ctx, c); err != nil {
		return err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fault.New(fault.Invalid, "agent: --state-dir", "%w", err)
	}
	lock, err := lockState(c.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	mode, err := chooseMode(c)
	if err != nil {
		return err
	}
	if now := mode.get(); now.Mode == capture.ModePayload {
		c.Log.Info("capture mode", "mode", now.Mode, "why", now.Why)
	} else {
		c.Log.Warn("capture mode", "mode", now.Mode, "why", now.Why)
	}

	disks, err := openDisks(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disks.close()) }()

	id, err := enrol(ctx, c, disks, mode)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	c.Log.Info("agent", "version", buildinfo.Version, "service", id.Service, "source-server", id.ServerID, "endpoint", c.Endpoint)
	a, err := newSession(c, id, disks, mode)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// enrol registers this machine unless it is registered already. What disks it has the service learns of with each handshake. A server that is not there yet is waited for.
func enrol(ctx context.Context, c Config, disks *inventory, mode *choice) (*identity, error) {
	id, err := loadIdentity(c.StateDir)
	if err != nil {
		return nil, err
	}
	switch {
	case id != nil && id.Service == c.Service:
		return id, nil
	case id != nil:
		c.Log.Info("registering again: the service is not that of the last registration", "source-server", id.ServerID)
	}
	for backoff := (agentclient.Backoff{}); ; {
		id, err = register(ctx, c, disks.now(), mode)
		if !fault.Is(err, fault.Transient) {
			return id, err
		}
		wait := backoff.Next()
		c.Log.Warn("cannot register yet", "error", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}
