package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// Kind of a file system load.
type Kind string

// The kinds: what databases, copies, virtual machines and caches do to disks.
const (
	Mixed   Kind = "mixed"   // buffered writes of all sizes with fsync
	Direct  Kind = "direct"  // O_DIRECT, 4 KiB to 1 MiB
	Mmap    Kind = "mmap"    // stores into a mapping, msync
	Discard Kind = "discard" // files written and removed, fstrim, punched and zeroed ranges
)

// Kinds are all of them.
var Kinds = []Kind{Mixed, Direct, Mmap, Discard}

// Load runs a kind of load in a mounted directory until ctx ends.
func Load(ctx context.Context, dir string, k Kind, seed uint64) error {
	sub := filepath.Join(dir, string(k))
	if err := os.MkdirAll(sub, 0o755); err != nil {
		return err
	}
	if k == Discard {
		return discards(ctx, dir, sub)
	}
	args := []string{"--name=" + string(k), "--directory=" + sub, "--size=24M", "--rw=randwrite", "--thread", "--time_based", "--runtime=3600",
		"--randrepeat=0", fmt.Sprintf("--randseed=%d", seed%(1<<31)), "--output-format=terse", "--buffer_compress_percentage=40", "--refill_buffers"}
	args = append(args, map[Kind][]string{
		Mixed:  {"--ioengine=psync", "--bsrange=512-64k", "--blockalign=512", "--fsync=16", "--rate_iops=60"},
		Direct: {"--ioengine=libaio", "--direct=1", "--iodepth=8", "--bsrange=4k-1m", "--blockalign=4k", "--rate_iops=8"},
		Mmap:   {"--ioengine=mmap", "--bs=4k", "--fsync=32", "--rate_iops=100"},
	}[k]...)
	_, err := harness.Try(ctx, "fio", args...)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// discards writes and removes files, punches and zeroes ranges, and trims the file system.
func discards(ctx context.Context, mount, dir string) error {
	file := filepath.Join(dir, "ranges")
	steps := [][]string{
		{"dd", "if=/dev/urandom", "of=" + file, "bs=1M", "count=6", "conv=fsync", "status=none"},
		{"fallocate", "--punch-hole", "--offset", "1MiB", "--length", "3MiB", file},
		{"fallocate", "--zero-range", "--offset", "4MiB", "--length", "1MiB", file},
		{"sync", file},
		{"rm", file},
		{"sync", "--file-system", mount},
		{"fstrim", mount},
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		for _, s := range steps {
			if _, err := harness.Try(ctx, s[0], s[1:]...); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

// LoadAll runs every kind in every directory, and a churn of files, until ctx ends.
func LoadAll(ctx context.Context, seed uint64, dirs ...string) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, dir := range dirs {
		for j, k := range Kinds {
			g.Go(func() error { return named(dir, k, Load(ctx, dir, k, seed+uint64(i*16+j))) })
		}
		files := filepath.Join(dir, "files")
		if err := os.MkdirAll(files, 0o755); err != nil {
			return err
		}
		churn := NewChurn(files, seed+uint64(i), churnInterval)
		g.Go(func() error { return named(dir, "churn", churn.Run(ctx)) })
	}
	return g.Wait()
}

func named(dir string, k Kind, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s in %s: %s", k, filepath.Base(dir), strings.TrimSpace(err.Error()))
}
