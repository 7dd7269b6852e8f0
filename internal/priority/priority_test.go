package priority

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLower(t *testing.T) {
	nice := func() int {
		n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		require.NoError(t, err)
		return kernelNice - n
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mine := nice()
	done := make(chan [2]int)
	go func() { // the thread ends with the goroutine
		err := Lower()
		n, e := unix.Getpriority(unix.PRIO_PROCESS, 0)
		io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
		if err != nil || e != nil || errno != 0 {
			t.Error(err, e, errno)
		}
		done <- [2]int{kernelNice - n, int(io)}
	}()
	require.Equal(t, [2]int{min(mine+more, worstNice), ioprioBestEffort<<ioprioClassShift | ioprioLowest}, <-done)
	require.Equal(t, mine, nice(), "only that thread")
}
