// Package priority makes a goroutine give way to everything else at the processor and at the disk.
//
// The replication server's maintenance imports it, and the agent's assembly for what compresses: both must not take from
// others what can wait.
package priority

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	more       = 10 // niceness, than what the process has
	kernelNice = 20 // the kernel says 20 - nice
	worstNice  = 19

	ioprioWhoProcess = 1 // a thread, in spite of its name
	ioprioBestEffort = 2
	ioprioClassShift = 13
	ioprioLowest     = 7
)

// Lower makes the calling goroutine give way at the processor and, where the disk's scheduler knows priorities, at the disk. It
// must run until its goroutine ends: the thread goes with it, for what was given up does not come back. An error means
// that it goes on as before.
func Lower() error {
	runtime.LockOSThread()
	have, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return fault.New(fault.Unknown, "priority: read", "%w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, min(kernelNice-have+more, worstNice)); err != nil {
		return fault.New(fault.Denied, "priority: lower", "%w", err)
	}
	prio := uintptr(ioprioBestEffort<<ioprioClassShift | ioprioLowest)
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, prio); errno != 0 {
		return fault.New(fault.Denied, "priority: lower at the disk", "%w", errno)
	}
	return nil
}
