package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/mgn"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/simulate"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	fleetAgents  = flag.Int("fleet-agents", 10_000, "agents of BenchmarkFleet")
	fleetEvery   = flag.Duration("fleet-every", 30*time.Second, "between two handshakes of an agent")
	fleetSettle  = flag.Duration("fleet-settle", time.Minute, "handshakes before BenchmarkFleet measures: in it every agent connects")
	fleetFor     = flag.Duration("fleet-for", 2*time.Minute, "how long BenchmarkFleet measures")
	storeServers = flag.Int("store-servers", 100_000, "source servers of BenchmarkDescribe")
)

// BenchmarkFleet is what the control plane needs for many agents: each registers, gets its certificate and handshakes over
// a connection of its own, in a process that is not counted and that gives way, as it would be ten thousand machines. Meanwhile
// a few more agents, and pages of 100 source servers asked for five times a second, measure how soon the server answers. They are a
// process of their own: the fleet's pauses, as long as it collects the garbage of ten thousand connections, are not the server's.
// CPU is the server's own, as the kernel counts it.
func BenchmarkFleet(b *testing.B) {
	server := fleetServer(b)
	for range b.N {
		fleet := simulated(b, server, []string{"nice", "-n", "19"}, "--count", strconv.Itoa(*fleetAgents), "--register-rate", "400",
			"--every", fleetEvery.String(), "--settle", fleetSettle.String(), "--for", fleetFor.String())
		before := fleet.began
		fleet.measuring(b)
		from, began := cpu(b, server.Process), time.Now()
		probe := simulated(b, server, nil, "--name", "probe", "--count", "20", "--every", "1s", "--settle", "2s", "--for", (*fleetFor - fleetEnds).String(),
			"--probe", "200ms")
		seen := probe.report(b)
		r := fleet.report(b)
		used, took := cpu(b, server.Process)-from, time.Since(began)
		b.Logf("%d agents; load at the end: %s; by the probe: handshakes %+v, pages %+v, failures %v; by the fleet: handshakes %+v, failures %v",
			r.Agents, load(b), seen.Handshake, *seen.Probe, seen.FirstFailures, r.Handshake, r.FirstFailures)
		b.ReportMetric(float64(from-before)/float64(time.Millisecond)/float64(r.Agents), "cpu-ms/join") // registering and connecting
		b.ReportMetric(r.PerSecond, "handshakes/s")
		b.ReportMetric(100*used.Seconds()/took.Seconds(), "%-of-a-core")
		b.ReportMetric(used.Seconds()/float64(r.Handshake.Count+seen.Handshake.Count)*1000, "cpu-ms/handshake") // pages included
		b.ReportMetric(seen.Handshake.P50, "handshake-p50-ms")
		b.ReportMetric(seen.Handshake.P99, "handshake-p99-ms")
		b.ReportMetric(r.Handshake.P99, "fleet-handshake-p99-ms")
		b.ReportMetric(seen.Probe.P50, "page-p50-ms")
		b.ReportMetric(seen.Probe.P99, "page-p99-ms")
		b.ReportMetric(float64(resident(b, server.Process.Cmd.Process.Pid, "VmRSS"))/(1<<20), "resident-MiB")
		b.ReportMetric(float64(r.Handshake.Errors+seen.Handshake.Errors+seen.Probe.Errors), "errors")
		b.ReportMetric(0, "ns/op")
	}
}

// fleetEnds is how much sooner the probe's measuring ends than the fleet's: it registers and settles first.
const fleetEnds = 10 * time.Second

// simulation is "understudy simulate agents" under way.
type simulation struct {
	out   bytes.Buffer
	sign  *sign
	ended chan error
	began time.Duration // what the server had used of the processors
}

func simulated(b *testing.B, server *harness.Server, by []string, args ...string) *simulation {
	b.Helper()
	s := &simulation{sign: &sign{text: "msg=measuring", seen: make(chan struct{})}, ended: make(chan error, 1), began: cpu(b, server.Process)}
	args = append(append(by, server.Binary, "simulate", "agents", "--service", "mgn", "--json"), args...)
	cmd := exec.CommandContext(b.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = server.Env(), &s.out, s.sign
	require.NoError(b, cmd.Start())
	go func() { s.ended <- cmd.Wait() }()
	return s
}

// measuring waits until it has settled.
func (s *simulation) measuring(b *testing.B) {
	b.Helper()
	select {
	case <-s.sign.seen:
	case err := <-s.ended:
		b.Fatalf("the simulator ended: %v\n%s", err, s.sign)
	}
}

// report waits for its end.
func (s *simulation) report(b *testing.B) (r simulate.Report) {
	b.Helper()
	require.NoError(b, <-s.ended, "%s", s.sign)
	require.NoError(b, json.Unmarshal(s.out.Bytes(), &r))
	return r
}

// BenchmarkDescribe reads all of a long list of source servers, in pages of 100, by a client that waits for each.
func BenchmarkDescribe(b *testing.B) {
	server := fleetServer(b)
	cmd := exec.CommandContext(b.Context(), server.Binary, "simulate", "agents", "--service", "mgn", "--count", "1", "--for", "1ms")
	cmd.Env = server.Env()
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
	server.Stop(b)
	multiply(b, filepath.Join(server.Dir, "state.db"), *storeServers)
	server.Start(b)

	var took []time.Duration
	client, from := server.MGN(b), cpu(b, server.Process)
	b.ResetTimer()
	for range b.N {
		seen := 0
		for pages := mgn.NewDescribeSourceServersPaginator(client, &mgn.DescribeSourceServersInput{MaxResults: aws.Int32(100)}); pages.HasMorePages(); {
			began := time.Now()
			page, err := pages.NextPage(b.Context())
			require.NoError(b, err)
			took = append(took, time.Since(began))
			seen += len(page.Items)
		}
		require.Equal(b, *storeServers, seen)
	}
	b.StopTimer()
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[int(math.Ceil(q*float64(len(took))))-1]) / float64(time.Millisecond)
	}
	b.ReportMetric(at(0.50), "page-p50-ms")
	b.ReportMetric(at(0.99), "page-p99-ms")
	b.ReportMetric(at(1), "page-max-ms")
	b.ReportMetric((cpu(b, server.Process)-from).Seconds()*1000/float64(len(took)), "cpu-ms/page")
	b.ReportMetric(0, "ns/op")
	b.Logf("%d pages; load at the end: %s", len(took), load(b))
}

func fleetServer(b *testing.B) *harness.Server {
	b.Helper()
	server := harness.NewServer(b, filepath.Join(room(b), "server"), "--quota", "mgn-servers=1000000;mgn-servers-not-archived=1000000")
	_, err := server.MGN(b).InitializeService(b.Context(), &mgn.InitializeServiceInput{})
	require.NoError(b, err)
	return server
}

// multiply makes many source servers of the one that is there.
func multiply(b *testing.B, path string, total int) {
	b.Helper()
	store, err := sqlite.Open(b.Context(), path)
	require.NoError(b, err)
	defer func() { require.NoError(b, store.Close()) }()
	scope := state.Scope{Account: harness.Account, Service: state.MGN}
	var v state.Server
	var r state.Replication
	require.NoError(b, store.View(b.Context(), func(tx state.Reader) error {
		all, _, err := tx.Servers(b.Context(), scope, state.ServerFilter{}, state.Page{})
		if err != nil {
			return err
		}
		v = all[0]
		r, err = tx.Replication(b.Context(), v.ID)
		return err
	}))
	for part := range slices.Chunk(make([]struct{}, total-1), 1000) {
		require.NoError(b, store.Update(b.Context(), func(tx state.Tx) error {
			for range part {
				v.CreatedAt = v.CreatedAt.Add(time.Millisecond)
				v.ID = fmt.Sprintf("s-%017x", v.CreatedAt.UnixNano())
				v.Identity, v.Properties.Hints.Hostname, r.ServerID = "machine "+v.ID, v.ID, v.ID
				if err := tx.PutServer(b.Context(), v); err != nil {
					return err
				}
				if err := tx.PutReplication(b.Context(), r); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// cpu is what a process has used of the processors.
func cpu(b *testing.B, s *harness.Process) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Cmd.Process.Pid))
	require.NoError(b, err)
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func load(b *testing.B) string {
	b.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	require.NoError(b, err)
	return strings.TrimSpace(string(raw))
}

// sign is a writer that tells when a text has been written to it. Whole lines come at once.
type sign struct {
	text string
	seen chan struct{}
	log  bytes.Buffer
	done bool
}

func (s *sign) Write(p []byte) (int, error) {
	s.log.Write(p)
	if !s.done && bytes.Contains(p, []byte(s.text)) {
		s.done = true
		close(s.seen)
	}
	return len(p), nil
}

func (s *sign) String() string { return s.log.String() }
