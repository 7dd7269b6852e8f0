package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// machine is a source server with one disk, mounted.
type machine struct {
	server *harness.Server
	agent  *harness.Agent
	disk   *harness.Disk
	id     string
	dir    string
	mount  string
}

func newMachine(t *testing.T, args ...string) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir()}
	for _, dir := range []string{m.dir, filepath.Dir(m.dir)} { // the database's user passes through
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	m.disk = harness.NewDisk(t, m.dir, "ext4.img", 384<<20)
	m.disk.Format(t, "ext4")
	m.mount = harness.Mount(t, m.disk.Device, filepath.Join(m.dir, "mount"))
	m.server = harness.NewServer(t, filepath.Join(m.dir, "server"))
	m.server.InitializeDRS(t)
	m.agent = m.server.NewAgent(t, "drs", filepath.Join(m.dir, "agent"), []string{m.disk.Device}, append([]string{"--ring-mib", "64"}, args...)...)
	m.id = m.agent.ServerID(t)
	m.server.WaitState(t, m.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
	return m
}

func (m *machine) status(t *testing.T) (s struct {
	Connected bool                     `json:"connected"`
	WireBytes uint64                   `json:"wireBytes"`
	Limit     int64                    `json:"bytesPerSecondAtMost"`
	Point     struct{ Error string }   `json:"applicationConsistentPoint"`
	Disks     []struct{ Total uint64 } `json:"disks"`
}) {
	t.Helper()
	out := m.server.CLI(t, "agent", "status", "--json", "--state-dir", m.agent.StateDir)
	require.NoError(t, json.Unmarshal([]byte(out), &s))
	return s
}

// A database under load: at an application-consistent point its file system needs no log, and everything that was committed
// when the script ran is there.
func TestApplicationConsistentPoint(t *testing.T) {
	t.Parallel()
	hooks := filepath.Join(t.TempDir(), "hooks.d")
	m := newMachine(t, "--hooks-dir", hooks)
	socket := filepath.Join(m.dir, "socket")
	pg := workload.NewPostgres(t, filepath.Join(m.mount, "data"), socket)
	pg.Init(t)
	pg.Start(t)
	pg.Prepare(t)
	load := pg.Bench(t, socket, 4, 200)

	seen, done := filepath.Join(m.dir, "seen"), filepath.Join(m.dir, "done")
	psql := "psql -h " + socket + " -U postgres -qAt -c "
	for name, line := range map[string]string{
		"pre-freeze/50-postgresql": psql + "CHECKPOINT && " + psql + "'SELECT count(*) FROM ledger' > " + seen,
		"post-thaw/50-postgresql":  "echo $1 $UNDERSTUDY_RESULT $UNDERSTUDY_FILE_SYSTEMS > " + done,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(hooks, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\n"+line+"\n"), 0o700))
	}
	var q schema.PointRequest
	require.NoError(t, json.Unmarshal([]byte(m.server.CLI(t, "points", "create", "--app-consistent", "--json", m.id)), &q))
	text, err := os.ReadFile(done)
	require.NoError(t, err)
	require.Equal(t, "thaw taken "+m.mount+"\n", string(text))
	text, err = os.ReadFile(seen)
	require.NoError(t, err)
	committed, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)

	var all schema.Points
	require.NoError(t, json.Unmarshal([]byte(m.server.CLI(t, "points", m.id, "--json")), &all))
	kinds := map[string]string{}
	for _, p := range all.Points {
		kinds[p.ID] = p.Consistency
	}
	require.Equal(t, "application", kinds[q.Point], "%+v", all.Points)

	image := filepath.Join(m.dir, "recovered.img")
	m.server.CLI(t, "export", "--server", m.id, "--device", m.disk.Device, "--point", q.Point, image)
	require.NotContains(t, harness.Run(t, "dumpe2fs", "-h", image), "needs_recovery")
	require.NoError(t, harness.Check(t, "ext4", image))
	copied := harness.Mount(t, harness.Attach(t, image), filepath.Join(m.dir, "recovered"))
	load.Finish(t)
	pg.Stop(t)
	require.NoError(t, os.Remove(filepath.Join(copied, "data", "postmaster.pid"))) // the database was running, as on any copy
	again := workload.NewPostgres(t, filepath.Join(copied, "data"), filepath.Join(m.dir, "socket2"))
	again.Start(t)
	found, err := strconv.Atoi(again.Query(t, "SELECT count(*) FROM ledger")[0])
	require.NoError(t, err)
	require.GreaterOrEqual(t, found, committed, "what was committed when the script ran")
	again.Stop(t)

	// The same on the machine itself, and what a script has against it.
	require.NoError(t, os.Remove(filepath.Join(hooks, "pre-freeze/50-postgresql")))
	require.Contains(t, m.server.CLI(t, "agent", "point", "--state-dir", m.agent.StateDir), "1 file systems were frozen")
	require.NoError(t, os.WriteFile(filepath.Join(hooks, "pre-freeze/10-no"), []byte("#!/bin/sh\necho not now\nexit 1\n"), 0o700))
	for _, args := range [][]string{{"points", "create", "--app-consistent", m.id}, {"agent", "point", "--state-dir", m.agent.StateDir}} {
		out, err := m.server.TryCLI(t.Context(), args...)
		require.Error(t, err)
		require.Contains(t, out, "not now")
	}
	require.Contains(t, m.status(t).Point.Error, "not now")
}

// The bandwidth that is configured centrally holds at the next handshake, without a new connection.
func TestBandwidthIsConfiguredCentrally(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	limit := func(mbps int64) {
		t.Helper()
		_, err := m.server.DRS(t).UpdateReplicationConfiguration(t.Context(), &drs.UpdateReplicationConfigurationInput{
			SourceServerID: aws.String(m.id), BandwidthThrottling: mbps})
		require.NoError(t, err)
		harness.Eventually(t, 30*time.Second, "the agent knows", func() (bool, string) {
			got := m.status(t).Limit
			return got == mbps*1e6/8, strconv.FormatInt(got, 10)
		})
	}
	limit(16)
	start, begun := m.status(t).WireBytes, time.Now()
	harness.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(m.mount, "noise"), "bs=1M", "count=16", "conv=fsync", "status=none")
	harness.Eventually(t, time.Minute, "16 MiB are sent", func() (bool, string) {
		sent := m.status(t).WireBytes - start
		return sent > 16<<20, strconv.FormatUint(sent, 10)
	})
	took := time.Since(begun).Seconds()
	require.InDelta(t, (16<<20)/2e6, took, 3, "16 MiB at 16 Mbps")
	limit(100) // this SDK cannot say 0
	log := m.agent.Log()
	require.Equal(t, 1, strings.Count(log, "msg=connected"), "%s", log)
}

// Without payloads a point is what was read while everything was frozen.
func TestApplicationConsistentPointWithoutPayloads(t *testing.T) {
	t.Parallel()
	hooks := filepath.Join(t.TempDir(), "hooks.d")
	m := newMachine(t, "--hooks-dir", hooks, "--capture-mode", "bitmap", "--point-interval", "1h")
	script := filepath.Join(hooks, "pre-freeze", "write")
	require.NoError(t, os.MkdirAll(filepath.Dir(script), 0o755))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho not synced > "+filepath.Join(m.mount, "file")+"\n"), 0o700))
	var q schema.PointRequest
	require.NoError(t, json.Unmarshal([]byte(m.server.CLI(t, "points", "create", "--app-consistent", "--json", m.id)), &q))
	image := filepath.Join(m.dir, "recovered.img")
	m.server.CLI(t, "export", "--server", m.id, "--device", m.disk.Device, "--point", q.Point, image)
	require.NotContains(t, harness.Run(t, "dumpe2fs", "-h", image), "needs_recovery")
	copied := harness.Mount(t, harness.Attach(t, image), filepath.Join(m.dir, "recovered"), "ro,noload")
	text, err := os.ReadFile(filepath.Join(copied, "file"))
	require.NoError(t, err)
	require.Equal(t, "not synced\n", string(text))
}
