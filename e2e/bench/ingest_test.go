package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

var ingestMiB = flag.Int("ingest-mib", 256, "written in each run of BenchmarkIngest")

// BenchmarkIngest is how fast incompressible random 4 KiB writes become durable: appended to a journal, or applied in place
// to a qcow2 image by qemu-nbd, whose every cluster is allocated already. A batch is one frame of 32 writes or eight;
// each ends with a flush. fio appends the same bytes with the same flushes, and bounds what the disk can do.
func BenchmarkIngest(b *testing.B) {
	h := history{disk: 1 << 30, seed: 1}
	writes := *ingestMiB << 20 / block
	frames := make([][]byte, writes/perFrame)
	var w wire.Builder
	for i := range frames {
		frames[i] = h.frame(&w, i*perFrame, (i+1)*perFrame)
	}
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprintf("frames-per-flush=%d", batch), func(b *testing.B) {
			dir := room(b)
			image := filepath.Join(dir, "full.qcow2")
			qcow2(b, image, h.disk, "", "preallocation=full")
			for b.Loop() {
				contest(b, "MiB/s",
					contender{"journal", func(b *testing.B) float64 { return ingestJournal(b, dir, h, frames, batch, false) }},
					contender{"journal-maintained", func(b *testing.B) float64 { return ingestJournal(b, dir, h, frames, batch, true) }},
					contender{"qcow2", func(b *testing.B) float64 { return ingestQcow2(b, dir, image, h, writes, batch) }},
					contender{"fio", func(b *testing.B) float64 {
						settle(b)
						path := filepath.Join(dir, "appended")
						defer os.Remove(path)
						return fioAppend(b, path, frameBytes, int64(writes)*block, batch)
					}})
			}
		})
	}
}

// ingestJournal does what a replication server does with each frame that arrived; maintained, with unpaced maintenance
// beside it, which is the worst that can happen.
func ingestJournal(b *testing.B, dir string, h history, frames [][]byte, batch int, maintained bool) float64 {
	path := filepath.Join(dir, "journal")
	j, err := create(b.Context(), path, h.disks())
	require.NoError(b, err)
	defer os.RemoveAll(path)
	defer j.Close()
	if maintained {
		defer maintain(b, j)()
	}
	settle(b)
	begin := time.Now()
	for i, raw := range frames {
		require.NoError(b, put(j, raw))
		if (i+1)%batch == 0 {
			require.NoError(b, j.Sync())
		}
	}
	return rate(len(frames)*perFrame, begin)
}

// maintain keeps a journal small until the returned function is called.
func maintain(b *testing.B, j *journal.Journal) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if did, err := j.Maintain(ctx, journal.Limits{}); did && err == nil {
				continue
			} else if err != nil && ctx.Err() == nil {
				b.Errorf("maintain: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }
}

// ingestQcow2 writes the same, all writes of a batch at once, and flushes.
func ingestQcow2(b *testing.B, dir, image string, h history, writes, batch int) float64 {
	socket := filepath.Join(dir, "in-place")
	p := qemuNBD(b, socket, image, "--format=qcow2", "--cache=writeback")
	defer p.Stop(b)
	c := dial(b, socket)
	defer c.Close()
	per := perFrame * batch
	bufs := make([][]byte, per)
	for i := range bufs {
		bufs[i] = make([]byte, block)
	}
	settle(b)
	spent := time.Duration(0)
	for from := 0; from < writes; from += per {
		for i := range bufs {
			h.content(from+i, bufs[i])
		}
		begin := time.Now() // making content is no part of it: the journal's was made before
		err := each(b.Context(), perFrame, per, func(ctx context.Context, i int) error {
			return c.WriteAt(ctx, bufs[i], h.block(from+i)*block)
		})
		require.NoError(b, err)
		require.NoError(b, c.Flush(b.Context()))
		spent += time.Since(begin)
	}
	return rate(writes, time.Now().Add(-spent))
}

// rate is writes since begin in MiB a second.
func rate(writes int, begin time.Time) float64 {
	return float64(writes) * block / (1 << 20) / time.Since(begin).Seconds()
}
