package e2e

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// installed is an agent installed below a root, with the flags of AWS's installer.
type installed struct {
	*one
	root string
	out  string
}

func install(t *testing.T, o *one, args ...string) *installed {
	t.Helper()
	i := &installed{one: o, root: filepath.Join(o.dir, "root")}
	t.Cleanup(func() {
		if _, err := harness.Try(context.Background(), o.server.Binary, "agent", "uninstall", "--root", i.root); err != nil {
			t.Logf("cleanup: %v", err)
		}
	})
	i.out = o.server.CLI(t, append([]string{"agent", "install", "--root", i.root, "--region", harness.Region, "--endpoint", o.server.Endpoint, "--no-prompt",
		"--devices", o.disk.Device, "--force-volumes", "--data-address", o.server.DataAddr, "--ring-mib", "16"}, args...)...)
	o.id = regexp.MustCompile(`s-[0-9a-f]{17}`).FindString(i.out)
	require.NotEmpty(t, o.id, i.out)
	return i
}

// files below the root, but for directories that every system has.
func (i *installed) files(t *testing.T) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(i.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() || strings.Contains(d.Name(), "understudy") {
			all = append(all, strings.TrimPrefix(path, i.root))
		}
		return err
	}))
	return all
}

// start runs what the unit says, with the unit's capabilities.
func (i *installed) start(t *testing.T) *harness.Process {
	t.Helper()
	unit, err := os.ReadFile(filepath.Join(i.root, "etc/systemd/system/understudy-agent.service"))
	require.NoError(t, err)
	setting := func(name string) []string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(string(unit))
		require.NotNil(t, m, name)
		return strings.Fields(m[1])
	}
	bounding := "-all"
	for _, c := range setting("CapabilityBoundingSet") {
		bounding += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	args := []string{"--bounding-set", bounding, "--no-new-privs", "--"}
	for _, a := range setting("ExecStart") {
		if strings.HasPrefix(a, "/usr/local/") || strings.HasPrefix(a, "/var/lib/") {
			a = filepath.Join(i.root, a)
		}
		args = append(args, a)
	}
	cmd := exec.Command("setpriv", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no credentials: registering is over
	return harness.Start(t, "installed agent", cmd)
}

func TestInstallReplicateUninstall(t *testing.T) {
	t.Parallel()
	o := newOne(t)
	o.server.InitializeDRS(t)
	i := install(t, o, "--user-provided-id", "web-1", "--tags", "Name=web", "Env=test")
	require.Contains(t, i.out, "systemctl enable --now understudy-agent.service", "it says what to run where systemd does not run")
	p := i.start(t)
	v := o.continuous(t)
	require.Equal(t, map[string]string{"Name": "web", "Env": "test"}, v.Tags)
	s := v.SourceProperties
	require.NotEmpty(t, s.Cpus)
	require.NotEmpty(t, *s.RecommendedInstanceType)
	require.Contains(t, *s.Os.FullString, "Linux")
	require.NotEmpty(t, *s.IdentificationHints.Hostname)
	require.Equal(t, o.disk.Device, *s.Disks[0].DeviceName)
	_, err := o.server.TryCLI(t.Context(), "agent", "install", "--root", i.root, "--region", harness.Region, "--no-prompt",
		"--devices", o.disk.Device, "--force-volumes", "--data-address", o.server.DataAddr)
	require.ErrorContains(t, err, "an agent runs with")
	p.Stop(t)
	first := o.id // the same machine is the same server
	install(t, o, "--user-provided-id", "web-1")
	require.Equal(t, first, o.id)

	pins := filepath.Join("/sys/fs/bpf/understudy", o.id)
	require.DirExists(t, pins)
	for range 2 {
		harness.Run(t, o.server.Binary, "agent", "uninstall", "--root", i.root)
		require.Empty(t, i.files(t))
		require.NoDirExists(t, pins)
	}
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	o := newOne(t)
	o.server.InitializeDRS(t)
	root := filepath.Join(o.dir, "root")
	for name, v := range map[string]struct {
		args    []string
		message string
	}{
		"a file's disk without force": {[]string{"--devices", o.disk.Device}, "--force-volumes"},
		"force without disks":         {[]string{"--force-volumes"}, "give --devices too"},
		"a proxy that is none":        {[]string{"--devices", o.disk.Device, "--force-volumes", "--proxy-address", "proxy:1"}, "is no proxy"},
		"a closed data port":          {[]string{"--devices", o.disk.Device, "--force-volumes", "--data-address", "no-such-host.invalid:1500"}, "data port"},
		"no confirmation":             {[]string{"--devices", o.disk.Device, "--force-volumes", "--data-address", o.server.DataAddr, "--no-prompt=false"}, "not confirmed"},
		"a word too much":             {[]string{"--devices", o.disk.Device, "/dev/sdb"}, "no tag behind --tags"},
	} {
		_, err := o.server.TryCLI(t.Context(), append([]string{"agent", "install", "--root", root, "--no-prompt", "--region", harness.Region}, v.args...)...)
		require.ErrorContains(t, err, v.message, name)
		require.NoDirExists(t, root, "%s: nothing was changed", name)
	}
}

// What was copied with a machine's disks cannot replicate in its place, and the machine itself can go on.
func TestACloneIsRefused(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	o.agent.Stop(t)
	copied := o.server.PrepareAgent(t, "drs", filepath.Join(o.dir, "copy"), []string{o.disk.Device}, "--ring-mib", "16")
	require.NoError(t, os.CopyFS(copied.StateDir, os.DirFS(o.agent.StateDir)))
	copied.Env = []string{machineID(t)}
	code, message := agentRefused(t, copied)
	require.Equal(t, 4, code)
	require.Contains(t, message, "it is a copy of it")
	require.Contains(t, message, "systemd-machine-id-setup")
	o.agent.Start(t)
	began := time.Now()
	o.write(t, "after the copy", 1<<20)
	o.recoverable(t, began)
	require.Equal(t, drstypes.DataReplicationStateContinuous, o.continuous(t).DataReplicationInfo.DataReplicationState)
}
