package capture

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// detach breaks a capture: one of its programs runs no more.
func detach(t testing.TB, c *Capture, program string) {
	t.Helper()
	info, err := c.programs[program].Info()
	require.NoError(t, err)
	id, ok := info.ID()
	require.True(t, ok)
	found := false
	c.kept = slices.DeleteFunc(c.kept, func(k io.Closer) bool {
		l, ok := k.(link.Link)
		if !ok {
			return false
		}
		li, err := l.Info()
		require.NoError(t, err)
		if li.Program != id {
			return false
		}
		require.NoError(t, l.Unpin())
		require.NoError(t, l.Close())
		found = true
		return true
	})
	require.True(t, found)
	stats := func() uint64 {
		s, err := c.programs[program].Stats()
		require.NoError(t, err)
		return s.RunCount
	}
	closer, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	require.NoError(t, err)
	defer closer.Close()
	eventually(t, "the kernel has detached the program", func() bool { // it does so on a work queue
		before := stats()
		readDirect(t, c.owner.Disks[0].Disk)
		return stats() == before
	})
}

// readDirect makes a bio that no mode cares for, but that every program at bios sees.
func readDirect(t testing.TB, d Disk) {
	t.Helper()
	dev, err := blockdev.Open(d.Path)
	require.NoError(t, err)
	defer dev.Close()
	_, err = dev.ReadAt(blockdev.AlignedBuffer(4096), 0)
	require.NoError(t, err)
}

// A write that the queue program does not see is found by the kernel's count: nothing is promised any more, the disk is
// owed whole, and the other one is not.
func TestAuditFindsWhatIsNotSeen(t *testing.T) {
	needKernel(t)
	for _, m := range []Mode{ModePayload, ModeBitmap} {
		t.Run(string(m), func(t *testing.T) {
			d, other := testDisk(t, 1, 16<<20), testDisk(t, 2, 16<<20)
			c := start(t, m, testOptions(t, 1<<20, d, other)).(*Capture)
			writeDirect(t, d, blockdev.AlignedBuffer(64<<10), 0)
			eventually(t, "the counts are known to agree", func() bool {
				require.NoError(t, c.Flip())
				return !c.Doubts().Proven[1].IsZero()
			})
			require.Empty(t, c.Doubts().MissedSectors)
			c.DirtyToDebt()
			c.Debt(1).Clear(0, c.Debt(1).Blocks())

			detach(t, c, queueProgram)
			writeDirect(t, d, blockdev.AlignedBuffer(12<<10), 1<<20)
			before := c.Drops()
			require.NoError(t, c.Flip())
			require.Greater(t, c.Drops(), before)
			require.Equal(t, map[uint16]uint64{1: 24}, c.Doubts().MissedSectors)
			require.True(t, c.Coarse())
			c.DirtyToDebt()
			require.Equal(t, c.Debt(1).Blocks(), c.Debt(1).Count())
			require.Zero(t, c.Debt(2).Count())

			before = c.Drops()
			require.NoError(t, c.Flip())
			require.Equal(t, before, c.Drops(), "it is told once")
		})
	}
}

func TestAuditJudges(t *testing.T) {
	start := time.Unix(1000, 0)
	look := func(inFlight, completed, queued uint64) sample {
		s := sample{inFlight: inFlight, completed: completed, queued: queued}
		s.after.completed, s.after.inFlight = completed, inFlight
		return s
	}
	var a audit
	judge := func(after time.Duration, s sample) (uint64, bool) { return a.judge(s, start.Add(after)) }
	expect := func(after time.Duration, s sample, missed uint64, proven bool) {
		t.Helper()
		m, p := judge(after, s)
		require.Equal(t, missed, m)
		require.Equal(t, proven, p)
	}
	expect(0, look(0, 1000, 8), 0, false) // a write may be on its way
	expect(999*time.Millisecond, look(0, 1000, 8), 0, false)
	expect(time.Second, look(0, 1000, 8), 0, true)
	expect(2*time.Second, look(3, 1010, 28), 0, false)
	expect(3*time.Second, look(3, 1030, 28), 10, false) // 20 were seen, 30 came
	expect(4*time.Second, look(1, 1034, 48), 0, false)
	expect(5*time.Second, look(0, 1050, 48), 0, true)
	expect(6*time.Second, look(0, 1050, 56), 0, false) // a write that fails
	expect(7*time.Second, look(0, 1050, 56), 0, true)
	expect(8*time.Second, look(0, 1058, 60), 4, false) // now 4 are enough to tell

	a = audit{} // never still
	for i := range uint64(auditLooks) {
		pending := uint64(8)
		if i == 3 {
			pending = 0
		}
		expect(0, look(0, 1000+8*i, 8*i+pending), 0, i+1 == auditLooks && pending == 0)
	}
	expect(0, look(0, 2000, 1000), 0, true)
	expect(0, look(0, 2001, 1000), 1, false)
	for i := range uint64(3 * auditLooks) { // and 100 that fail are forgotten in two windows
		missed, _ := judge(time.Duration(i)*auditWindow/4, look(0, 3001+i, 2100+i))
		require.Zero(t, missed)
	}
	expect(10*auditWindow, look(0, 3101, 2200), 0, true)
	expect(10*auditWindow, look(0, 3101, 2199), 1, false)

	moving := look(0, 8, 8)
	moving.after.completed = 16
	require.False(t, moving.quiet())
}

// A disk without statistics is said to be unaudited, and audited again when it has them.
func TestAuditNeedsStatistics(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 1, 16<<20)
	c := open(t, testOptions(t, 1<<20, d))
	knob := filepath.Join("/sys/block", filepath.Base(d.Path), "queue/iostats")
	require.NoError(t, os.WriteFile(knob, []byte("0"), 0))
	t.Cleanup(func() { _ = os.WriteFile(knob, []byte("1"), 0) })
	require.NoError(t, c.Flip())
	require.Contains(t, c.Doubts().Unaudited[1], "keeps none")
	require.NoError(t, os.WriteFile(knob, []byte("1"), 0))
	require.NoError(t, c.Flip())
	require.Empty(t, c.Doubts().Unaudited)
}

// What another capture of this test's process found stays its own; misses of every program are told.
func TestDoubtsNameEveryProgram(t *testing.T) {
	needKernel(t)
	c := open(t, testOptions(t, 1<<20, testDisk(t, 1, 16<<20)))
	require.NoError(t, c.Flip())
	require.Len(t, c.Doubts().RecursionMisses, len(pinnedLinks))
	require.Contains(t, c.Doubts().RecursionMisses, queueProgram)
}
