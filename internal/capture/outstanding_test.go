package capture

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// The blocks of dropped writes that never complete can be found again.
func TestLateDroppedMarksTheirBlocks(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 3, 16<<20)
	c := open(t, testOptions(t, 64<<10, d))
	late := c.bitmap(regionLate, d.Index)
	word := c.plan.disks[d.Index].word
	require.NoError(t, c.dropped.Put(uint64(1), droppedBio{Word: word, Sector: 17, Bytes: 9 << 9, Shift: 12}))
	require.NoError(t, c.dropped.Put(uint64(2), droppedBio{Word: word, Sector: 800, Bytes: 512, Shift: 12, Done: 1}))

	n, err := c.LateDropped()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	start, end, ok := late.NextSet(0)
	require.True(t, ok)
	require.EqualValues(t, []uint64{2, 4}, []uint64{start, end}, "sectors 17 to 25")
	_, _, ok = late.NextSet(end)
	require.False(t, ok)
}

// complete waits until dropped writes have completed. The completions of some among thousands go unseen where the kernel runs no
// programs while a certain task is current; those are found as the source finds them.
func complete(t testing.TB, c *Capture) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-tick.C {
		if c.OutstandingDropped() == 0 {
			return
		}
	}
	n, err := c.LateDropped()
	require.NoError(t, err)
	require.Equal(t, c.OutstandingDropped(), n)
	t.Logf("the completions of %d writes went unseen", n)
}

// A write whose completion went unseen is known to have completed when its bio's address is remembered again. A bio of a
// synchronous direct write lies on its thread's stack, whose beginning most kernels choose anew within a KiB for each call.
func TestUnseenCompletionsAreMadeUpFor(t *testing.T) {
	c, d, dir := openOnFolder(t)

	more, written := make(chan struct{}), make(chan error, 1)
	go writeAgain(d, more, written)
	t.Cleanup(func() { // when nothing is frozen any more
		close(more)
		for range written {
		}
	})
	thaw := freeze(t, dir)
	more <- struct{}{}
	eventually(t, "the write is dropped and in flight", func() bool { return entries(c.dropped) == 1 })
	var address, key uint64
	var value droppedBio
	for it := c.dropped.Iterate(); it.Next(&key, &value); {
		address = key
	}
	thaw()
	require.NoError(t, <-written)
	complete(t, c)
	before := c.OutstandingDropped()

	const step, reach = 16, 1 << 10
	stale := uint64(0)
	for at := address - reach; at <= address+reach; at += step {
		if c.dropped.Lookup(at, &value) == nil {
			continue
		}
		require.NoError(t, c.dropped.Put(at, droppedBio{Word: value.Word, Sector: 8 * stale, Bytes: 512, Left: [2]uint64{512, 512}, Shift: 12}))
		stale++
	}
	atomic.AddUint64(&c.control.remembered, stale)
	atomic.AddUint64(&c.control.outstanding, stale)

	const enough = 1 // where the stack always begins at one place there are no more
	for range 300 {
		if c.OutstandingDropped() <= before+stale-enough {
			break
		}
		more <- struct{}{}
		require.NoError(t, <-written)
	}
	require.LessOrEqual(t, c.OutstandingDropped(), before+stale-enough, "of %d", stale)
	require.True(t, c.LateToDebt())
	late := 0
	for b := range stale {
		if start, _, ok := c.Debt(2).NextSet(b); ok && start == b {
			late++
		}
	}
	require.GreaterOrEqual(t, late, enough, "what had completed unseen is late")
	t.Logf("%d of %d", late, stale)
}

// writeAgain writes what is larger than the ring each time it is told to, past the first blocks, from one thread.
func writeAgain(d Disk, more <-chan struct{}, written chan<- error) {
	defer close(written)
	runtime.LockOSThread()
	p := blockdev.AlignedBuffer(128 << 10)
	for range more {
		f, err := os.OpenFile(d.Path, os.O_WRONLY|unix.O_DIRECT, 0)
		if err == nil {
			_, err = f.WriteAt(p, 16<<20)
			f.Close()
		}
		written <- err
	}
}
