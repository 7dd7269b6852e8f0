package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/nbd"
)

// settle writes out what earlier work left in memory, so that nobody pays for somebody else's.
func settle(*testing.B) { unix.Sync() }

// qemuNBD serves an image on a socket until it is stopped, or the benchmark ends.
func qemuNBD(b *testing.B, socket, image string, args ...string) *harness.Process {
	b.Helper()
	args = append([]string{"--socket=" + socket, "--persistent", "--shared=16"}, append(args, image)...)
	p := harness.Start(b, "qemu-nbd", exec.Command("qemu-nbd", args...))
	answers(b, p, socket)
	return p
}

// answers waits until somebody listens.
func answers(b *testing.B, p *harness.Process, socket string) {
	b.Helper()
	harness.Eventually(b, time.Minute, socket+" answers", func() (bool, string) {
		if p.Ended() {
			b.Fatalf("it has ended: %v\n%s", p.Err(), p.Log())
		}
		c, err := net.Dial("unix", socket)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
}

func dial(b *testing.B, socket string) *nbd.Client {
	b.Helper()
	c, err := nbd.Dial(b.Context(), "unix", socket, nbd.ClientConfig{})
	require.NoError(b, err)
	return c
}

// qcow2 makes an image, on top of another if there is one.
func qcow2(b *testing.B, path string, size int64, backing, options string) {
	b.Helper()
	args := []string{"create", "-q", "-f", "qcow2"}
	if options != "" {
		args = append(args, "-o", options)
	}
	if backing != "" {
		args = append(args, "-b", filepath.Base(backing), "-F", "qcow2")
	}
	harness.Run(b, "qemu-img", append(args, path, fmt.Sprint(size))...)
}

// each runs n pieces of work, some of them at once.
func each(ctx context.Context, depth, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	next := make(chan int)
	for range depth {
		group.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	group.Wait()
	return context.Cause(ctx)
}

// fioAppend is what fio appends to a new file, in MiB a second.
func fioAppend(b *testing.B, path string, block, total int64, fsync int) float64 {
	b.Helper()
	out := harness.Run(b, "fio", "--name=append", "--filename="+path, "--rw=write", fmt.Sprintf("--bs=%d", block), fmt.Sprintf("--size=%d", total),
		fmt.Sprintf("--fsync=%d", fsync), "--ioengine=psync", "--fallocate=none", "--refill_buffers", "--thread", "--output-format=json")
	var r struct {
		Jobs []struct {
			Write struct {
				Bytes   int64 `json:"io_bytes"`
				Runtime int64 `json:"runtime"` // ms
			} `json:"write"`
		} `json:"jobs"`
	}
	require.NoError(b, json.Unmarshal([]byte(out), &r), "%s", out)
	require.NotEmpty(b, r.Jobs)
	w := r.Jobs[0].Write
	require.Equal(b, total, w.Bytes)
	return float64(w.Bytes) / (1 << 20) / (float64(w.Runtime) / 1e3)
}
