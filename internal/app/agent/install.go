package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Installation is an agent to be installed as a service.
type Installation struct {
	Config
	ForceVolumes bool      // take Devices as they are, whatever they are made of
	DataAddress  string    // as in Examination
	Root         string    // of the file system to install into; "/" but for tests and images
	Out          io.Writer // what a person should know
	// Confirm is asked before anything is changed; nil for nobody to ask.
	Confirm func(question string) bool
}

// registerPatience is how long installing waits for a server that is not ready.
const registerPatience = 90 * time.Second

// Install examines the machine, registers it and makes the agent a service, which is started where systemd runs. It may
// be repeated, to change flags or to bring a newer agent.
func Install(ctx context.Context, i Installation) error {
	if err := i.check(); err != nil {
		return err
	}
	if _, err := proxyOf(i.ProxyAddress); err != nil {
		return err
	}
	var err error
	if i.Devices, err = choose(i.Devices, i.ForceVolumes); err != nil {
		return err
	}
	if err := i.examine(ctx); err != nil {
		return err
	}
	if q := "Replicate " + strings.Join(i.Devices, ", ") + " to " + i.Endpoint + "?"; i.Confirm != nil && !i.Confirm(q) {
		return fault.New(fault.Conflict, "agent: install", "not confirmed; nothing was changed")
	}
	text, err := i.unit()
	if err != nil {
		return err
	}
	if err := i.systemctl(ctx, unitPath, "stop", unitName); err != nil {
		return err
	}
	id, err := i.enrol(ctx)
	if err != nil {
		return err
	}
	if err := i.write(text); err != nil {
		return err
	}
	fmt.Fprintf(i.Out, "Registered as source server %s (%s).\n", id.ServerID, id.Service)
	return i.start(ctx)
}

// examine stops at what would prevent replication, and tells the rest.
func (i Installation) examine(ctx context.Context) error {
	d := Examine(ctx, Examination{Devices: i.Devices, Endpoint: i.Endpoint, CACert: i.CACert, DataAddress: i.DataAddress,
		ProxyAddress: i.ProxyAddress, RingBytes: i.RingBytes, BacklogBytes: i.BacklogBytes, CaptureMode: i.CaptureMode})
	for _, c := range d.Checks {
		if c.Verdict != Good {
			Diagnosis{[]Check{c}}.Print(i.Out)
		}
	}
	return d.Err()
}

// enrol registers with the state directory below the root.
func (i Installation) enrol(ctx context.Context) (_ *identity, err error) {
	c := i.Config
	c.StateDir = i.path(c.StateDir)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, fault.New(fault.Invalid, "agent: --state-dir", "%w", err)
	}
	lock, err := lockState(c.StateDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	disks, err := openDisks(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disks.close()) }()
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	mode, err := chooseMode(c)
	if err != nil {
		return nil, err
	}
	return enrol(ctx, c, disks, mode)
}

// write puts the program and the unit in place.
func (i Installation) write(unit string) error {
	self, err := os.Executable()
	if err != nil {
		return fault.New(fault.Unknown, "agent: install", "%w", err)
	}
	if target := i.path(programPath); self != target {
		if err := copyProgram(self, target); err != nil {
			return fault.New(fault.Unknown, "agent: install the program", "%w", err)
		}
	}
	target := i.path(unitPath)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fault.New(fault.Unknown, "agent: install the unit", "%w", err)
	}
	if err := os.WriteFile(target, []byte(unit), 0o644); err != nil {
		return fault.New(fault.Unknown, "agent: install the unit", "%w", err)
	}
	return nil
}

// copyProgram replaces a program that may be running.
func copyProgram(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to+".new"))
	}
	return os.Rename(to+".new", to)
}

// start enables and starts the service, or says how to.
func (i Installation) start(ctx context.Context) error {
	if !i.booted() {
		fmt.Fprintf(i.Out, "systemd does not run here: nothing was started. Under systemd, run:\n  systemctl enable --now %s\nelsewhere:\n  %s\n",
			unitName, strings.Join(i.command(), " "))
		return nil
	}
	if err := i.systemctl(ctx, unitPath, "daemon-reload"); err != nil {
		return err
	}
	if err := i.systemctl(ctx, unitPath, "enable", "--now", unitName); err != nil {
		return err
	}
	fmt.Fprintln(i.Out, "The agent runs. See 'understudy agent status', and 'journalctl -u understudy-agent'.")
	return nil
}

func (i Installation) path(p string) string { return filepath.Join("/", i.Root, p) }

// booted reports whether systemd manages the machine and the installation is its own: sd_booted(3).
func (i Installation) booted() bool {
	if filepath.Join("/", i.Root) != "/" {
		return false
	}
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// systemctl does nothing where systemd does not run, or needs, a file that must exist, is not there.
func (i Installation) systemctl(ctx context.Context, needs string, args ...string) error {
	if _, err := os.Stat(i.path(needs)); err != nil || !i.booted() {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
		return fault.New(fault.Transient, "agent: systemctl "+strings.Join(args, " "), "%w: %s", err, strings.TrimSpace(string(out))).
			WithHint("see 'systemctl status " + unitName + "'")
	}
	return nil
}
