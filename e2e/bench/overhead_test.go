package bench

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

var (
	overheadFor = flag.Duration("overhead-for", 12*time.Second, "each run of fio in BenchmarkOverhead")
	far         = flag.String("far", "/dev/shm", "BenchmarkOverhead keeps here what would be on another machine: not the disk that is measured")
	overheadIO  = flag.Int("overhead-iops", 5000, "random writes a second in BenchmarkOverhead/paced and BenchmarkLag")
)

// BenchmarkOverhead is what protection costs the programs of a source server: the same load on the same disk with nothing of
// ours on the machine, and replicated by an agent in CONTINUOUS, in turn, the order changing from pair to pair. The
// replication server, which would be another machine, has its files on another file system and the lowest priority; what it takes all the same
// counts against us. The load begins when the first copy has been put away. After each run the replica is compared with the disk, bit for bit.
func BenchmarkOverhead(b *testing.B) {
	b.Run("paced", func(b *testing.B) {
		for b.Loop() {
			all := overhead(b, random4K(*overheadIO)...)
			report(b, "p50", all, func(p pressed) float64 { return float64(p.p50.Microseconds()) }, "us")
			report(b, "p99", all, func(p pressed) float64 { return float64(p.p99.Microseconds()) }, "us")
			costs(b, all)
		}
	})
	b.Run("sequential", func(b *testing.B) {
		for b.Loop() {
			all := overhead(b, sequential1M()...)
			report(b, "rate", all, func(p pressed) float64 { return p.rate / (1 << 20) }, "MiB/s")
			costs(b, all)
		}
	})
}

// compared is one load without and with protection.
type compared struct {
	off, on       pressed
	agent, server time.Duration // of the processors, from the load's beginning until all of it is recoverable
	dropped       uint64
}

func overhead(b *testing.B, args ...string) (all []compared) {
	dir := room(b)
	disks := []*harness.Disk{writtenDisk(b, dir, "disk", 512<<20)}
	for round := range *rounds {
		var c compared
		run := []func(){
			func() { c.off = press(b, disks, *overheadFor, args...) },
			func() { c.protected(b, disks, args...) },
		}
		run[round%2]()
		run[1-round%2]()
		all = append(all, c)
	}
	return all
}

func (c *compared) protected(b *testing.B, disks []*harness.Disk, args ...string) {
	p := prepareProtection(b, *far, disks...)
	defer p.end(b)
	standBack(b, p.server.Process)
	p.agent.Start(b)
	p.continuous(b)
	atRest(b, p.server.Process)
	agent, server := cpu(b, p.agent.Process), cpu(b, p.server.Process)
	c.on = press(b, disks, *overheadFor, args...)
	p.recoverable(b)
	c.agent, c.server = cpu(b, p.agent.Process)-agent, cpu(b, p.server.Process)-server
	c.dropped = p.status(b).Drops
	p.verify(b, harness.Identical)
}

// standBack has all threads of a process take of the processors what nobody else wants; threads to come inherit it.
func standBack(b *testing.B, p *harness.Process) {
	b.Helper()
	for range 2 { // one may have been made meanwhile
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Cmd.Process.Pid))
		require.NoError(b, err)
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			require.NoError(b, err)
			if err := unix.Setpriority(unix.PRIO_PROCESS, id, 19); err != nil {
				require.ErrorIs(b, err, unix.ESRCH) // it has ended
			}
		}
	}
}

// atRest waits until a server has put away the first copy, which is not part of the load.
func atRest(b *testing.B, p *harness.Process) {
	b.Helper()
	since, before := time.Now(), cpu(b, p)
	harness.Eventually(b, 2*time.Minute, "the server is at rest", func() (bool, string) {
		if time.Since(since) < 2*time.Second {
			return false, "too early to tell"
		}
		now := cpu(b, p)
		spent := float64(now-before) / float64(time.Since(since))
		since, before = time.Now(), now
		return spent < 0.05, fmt.Sprintf("%.2f of a processor", spent)
	})
}

// report gives the medians of a figure without and with protection, and the median of the pairs' ratios.
func report(b *testing.B, name string, all []compared, figure func(pressed) float64, unit string) {
	var off, on, ratio []float64
	for i := range all {
		x, y := figure(all[i].off), figure(all[i].on)
		off, on, ratio = append(off, x), append(on, y), append(ratio, y/x)
	}
	b.ReportMetric(median(off), name+"-off-"+unit)
	b.ReportMetric(median(on), name+"-on-"+unit)
	b.ReportMetric(median(ratio), name+"-on/off")
	b.Logf("%s: off %s, on %s %s; on/off %s", name, figures(off), figures(on), unit, figures(ratio))
}

// costs are the processor seconds for each GiB that was written.
func costs(b *testing.B, all []compared) {
	var agent, server, dropped []float64
	for _, c := range all {
		require.NotZero(b, c.on.bytes)
		gib := c.on.bytes / (1 << 30)
		agent, server, dropped = append(agent, c.agent.Seconds()/gib), append(server, c.server.Seconds()/gib), append(dropped, float64(c.dropped))
	}
	b.ReportMetric(median(agent), "agent-cpu-s/GiB")
	b.ReportMetric(median(server), "server-cpu-s/GiB")
	b.ReportMetric(median(dropped), "drops")
	b.ReportMetric(0, "ns/op")
	b.Logf("agent %s, server %s s/GiB, %s drops", figures(agent), figures(server), figures(dropped))
}

// figures are figures as they came, their median first.
func figures(all []float64) string {
	var s []string
	for _, v := range all {
		s = append(s, fmt.Sprintf("%.3g", v))
	}
	return fmt.Sprintf("%.3g (%s)", median(all), strings.Join(s, " "))
}
