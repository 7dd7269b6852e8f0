package bench

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/wire"
)

var memoryGiB = flag.Int64("memory-gib", 32, "content of the larger journal of BenchmarkMemory; the smaller has a quarter")

// BenchmarkMemory is what a process needs to hold and read a journal, as a function of how much content it protects:
// extents of 64 KiB, each written once, all over a disk of 16 TiB. The content compresses well, which saves time and room
// here and changes nothing of what an index needs. From two sizes follows what a TiB more would add.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		small, large := *memoryGiB/4, *memoryGiB
		few, many := measureMemory(b, small), measureMemory(b, large)
		perTiB := func(a, z int64) float64 {
			return float64(z-a) / (1 << 20) / (float64(large-small) / 1024)
		}
		b.ReportMetric(float64(many.serving)/(1<<20), "serving-MiB")
		b.ReportMetric(float64(many.heap)/(1<<20), "heap-MiB")
		b.ReportMetric(perTiB(few.heap, many.heap), "heap-MiB/TiB")
		b.ReportMetric(float64(many.filling)/(1<<20), "filling-peak-MiB")
		b.ReportMetric(0, "ns/op")
		b.Logf(`%d GiB and %d GiB protected
reading all over:      %d and %d MiB resident, %d and %d MiB of live heap
filling, compacting:   %d and %d MiB resident at the most
stored:                %d and %d MiB`, small, large, few.serving>>20, many.serving>>20, few.heap>>20, many.heap>>20,
			few.filling>>20, many.filling>>20, few.disk>>20, many.disk>>20)
	}
}

type footprint struct {
	serving int64 // resident, of a process that has read all over the disk
	heap    int64 // of it: what is live after a collection
	filling int64 // resident at the most, of a process that appended and compacted it all
	disk    int64
}

const sparseDisk = 16 << 40

func measureMemory(b *testing.B, gib int64) (f footprint) {
	b.Helper()
	dir := filepath.Join(room(b), "journal")
	f.filling = statusField(b, output(b, modeBig, dir, strconv.FormatInt(gib, 10)), "VmHWM")
	f.disk = allocated(b, dir)
	socket := filepath.Join(filepath.Dir(dir), "socket")
	p := understudy(b, socket, dir)
	defer p.Stop(b)
	c := dial(b, socket)
	defer c.Close()
	require.EqualValues(b, sparseDisk, c.Size())
	buf := make([]byte, block)
	rng := rand.New(rand.NewPCG(5, uint64(gib)))
	extents := gib << 30 / sparseExtent
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		n := rng.Int64N(extents)
		require.NoError(b, c.ReadAt(b.Context(), buf, sparsePlace(n)))
		require.EqualValues(b, n+1, binary.LittleEndian.Uint64(buf), "another extent's content")
	}
	f.serving = resident(b, p.Cmd.Process.Pid, "VmRSS")
	require.NoError(b, p.Cmd.Process.Signal(unix.SIGUSR1))
	harness.Eventually(b, time.Minute, "the server says what its heap is", func() (bool, string) {
		_, said, _ := strings.Cut(p.Log(), heapSays)
		_, err := fmt.Sscanf(said, "%d\n", &f.heap)
		return err == nil, p.Log()
	})
	return f
}

const (
	sparseExtent = 64 << 10
	sparseFrame  = 4 << 20
)

// sparsePlace spreads extents over the disk so that neighbours in time are far from each other in place.
func sparsePlace(n int64) int64 {
	const slots = sparseDisk / sparseExtent // a power of two: an odd factor permutes it
	return (n * 0x9e3779b1 % slots) * sparseExtent
}

// fillSparse writes every extent once, compacts, and prints what the kernel says of this process.
func fillSparse(dir, size string) error {
	gib, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	j, err := create(ctx, dir, []wire.Disk{{Device: "/dev/vda", Bytes: sparseDisk}})
	if err != nil {
		return err
	}
	var w wire.Builder
	data := make([]byte, sparseExtent)
	var frame []byte
	for n := int64(0); n < gib<<30/sparseExtent; {
		w.Reset(wire.TypeData, 1)
		for range sparseFrame / sparseExtent {
			for at := 0; at < sparseExtent; at += block {
				binary.LittleEndian.PutUint64(data[at:], uint64(n+1)+uint64(at)<<40) // every block is another
			}
			binary.LittleEndian.PutUint64(data, uint64(n+1))
			w.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: position(int(n)), Sector: uint64(sparsePlace(n)) / wire.SectorSize,
				Bytes: sparseExtent, Time: stamp(int(n))}, data)
			n++
		}
		frame = w.Finish(frame[:0])
		if err := put(j, frame); err != nil {
			return err
		}
		if err := relax(ctx, j); err != nil {
			return err
		}
	}
	if err := j.Sync(); err != nil {
		return err
	}
	if err := compact(ctx, j); err != nil {
		return err
	}
	if err := j.Close(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	fmt.Printf("%s", status)
	return err
}

func resident(b *testing.B, pid int, field string) int64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	return statusField(b, string(raw), field)
}

func statusField(b *testing.B, status, field string) int64 {
	b.Helper()
	for _, line := range strings.Split(status, "\n") {
		var kib int64
		if _, err := fmt.Sscanf(line, field+":%d kB", &kib); err == nil {
			return kib << 10
		}
	}
	require.Fail(b, "no "+field, "%s", status)
	return 0
}
