package sink

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	maintenanceNice = 10

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
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, maintenanceNice); err != nil {
		return err
	}
	prio := uintptr(ioprioBestEffort<<ioprioClassShift | ioprioLowest)
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, prio); errno != 0 {
		return errno
	}
	return nil
}
