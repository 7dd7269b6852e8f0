package agent

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Where an installation lives, below its root.
const (
	unitName     = "understudy-agent.service"
	unitPath     = "/etc/systemd/system/" + unitName
	wantedPath   = "/etc/systemd/system/multi-user.target.wants/" + unitName
	programDir   = "/usr/local/lib/understudy"
	programPath  = programDir + "/understudy"
	stateMark    = "X-Understudy-State="
	unitTemplate = `# Written by "understudy agent install"; "understudy agent uninstall" removes it.
[Unit]
Description=Understudy replication agent
Documentation=https://github.com/understudy-dr/understudy
Wants=network-online.target
After=network-online.target
RequiresMountsFor=/sys/fs/bpf
StartLimitIntervalSec=0
` + stateMark + `{STATE}

[Service]
ExecStart={COMMAND}
# It ends well when the service dismisses this machine.
Restart=on-failure
RestartSec=5
# What only a person can change: another owner of a disk, a copy of another machine, no permission.
RestartPreventExitStatus=4 5
OOMScoreAdjust=-500
# The machine's own programs come first. Niceness alone counts for little between services: each is scheduled as a group.
CPUWeight=50
# When it ends, its guard thaws what is frozen, and ends by itself.
KillMode=process
# BPF programs, the frame numbers of pages, taking over pinned programs, freezing; then to open any mount point, to lock the
# guard's memory, and for scripts to be the application's user, and be ended.
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_BPF CAP_PERFMON CAP_DAC_READ_SEARCH CAP_IPC_LOCK CAP_SETUID CAP_SETGID CAP_KILL
NoNewPrivileges=yes
# Disks are opened for reading only, and the kernel holds the agent to it.
DevicePolicy=closed
DeviceAllow=block-* r
ProtectSystem=strict
ReadWritePaths={STATE} /sys/fs/bpf
RuntimeDirectory=understudy
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
PrivateTmp=yes
ProtectHome=read-only
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service bpf
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
`
)

// command is how the installed agent is run. Credentials are not in it: registering is over by then.
func (c Config) command() []string {
	args := []string{programPath, "agent", "run", "--state-dir", c.StateDir, "--service", c.Service, "--endpoint", c.Endpoint,
		"--ca-cert", filepath.Join(c.StateDir, caFile), "--devices", strings.Join(c.Devices, ","), "--ring-mib", strconv.Itoa(c.RingBytes >> 20)}
	for _, o := range [][2]string{{"--region", c.Region}, {"--user-provided-id", c.UserProvidedID}, {"--proxy-address", c.ProxyAddress}} {
		if o[1] != "" {
			args = append(args, o[0], o[1])
		}
	}
	if c.CaptureMode != "" && c.CaptureMode != capture.ModeAuto {
		args = append(args, "--capture-mode", string(c.CaptureMode))
	}
	if c.AllBlocks {
		args = append(args, "--all-blocks")
	}
	if c.PointInterval != 0 && c.PointInterval != DefaultPointInterval {
		args = append(args, "--point-interval", c.PointInterval.String())
	}
	if c.HoldAtMost != DefaultHoldAtMost {
		args = append(args, "--hold-at-most", c.HoldAtMost.String())
	}
	for _, o := range []struct {
		flag       string
		value, def string
	}{
		{"--hooks-dir", c.HooksDir, consistency.DefaultDir}, {"--freeze", c.Freeze, consistency.Auto},
		{"--script-timeout", c.ScriptTimeout.String(), consistency.DefaultScriptTimeout.String()},
		{"--freeze-at-most", c.FreezeAtMost.String(), consistency.DefaultDeadline.String()},
		{"--app-consistent-every", c.PointsEvery.String(), "0s"},
	} {
		if o.value != "" && o.value != "0s" && o.value != o.def {
			args = append(args, o.flag, o.value)
		}
	}
	if c.BacklogBytes != DefaultBacklogBytes {
		args = append(args, "--backlog-mib", strconv.Itoa(c.BacklogBytes>>20))
	}
	if c.VerifyEvery != DefaultVerifyEvery {
		args = append(args, "--verify-every", c.VerifyEvery.String())
	}
	if c.NoReplication {
		args = append(args, "--no-replication")
	}
	return args
}

// unit is the service file.
func (c Config) unit() (string, error) {
	if strings.ContainsAny(c.StateDir, " \t\"'\\%") {
		return "", fault.New(fault.Invalid, "agent: --state-dir", "%q has characters that a systemd unit cannot name", c.StateDir)
	}
	var command []string
	for _, a := range c.command() {
		if strings.ContainsAny(a, "\n\r") {
			return "", fault.New(fault.Invalid, "agent: install", "%q has a line break", a)
		}
		command = append(command, unitQuote(a))
	}
	return strings.NewReplacer("{STATE}", c.StateDir, "{COMMAND}", strings.Join(command, " ")).Replace(unitTemplate), nil
}

// unitQuote writes an argument so that systemd takes it as it is.
func unitQuote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\%$;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(s) + `"`
}
