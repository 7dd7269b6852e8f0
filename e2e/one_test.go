package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// one is a source server with one small ext4 disk: what tests need that are about something else than the data path.
type one struct {
	dir    string
	server *harness.Server
	agent  *harness.Agent
	id     string
	disk   *harness.Disk
	mount  string
}

const smallDisk = 64 << 20

// newOne makes the disk with some files on it, mounted, and a server without any agent.
func newOne(t *testing.T, serverArgs ...string) *one {
	t.Helper()
	o := prepareOne(t)
	o.server = harness.NewServer(t, filepath.Join(o.dir, "server"), serverArgs...)
	return o
}

// prepareOne is newOne without the server.
func prepareOne(t *testing.T) *one {
	t.Helper()
	o := &one{dir: t.TempDir()}
	o.disk = harness.NewDisk(t, o.dir, "disk.img", smallDisk)
	o.disk.Format(t, "ext4")
	o.mount = harness.Mount(t, o.disk.Device, filepath.Join(o.dir, "mount"))
	o.write(t, "first", 4<<20)
	return o
}

// protectOne is newOne with DRS initialised and a running agent that has registered.
func protectOne(t *testing.T) *one {
	t.Helper()
	o := newOne(t)
	o.server.InitializeDRS(t)
	o.start(t, "drs")
	return o
}

func (o *one) start(t *testing.T, service string, args ...string) {
	t.Helper()
	o.agent = o.server.NewAgent(t, service, filepath.Join(o.dir, "agent"), []string{o.disk.Device}, append([]string{"--ring-mib", "16"}, args...)...)
	o.id = o.agent.ServerID(t)
}

func (o *one) continuous(t *testing.T) drstypes.SourceServer {
	t.Helper()
	return o.server.WaitState(t, o.id, drstypes.DataReplicationStateContinuous, time.Minute)
}

// write makes a file of random bytes and syncs the file system.
func (o *one) write(t *testing.T, name string, bytes int) {
	t.Helper()
	b := make([]byte, bytes)
	rng := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", name))))
	_, err := rng.Read(b)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(o.mount, name), b, 0o600))
	harness.Run(t, "sync", "--file-system", o.mount)
}

func (o *one) points(t *testing.T) schema.Points {
	t.Helper()
	var out schema.Points
	require.NoError(t, json.Unmarshal([]byte(o.server.CLI(t, "points", "--json", o.id)), &out))
	return out
}

// settle unmounts the disk and waits until all that was written is recoverable.
func (o *one) settle(t *testing.T) {
	t.Helper()
	if harness.Mounted(o.mount) {
		harness.Unmount(t, o.mount)
	}
	o.recoverable(t, time.Now())
}

// recoverable waits until the instant can be taken back.
func (o *one) recoverable(t *testing.T, at time.Time) {
	t.Helper()
	harness.Eventually(t, time.Minute, "what was written is recoverable", func() (bool, string) {
		if o.agent.Ended() {
			t.Fatalf("the agent ended: %v\n%s", o.agent.Err(), o.agent.Log())
		}
		latest := o.points(t).Latest
		return latest != nil && latest.Time.After(at), fmt.Sprintf("latest %v, wanted after %s", latest, at)
	})
}

// same settles, exports the disk and compares it with the source, byte for byte. The disk is mounted again afterwards.
func (o *one) same(t *testing.T) {
	t.Helper()
	o.settle(t)
	out := o.export(t, "--latest")
	require.NoError(t, harness.SameContent(o.disk.Device, out))
	require.NoError(t, harness.Check(t, "ext4", out))
	harness.Mount(t, o.disk.Device, o.mount)
}

// export writes the disk at a chosen instant to a new file.
func (o *one) export(t *testing.T, choice ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "disk.raw")
	o.server.CLI(t, append(append([]string{"export", "--server", o.id, "--device", o.disk.Device}, choice...), out)...)
	return out
}

// pins is where the agent's capture lives.
func (o *one) pins() string { return filepath.Join("/sys/fs/bpf/understudy", o.id) }

func (o *one) journal() string { return filepath.Join(o.server.Dir, "journals", o.id) }

func gone(path string) func() (bool, string) {
	return func() (bool, string) {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist), fmt.Sprintf("%s: %v", path, err)
	}
}

// refusal runs a verb that must fail, and returns its exit code and what it printed to stderr.
func refusal(t *testing.T, s *harness.Server, args ...string) (code int, message string) {
	t.Helper()
	return refusalIn(t, s.Env(), s.Binary, args...)
}

func refusalIn(t *testing.T, env []string, binary string, args ...string) (code int, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	require.True(t, ok, "%v must be refused, but: %v\n%s%s", args, err, &stdout, &stderr)
	require.Positive(t, exit.ExitCode(), "%v was killed: %s", args, &stderr)
	t.Logf("exit %d: %s", exit.ExitCode(), bytes.TrimSpace(stderr.Bytes()))
	return exit.ExitCode(), stderr.String()
}
