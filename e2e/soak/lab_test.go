package soak

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// lab is a source server with three disks under load, and what it is replicated to.
type lab struct {
	t    *testing.T
	seed uint64
	dir  string
	born time.Time

	server *harness.Server
	agent  *harness.Agent
	link   *harness.Link
	api    *drs.Client
	id     string
	room   string // the file system below the data directory

	database, files, raw *harness.Disk
	sizes                [3]int64  // of these, in the beginning
	filesGrew            bool      // and the file system on it has not
	mounts               [2]string // of database and files
	agentClock           *clock
	serverClock          *clock
	pg                   *workload.Postgres
	bench                *workload.Bench
	churn                *workload.Churn
	stamps               *workload.Stamps
	stop                 context.CancelFunc
	failed               chan error // how the load ended, once

	log      *os.File       // what all processes print, and the test
	broken   map[string]int // by fault
	told     []string       // every fault, in order
	states   map[drstypes.DataReplicationState]int
	epochs   map[uint64]bool // that were verified
	verified int
	again    int           // points that were gone before they were read, and chosen anew
	slowest  time.Duration // recovery
	costly   time.Duration // round
	proof    time.Duration // the longest
}

const (
	ringMiB       = 8
	backlogMiB    = 24   // less than a burst, too
	stampedBlocks = 4096 // of the raw disk; what is behind them is for bursts
	rawBytes      = 96 << 20
	stagingBytes  = 6 << 30
)

// binaryName is of the program under test, built with clocks that can be set, below the lab's directory.
const binaryName = "understudy"

func newLab(t *testing.T, seed uint64) *lab {
	t.Helper()
	l := &lab{t: t, seed: seed, dir: t.TempDir(), broken: map[string]int{}, states: map[drstypes.DataReplicationState]int{},
		epochs: map[uint64]bool{}, failed: make(chan error, 1)}
	for _, dir := range []string{l.dir, filepath.Dir(l.dir)} { // the database's user passes through
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	l.openLog()
	binary := filepath.Join(l.dir, binaryName)
	harness.BuildShifted(t, "github.com/understudy-dr/understudy/cmd/understudy", binary)
	t.Setenv("UNDERSTUDY_BIN", binary)
	l.born = time.Now()
	l.agentClock = newClock(t, filepath.Join(l.dir, "agent.clock"), l.born)
	l.serverClock = newClock(t, filepath.Join(l.dir, "server.clock"), l.born)
	l.makeDisks()
	l.startLoad()
	l.protect()
	return l
}

func (l *lab) makeDisks() {
	t := l.t
	l.database = harness.NewDisk(t, l.dir, "database.img", 768<<20)
	l.database.Format(t, "ext4")
	l.mounts[0] = harness.Mount(t, l.database.Device, filepath.Join(l.dir, "database"), "discard")
	l.files = harness.NewDisk(t, l.dir, "files.img", 384<<20)
	l.files.Format(t, "xfs")
	l.mounts[1] = harness.Mount(t, l.files.Device, filepath.Join(l.dir, "files"), "discard")
	l.raw = harness.NewDisk(t, l.dir, "raw.img", rawBytes)
	for i, d := range l.disks() {
		l.sizes[i] = d.Bytes
	}
}

func (l *lab) disks() [3]*harness.Disk { return [3]*harness.Disk{l.database, l.files, l.raw} }

// Where on the first two disks the stamped writes and the churned files are.
const stampedFile, churned = "stamped", "churned"

func (l *lab) startLoad() {
	t := l.t
	l.pg = workload.NewPostgres(t, filepath.Join(l.mounts[0], "data"), filepath.Join(l.dir, "socket"))
	l.pg.Init(t)
	l.pg.Start(t)
	l.pg.Prepare(t)
	require.NoError(t, os.Mkdir(filepath.Join(l.dir, "pgbench"), 0o755))
	l.bench = l.pg.Bench(t, filepath.Join(l.dir, "pgbench"), 4, 60)

	targets := []workload.Target{{Path: l.raw.Device, Blocks: stampedBlocks, Most: 8}}
	for _, mount := range l.mounts {
		target, err := workload.PrepareTarget(filepath.Join(mount, stampedFile), 1024)
		require.NoError(t, err)
		targets = append(targets, target)
	}
	l.stamps = workload.NewStamps(l.seed, 8*time.Millisecond, targets...)
	require.NoError(t, os.Mkdir(filepath.Join(l.mounts[1], churned), 0o755))
	l.churn = workload.NewChurn(filepath.Join(l.mounts[1], churned), l.seed, 150*time.Millisecond)

	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.stamps.Run(ctx) })
	g.Go(func() error { return l.churn.Run(ctx) })
	go func() { l.failed <- g.Wait() }()
	t.Cleanup(func() { _ = l.endLoad() }) // finish ended it, unless it never came to that
}

// endLoad ends the files and the stamped writes.
func (l *lab) endLoad() error {
	if l.stop == nil {
		return nil
	}
	l.stop()
	l.stop = nil
	return <-l.failed
}

// protect starts the server on a file system of its own, and an agent that reaches it over a link.
func (l *lab) protect() {
	t := l.t
	staging := harness.NewDisk(t, l.dir, "staging.img", stagingBytes)
	staging.Format(t, "ext4")
	l.room = harness.Mount(t, staging.Device, filepath.Join(l.dir, "staging"))
	l.server = harness.PrepareServer(t, filepath.Join(l.room, "server"))
	l.link = harness.NewShapedLink(t, l.server.DataAddr)
	l.server.Args = []string{"--advertise", l.link.Addr, "--journal-window", "5m", "--flush-after", "20s"}
	l.server.Extra = []string{l.serverClock.Env}
	l.server.Start(t)
	l.server.InitializeDRS(t)
	l.api = l.server.DRS(t)
	devices := []string{l.database.Device, l.files.Device, l.raw.Device}
	l.agent = l.server.PrepareAgent(t, "drs", filepath.Join(l.dir, "agent"), devices, "--ring-mib", strconv.Itoa(ringMiB),
		"--backlog-mib", strconv.Itoa(backlogMiB), "--all-blocks")
	l.agent.Env = []string{l.agentClock.Env}
	l.agent.Start(t)
	l.id = l.agent.ServerID(t)
}

// look notes the state that the API shows, when there is one to ask.
func (l *lab) look() {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
	defer cancel()
	out, err := l.api.DescribeSourceServers(ctx, &drs.DescribeSourceServersInput{
		Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{l.id}}}, func(o *drs.Options) { o.RetryMaxAttempts = 1 })
	if err == nil && len(out.Items) == 1 {
		l.states[out.Items[0].DataReplicationInfo.DataReplicationState]++
	}
}

func (l *lab) points(t *testing.T) (schema.Points, error) {
	var out schema.Points
	printed, err := l.server.TryCLI(t.Context(), "points", "--json", l.id)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(printed), &out)
}

// copyFile is for an agent that is another file.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}
