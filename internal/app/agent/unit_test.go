package agent

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func sampleConfig() Config {
	return Config{StateDir: "/var/lib/understudy-agent", Service: "drs", Endpoint: "https://server:8480", Devices: []string{"/dev/sda", "/dev/sdb"},
		RingBytes: 256 << 20, VerifyEvery: DefaultVerifyEvery, Region: "us-east-1", UserProvidedID: `50% "web" $1`, SecretAccessKey: "hush", AccessKeyID: "key", SessionToken: "token"}
}

func TestTheUnitRunsTheAgentAndHoldsNoSecrets(t *testing.T) {
	text, err := sampleConfig().unit()
	require.NoError(t, err)
	for _, secret := range []string{"hush", "token", "key "} {
		require.NotContains(t, strings.ReplaceAll(text, "agent.key", ""), secret)
	}
	require.Contains(t, text, "ExecStart="+programPath+" agent run --state-dir /var/lib/understudy-agent")
	require.Contains(t, text, "--devices /dev/sda,/dev/sdb")
	require.Contains(t, text, `--user-provided-id "50%% \"web\" $$1"`)
	require.NotContains(t, text, "{")
	bad := sampleConfig()
	bad.StateDir = "/var/lib/a b"
	_, err = bad.unit()
	require.True(t, fault.Is(err, fault.Invalid))
	bad = sampleConfig()
	bad.UserProvidedID = "a\nExecStartPre=/bin/evil"
	_, err = bad.unit()
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestSystemdUnderstandsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	text, err := sampleConfig().unit()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), unitName)
	text = strings.Replace(text, "ExecStart="+programPath, "ExecStart=/bin/true", 1)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), path, "%s", out)
}

func TestUninstallLeavesNothingOfItsAndTouchesNothingElse(t *testing.T) {
	root := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	i := Installation{Config: sampleConfig(), Root: root}
	text, err := i.unit()
	require.NoError(t, err)
	require.NoError(t, i.write(text))
	state := i.path(i.StateDir)
	require.NoError(t, (&identity{ServerID: "s-none"}).save(state))
	require.NoError(t, os.Remove(filepath.Join(state, keyFile)), "half an identity must go too")

	require.NoError(t, Uninstall(t.Context(), "/var/lib/another", root, log))
	require.FileExists(t, i.path(unitPath), "it is another agent's")
	require.NoError(t, Uninstall(t.Context(), i.StateDir, root, log))
	for _, p := range []string{unitPath, programDir, i.StateDir} {
		_, err := os.Lstat(i.path(p))
		require.ErrorIs(t, err, os.ErrNotExist, p)
	}
	require.NoError(t, Uninstall(t.Context(), i.StateDir, root, log))

	require.NoError(t, os.MkdirAll(state, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(state, "notes"), nil, 0o600))
	require.NoError(t, Uninstall(t.Context(), i.StateDir, root, log))
	require.FileExists(t, filepath.Join(state, "notes"), "it is not the agent's")
}
