// Package bench measures the running system; nothing in it asserts a time. Run it with make bench.
package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// BenchmarkLag is the time from a write's submission on the source until it is durable on the server and the
// agent knows, under 2,000 random 4 KiB writes a second on two disks for 30 seconds. It is measured by the agent, on one
// clock, for the oldest write of every frame.
func BenchmarkLag(b *testing.B) {
	dir := b.TempDir()
	disks := []*harness.Disk{harness.NewDisk(b, dir, "a.img", 512<<20), harness.NewDisk(b, dir, "b.img", 512<<20)}
	server := harness.NewServer(b, filepath.Join(dir, "server"))
	server.InitializeDRS(b)
	agent := server.NewAgent(b, "drs", filepath.Join(dir, "agent"), []string{disks[0].Device, disks[1].Device})
	id := agent.ServerID(b)
	server.WaitState(b, id, drstypes.DataReplicationStateContinuous, 2*time.Minute)
	before := status(b, agent)
	b.ResetTimer()
	for range b.N {
		fio(b, disks...)
	}
	b.StopTimer()
	after := status(b, agent)
	b.ReportMetric(after.LagP50, "p50-ms")
	b.ReportMetric(after.LagP99, "p99-ms")
	b.ReportMetric(float64(after.LagSamples), "frames")
	b.ReportMetric(float64(after.Drops-before.Drops), "drops")
	b.ReportMetric(float64(after.RawBytes-before.RawBytes)/float64(after.WireBytes-before.WireBytes), "compression")
	b.ReportMetric(0, "ns/op")
}

type agentStatus struct {
	LagP50     float64 `json:"lagMillisecondsP50"`
	LagP99     float64 `json:"lagMillisecondsP99"`
	LagSamples int     `json:"lagSamples"`
	Drops      uint64  `json:"drops"`
	RawBytes   uint64  `json:"rawBytes"`
	WireBytes  uint64  `json:"wireBytes"`
}

// status is what the agent wrote in the last second.
func status(b *testing.B, a *harness.Agent) agentStatus {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join(a.StateDir, "status.json"))
	require.NoError(b, err)
	var s agentStatus
	require.NoError(b, json.Unmarshal(raw, &s))
	return s
}

// fio writes to all disks at once, 2,000 times a second in all.
func fio(b *testing.B, disks ...*harness.Disk) {
	b.Helper()
	var files []string
	for _, d := range disks {
		files = append(files, d.Device)
	}
	harness.Run(b, "fio", "--name=lag", "--filename="+strings.Join(files, ":"), "--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=16",
		"--rate_iops=2000", "--time_based", "--runtime=30", "--thread", "--output-format=terse", "--buffer_compress_percentage=50", "--refill_buffers")
}
