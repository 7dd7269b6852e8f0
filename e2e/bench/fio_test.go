package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// pressed is what one run of fio did and saw.
type pressed struct {
	p50, p99 time.Duration // from submission to completion: what a program under protection pays, it pays while submitting
	bytes    float64
	rate     float64 // bytes a second
}

// press writes to disks with fio, past the page cache, half compressible.
func press(b *testing.B, disks []*harness.Disk, runtime time.Duration, args ...string) pressed {
	b.Helper()
	var files []string
	for _, d := range disks {
		files = append(files, d.Device)
	}
	settle(b)
	args = append([]string{"--name=press", "--filename=" + strings.Join(files, ":"), "--direct=1", "--ioengine=libaio", "--thread", "--time_based",
		fmt.Sprintf("--runtime=%d", int(runtime.Seconds())), "--buffer_compress_percentage=50", "--lat_percentiles=1", "--clat_percentiles=0",
		"--output-format=json"}, args...)
	out := harness.Run(b, "fio", args...)
	var r struct {
		Jobs []struct {
			Write struct {
				Bytes   float64 `json:"io_bytes"`
				Rate    float64 `json:"bw_bytes"`
				Latency struct {
					Percentile map[string]int64 `json:"percentile"`
				} `json:"lat_ns"`
			} `json:"write"`
		} `json:"jobs"`
	}
	require.NoError(b, json.Unmarshal([]byte(out), &r), "%s", out)
	require.Len(b, r.Jobs, 1)
	j := r.Jobs[0]
	return pressed{
		p50: time.Duration(j.Write.Latency.Percentile["50.000000"]), p99: time.Duration(j.Write.Latency.Percentile["99.000000"]),
		bytes: j.Write.Bytes, rate: j.Write.Rate,
	}
}

// random4K are 4 KiB writes all over the disks, so many a second.
func random4K(perSecond int) []string {
	return []string{"--rw=randwrite", "--bs=4k", "--iodepth=16", "--refill_buffers", fmt.Sprintf("--rate_iops=%d", perSecond)}
}

// sequential1M are 1 MiB writes one after the other, as fast as the disk takes them.
func sequential1M() []string { return []string{"--rw=write", "--bs=1m", "--iodepth=4"} }

// writtenDisk is a disk whose every block was written before, so that no write of a benchmark is the first.
func writtenDisk(b *testing.B, dir, name string, size int64) *harness.Disk {
	b.Helper()
	d := harness.NewDisk(b, dir, name, size)
	harness.Run(b, "fio", "--name=fill", "--filename="+d.Device, "--rw=write", "--bs=1m", "--direct=1", "--ioengine=libaio", "--iodepth=4",
		"--thread", "--refill_buffers", "--buffer_compress_percentage=50", "--output-format=terse")
	return d
}
