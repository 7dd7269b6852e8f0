package capture

import (
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkCost is the median ratio of IOPS with capture on to IOPS with it off, in alternation, on one loop device,
// and the mean time in the queue program: 4 KiB and 64 KiB random direct writes at depth 16, with a reader that releases
// what it sees. Run it with -benchtime=5x.
func BenchmarkCost(b *testing.B) {
	needKernel(b)
	for _, block := range []string{"4k", "64k"} {
		b.Run(block, func(b *testing.B) {
			d := testDisk(b, 1, 256<<20)
			o := testOptions(b, 256<<20, d)
			iops(b, d, block) // fills the file
			var ratios []float64
			var spent time.Duration
			var bios uint64
			for b.Loop() {
				off := iops(b, d, block)
				c, err := Open(o)
				require.NoError(b, err)
				stop := releaseAll(b, c)
				on := iops(b, d, block)
				timed, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
				require.NoError(b, err)
				iops(b, d, block)
				require.NoError(b, timed.Close())
				stats, err := c.programs[queueProgram].Stats()
				require.NoError(b, err)
				spent, bios = spent+stats.Runtime, bios+stats.RunCount
				stop()
				b.Logf("off %.0f on %.0f IOPS, drops %d", off, on, c.Drops())
				require.NoError(b, c.Close())
				require.NoError(b, Remove(o.PinDir))
				ratios = append(ratios, on/off)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "on/off")
			b.ReportMetric(float64(spent)/float64(bios), "ns/bio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func iops(t testing.TB, d Disk, block string) float64 {
	t.Helper()
	out, err := exec.Command("fio", "--name=cost", "--filename="+d.Path, "--rw=randwrite", "--direct=1", "--ioengine=libaio",
		"--iodepth=16", "--bs="+block, "--time_based", "--runtime=3", "--output-format=json").Output()
	require.NoError(t, err)
	var result struct {
		Jobs []struct{ Write struct{ IOPS float64 } }
	}
	require.NoError(t, json.Unmarshal(out, &result))
	return result.Jobs[0].Write.IOPS
}

// releaseAll walks the ring every few milliseconds, as the agent does, without looking at data.
func releaseAll(t testing.TB, c *Capture) (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var r Record
		for at := c.Consumer(); ; {
			select {
			case <-stopping:
				stopped <- nil
				return
			case <-tick.C:
			}
			for {
				ok, err := c.Next(at, &r)
				if err != nil {
					stopped <- err
					return
				}
				if !ok {
					break
				}
				at = r.End
			}
			c.Release(at)
		}
	}()
	return func() { close(stopping); require.NoError(t, <-stopped) }
}
