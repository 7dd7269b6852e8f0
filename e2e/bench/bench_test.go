// Package bench measures the running system; nothing in it asserts a time. Run it with make bench.
package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// BenchmarkLag is the time from a write's submission on the source until it is durable on the server and the
// agent knows, under 5,000 random 4 KiB writes a second on two disks for 30 seconds. It is measured by the agent, on one
// clock, for the oldest write of every frame. The replica is compared with the disks before the figures count.
func BenchmarkLag(b *testing.B) {
	dir := room(b)
	disks := []*harness.Disk{writtenDisk(b, dir, "a", 512<<20), writtenDisk(b, dir, "b", 512<<20)}
	for b.Loop() {
		p := protect(b, dir, disks...)
		before := p.status(b)
		fio := press(b, disks, 30*time.Second, random4K(*overheadIO)...)
		p.recoverable(b)
		after := p.status(b)
		p.verify(b, harness.Identical)
		p.end(b)
		require.NotZero(b, after.LagSamples)
		b.ReportMetric(after.LagP50, "p50-ms")
		b.ReportMetric(after.LagP99, "p99-ms")
		b.ReportMetric(float64(after.LagSamples), "frames")
		b.ReportMetric(fio.bytes/4096/30, "writes/s")
		b.ReportMetric(float64(after.Drops-before.Drops), "drops")
		b.ReportMetric(float64(after.RawBytes-before.RawBytes)/float64(after.WireBytes-before.WireBytes), "compression")
	}
	b.ReportMetric(0, "ns/op")
}
