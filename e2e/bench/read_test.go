package bench

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/nbd"
)

var (
	writes     = flag.Int("writes", 1_000_000, "writes of 4 KiB in the history that is read")
	kept       = flag.Int("kept", 37, "points kept of it, as many as DRS keeps by default; overlays of the qcow2 chain")
	diskMiB    = flag.Int64("disk-mib", 1024, "size of the disk that they are spread over")
	cluster    = flag.Int("cluster", 64<<10, "qcow2's cluster size; QEMU's default is 64 KiB")
	readFor    = flag.Duration("read-for", 5*time.Second, "one run of random reads")
	histories  = flag.String("history", "", "what BenchmarkRead reads is kept in this directory, and taken from it if it is there")
	checkReads = 2000
)

// deep is one history three times: a compacted journal that keeps some points, a qcow2 image with an overlay for
// each point, and the newest state as a raw file.
type deep struct {
	history
	journal, chain, raw string
}

// BenchmarkRead reads the newest state of a history. Every server is a process of its own behind a Unix socket, every
// client is the same.
func BenchmarkRead(b *testing.B) {
	dir := room(b)
	d := deep{history: history{disk: *diskMiB << 20, seed: 2}}
	b.Run("history", func(b *testing.B) {
		d.make(b, dir)
		d.compare(b, dir)
		b.ReportMetric(0, "ns/op")
	})
	if b.Failed() {
		return
	}
	for _, depth := range []int{1, 16} {
		b.Run(fmt.Sprintf("random-4k/queue-depth=%d", depth), func(b *testing.B) { d.random(b, dir, depth) })
	}
	b.Run("sequential/warm", func(b *testing.B) { d.sequential(b, dir, false) })
	b.Run("sequential/cold", func(b *testing.B) { d.sequential(b, dir, true) })
}

// make makes what is not there yet.
func (d *deep) make(b *testing.B, dir string) {
	b.Helper()
	if *histories != "" {
		dir = *histories
		require.NoError(b, os.MkdirAll(dir, 0o700))
	}
	d.journal, d.chain, d.raw = filepath.Join(dir, "journal"), filepath.Join(dir, fmt.Sprintf("overlay-%02d.qcow2", *kept-1)), filepath.Join(dir, "newest.raw")
	for path, make := range map[string]func(*testing.B, string){d.journal: d.makeJournal, d.raw: d.makeImages} {
		if _, err := os.Stat(path); err != nil {
			make(b, dir)
		}
	}
}

// pieces are the ends of the stretches between kept points.
func (d *deep) pieces() []int {
	var ends []int
	for k := 1; k <= *kept; k++ {
		ends = append(ends, *writes*k / *kept)
	}
	return ends
}

func (d *deep) makeJournal(b *testing.B, dir string) {
	b.Helper()
	begin := time.Now()
	j, err := create(b.Context(), filepath.Join(dir, "journal"), d.disks())
	require.NoError(b, err)
	from := 0
	var points []journal.Point
	for _, end := range d.pieces() {
		require.NoError(b, d.fill(b.Context(), j, from, end))
		p, err := j.Latest()
		require.NoError(b, err)
		require.Equal(b, position(end-1), p.Position)
		points = append(points, p)
		from = end
	}
	last := points[len(points)-1]
	require.NoError(b, j.Retain(journal.Retention{Since: last.Time, Points: points}))
	require.NoError(b, compact(b.Context(), j))
	u := j.Usage()
	require.NoError(b, j.Close())
	b.ReportMetric(float64(u.Stored>>20), "journal-MiB")
	b.Logf("journal: %d writes, %d points, %d MiB in %d layers of %d runs, made in %.0f s", *writes, *kept, u.Stored>>20, u.LayerFiles, u.Runs,
		time.Since(begin).Seconds())
}

// makeImages applies the history to a chain of images through qemu-nbd, and makes a raw file of its end; nothing needs to
// be durable.
func (d *deep) makeImages(b *testing.B, dir string) {
	b.Helper()
	begin := time.Now()
	options := fmt.Sprintf("cluster_size=%d", *cluster)
	image := filepath.Join(dir, "base.qcow2")
	qcow2(b, image, d.disk, "", options)
	from, total := 0, int64(0)
	for k, end := range d.pieces() {
		overlay := filepath.Join(dir, fmt.Sprintf("overlay-%02d.qcow2", k))
		qcow2(b, overlay, d.disk, image, options)
		image = overlay
		socket := filepath.Join(dir, "making")
		p := qemuNBD(b, socket, image, "--format=qcow2", "--cache=unsafe")
		c := dial(b, socket)
		// One at a time for each block: writes of the history to one block must not overtake each other.
		d.apply(b, c, from, end)
		require.NoError(b, c.Close())
		p.Stop(b)
		total += allocated(b, image)
		from = end
	}
	b.ReportMetric(float64(total>>20), "chain-MiB")
	b.Logf("qcow2 chain: %d overlays, %d MiB, made in %.0f s", *kept, total>>20, time.Since(begin).Seconds())
	harness.Run(b, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-S", "0", image, d.raw)
}

// apply writes what the history leaves of each block: within an overlay only the last write of a block is seen.
func (d *deep) apply(b *testing.B, c *nbd.Client, from, end int) {
	last := map[int64]int{}
	for i := from; i < end; i++ {
		last[d.block(i)] = i
	}
	order := make([]int, 0, len(last))
	for i := from; i < end; i++ {
		if last[d.block(i)] == i {
			order = append(order, i)
		}
	}
	require.NoError(b, each(b.Context(), 16, len(order), func(ctx context.Context, n int) error {
		i := order[n]
		return c.WriteAt(ctx, d.content(i, make([]byte, block)), d.block(i)*block)
	}))
}

// compare sees that all three hold the same before anybody's speed counts.
func (d *deep) compare(b *testing.B, dir string) {
	b.Helper()
	raw, err := os.Open(d.raw)
	require.NoError(b, err)
	defer raw.Close()
	ours, chain := filepath.Join(dir, "ours"), filepath.Join(dir, "chain")
	defer understudy(b, ours, d.journal).Stop(b)
	defer qemuNBD(b, chain, d.chain, "--format=qcow2", "--read-only").Stop(b)
	a, c := dial(b, ours), dial(b, chain)
	defer a.Close()
	defer c.Close()
	rng := rand.New(rand.NewPCG(d.seed, 7))
	one, two, three := make([]byte, block), make([]byte, block), make([]byte, block)
	for range checkReads {
		off := rng.Int64N(d.disk/block) * block
		require.NoError(b, a.ReadAt(b.Context(), one, off))
		require.NoError(b, c.ReadAt(b.Context(), two, off))
		_, err := raw.ReadAt(three, off)
		require.NoError(b, err)
		require.True(b, bytes.Equal(one, two) && bytes.Equal(two, three), "the three histories differ at %d", off)
	}
}

// random compares reads of 4 KiB all over the disk, after everybody has read all of it once: what fits is in the page
// cache. The history was made longer ago for one than for the other, so without that it would be a contest of luck.
func (d *deep) random(b *testing.B, dir string, depth int) {
	socket := filepath.Join(dir, "random")
	run := func(b *testing.B, server *harness.Process) float64 {
		defer server.Stop(b)
		c := dial(b, socket)
		defer c.Close()
		nbdcopy(b, socket)
		readRandomly(b, c, d.disk, depth, *readFor/5)
		return readRandomly(b, c, d.disk, depth, *readFor)
	}
	for b.Loop() {
		contest(b, "reads/s",
			contender{"journal", func(b *testing.B) float64 { return run(b, understudy(b, socket, d.journal)) }},
			contender{"chain", func(b *testing.B) float64 {
				return run(b, qemuNBD(b, socket, d.chain, "--format=qcow2", "--read-only"))
			}})
	}
}

// readRandomly counts reads a second.
func readRandomly(b *testing.B, c *nbd.Client, size int64, depth int, d time.Duration) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	var done atomic.Int64
	begin := time.Now()
	err := each(b.Context(), depth, depth, func(all context.Context, i int) error {
		rng := rand.New(rand.NewPCG(uint64(begin.UnixNano()), uint64(i)))
		buf := make([]byte, block)
		for ctx.Err() == nil {
			if err := c.ReadAt(all, buf, rng.Int64N(size/block)*block); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	require.NoError(b, err)
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// sequential has nbdcopy read everything.
func (d *deep) sequential(b *testing.B, dir string, cold bool) {
	socket := filepath.Join(dir, "sequential")
	run := func(b *testing.B, server func() *harness.Process) float64 {
		if cold {
			dropCaches(b)
		}
		p := server()
		defer p.Stop(b)
		if !cold {
			nbdcopy(b, socket)
		}
		begin := time.Now()
		nbdcopy(b, socket)
		return float64(d.disk) / (1 << 20) / time.Since(begin).Seconds()
	}
	for b.Loop() {
		contest(b, "MiB/s",
			contender{"journal", func(b *testing.B) float64 {
				return run(b, func() *harness.Process { return understudy(b, socket, d.journal) })
			}},
			contender{"raw", func(b *testing.B) float64 {
				return run(b, func() *harness.Process { return qemuNBD(b, socket, d.raw, "--format=raw", "--read-only") })
			}},
			contender{"chain", func(b *testing.B) float64 {
				return run(b, func() *harness.Process { return qemuNBD(b, socket, d.chain, "--format=qcow2", "--read-only") })
			}})
	}
}

func nbdcopy(b *testing.B, socket string) {
	b.Helper()
	harness.Run(b, "nbdcopy", "nbd+unix:///?socket="+socket, "null:")
}
