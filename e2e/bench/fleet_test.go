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
// a connection of its own, in a process that is not counted. Meanwhile pages of 100 source servers are asked for five
// times a second. CPU is the server's own, as the kernel counts it.
func BenchmarkFleet(b *testing.B) {
	server := fleetServer(b)
	for range b.N {
		var report bytes.Buffer
		measuring := &sign{text: "msg=measuring", seen: make(chan struct{})}
		cmd := exec.CommandContext(b.Context(), server.Binary, "simulate", "agents", "--service", "mgn", "--count", strconv.Itoa(*fleetAgents),
			"--register-rate", "400", "--every", fleetEvery.String(), "--settle", fleetSettle.String(), "--for", fleetFor.String(), "--probe", "200ms", "--json")
		cmd.Env, cmd.Stdout, cmd.Stderr = server.Env(), &report, measuring
		before := cpu(b, server.Process)
		require.NoError(b, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-measuring.seen:
		case err := <-ended:
			b.Fatalf("the simulator ended: %v\n%s", err, measuring)
		}
		from, began := cpu(b, server.Process), time.Now()
		require.NoError(b, <-ended, "%s", measuring)
		used, took := cpu(b, server.Process)-from, time.Since(began)
		var r simulate.Report
		require.NoError(b, json.Unmarshal(report.Bytes(), &r))
		b.Logf("%d agents; load at the end: %s; handshakes %+v, pages %+v, failures %v", r.Agents, load(b), r.Handshake, *r.Probe, r.FirstFailures)
		b.ReportMetric(float64(from-before)/float64(time.Millisecond)/float64(r.Agents), "cpu-ms/join") // registering and connecting
		b.ReportMetric(r.PerSecond, "handshakes/s")
		b.ReportMetric(100*used.Seconds()/took.Seconds(), "%-of-a-core")
		b.ReportMetric(used.Seconds()/float64(r.Handshake.Count)*1000, "cpu-ms/handshake") // pages included
		b.ReportMetric(r.Handshake.P99, "handshake-p99-ms")
		b.ReportMetric(r.Probe.P50, "page-p50-ms")
		b.ReportMetric(r.Probe.P99, "page-p99-ms")
		b.ReportMetric(float64(r.Handshake.Errors+r.Probe.Errors), "errors")
		b.ReportMetric(0, "ns/op")
	}
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
