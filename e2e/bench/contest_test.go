package bench

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var (
	place  = flag.String("dir", os.TempDir(), "the benchmarks' files go here: the disk that is measured, and tens of GiB free")
	rounds = flag.Int("rounds", 5, "runs of each contender; the median counts")
)

// contender is one way of doing the same work.
type contender struct {
	name string
	run  func(b *testing.B) float64 // what it reached, in the contest's unit
}

// contest lets contenders do the same work in turn, in every round from another one on, so that a disk or a neighbour that
// is slow for a while is slow for all. It reports the median of each, and how the first compares with the others.
// Nothing is asserted: a figure is worth what the machine was worth at that moment.
func contest(b *testing.B, unit string, all ...contender) {
	b.Helper()
	got := make([][]float64, len(all))
	for round := range *rounds {
		for i := range all {
			n := (round + i) % len(all)
			got[n] = append(got[n], all[n].run(b))
		}
	}
	var lines []string
	first := median(got[0])
	for i, c := range all {
		m := median(got[i])
		b.ReportMetric(m, c.name+"-"+unit)
		line := fmt.Sprintf("%-24s %12.1f %s  (%.1f to %.1f)", c.name, m, unit, slices.Min(got[i]), slices.Max(got[i]))
		if i > 0 {
			b.ReportMetric(first/m, "of-"+c.name)
			line += fmt.Sprintf("  %s is at %.2f of it", all[0].name, first/m)
		}
		lines = append(lines, line)
	}
	b.ReportMetric(0, "ns/op")
	b.Logf("%s, median of %d (least to most)\n%s", b.Name(), *rounds, strings.Join(lines, "\n"))
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// room is a directory on the disk that is measured; it goes when the benchmark ends.
func room(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(*place, "understudy-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// allocated is what a file, or all files of a directory, take on the disk.
func allocated(b *testing.B, path string) int64 {
	b.Helper()
	total := int64(0)
	err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return total
}

// dropCaches makes what follows come from the disk.
func dropCaches(b *testing.B) {
	b.Helper()
	settle(b)
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
		b.Fatal(err)
	}
}
