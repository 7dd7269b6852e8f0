package guests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// ssh is a client's command line. All commands share one connection: opening one takes an emulated processor seconds.
func (g *Guest) ssh(args ...string) []string {
	return append([]string{"ssh", "-q", "-F", "none", "-S", g.socket("ssh"), "-i", g.key, "-p", strconv.Itoa(g.port),
		"-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=120",
		"-o", "KexAlgorithms=curve25519-sha256", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=30", "-o", "BatchMode=yes"}, args...)
}

// connect makes the connection that commands share.
func (g *Guest) connect(t *testing.T) {
	t.Helper()
	if g.shell != nil {
		g.shell.Kill() // it led to the boot before
		g.shell = nil
	}
	harness.EventuallyEvery(t, time.Second, patience, "ssh answers", func() (bool, string) {
		if g.shell == nil || g.shell.Ended() {
			_ = os.Remove(g.socket("ssh")) // one that was killed leaves it behind, and its successor would share with nobody
			line := g.ssh("-N", "-o", "ControlMaster=yes", "root@127.0.0.1")
			g.shell = harness.Start(t, "ssh", exec.Command(line[0], line[1:]...))
		}
		line := g.ssh("-O", "check", "root@127.0.0.1")
		out, err := harness.Try(t.Context(), line[0], line[1:]...)
		return err == nil, out
	})
}

// Try runs a script as root and returns what it printed; its failure is the caller's business.
func (g *Guest) Try(t *testing.T, script string) (string, error) {
	t.Helper()
	return g.feed(t, nil, script)
}

func (g *Guest) feed(t *testing.T, input []byte, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runLimit) // a cleanup asks, too
	defer cancel()
	line := g.ssh("root@127.0.0.1", "set -euo pipefail\n"+script)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("in the guest: %s: %w\n%s%s", script, err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// Run is Try whose failure is fatal.
func (g *Guest) Run(t *testing.T, script string) string {
	t.Helper()
	out, err := g.Try(t, script)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// JSON runs a script that prints JSON, and decodes it.
func (g *Guest) JSON(t *testing.T, out any, script string) {
	t.Helper()
	printed := g.Run(t, script)
	require.NoError(t, json.Unmarshal([]byte(printed), out), "%s printed %s", script, printed)
}

// Put writes a file.
func (g *Guest) Put(t *testing.T, path string, content []byte) {
	t.Helper()
	_, err := g.feed(t, content, "cat > "+path)
	require.NoError(t, err)
}
