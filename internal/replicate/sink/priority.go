package sink

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	maintenanceNice = 10 // more than what the process has
	kernelNice      = 20 // the kernel says 20 - nice
	worstNice       = 19

	ioprioWhoProcess = 1 // a thread, in spite of its name
	ioprioBestEffort = 2
	ioprioClassShift = 13
	ioprioLowest     = 7
)

// lowerPriority makes the calling goroutine give way to ingest at the processor and, where the disk's scheduler knows
// priorities, at the disk. It must run until its goroutine ends: the thread goes with it, for what was given up does not
// come back. An error means that it goes on as before.
func lowerPriority() error {
	runtime.LockOSThread()
	have, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, min(kernelNice-have+maintenanceNice, worstNice)); err != nil {
		return err
	}
	prio := uintptr(ioprioBestEffort<<ioprioClassShift | ioprioLowest)
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, prio); errno != 0 {
		return errno
	}
	return nil
}
