package capture

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

const membarrierGlobal = 1 << 0 // MEMBARRIER_CMD_GLOBAL: wait for an RCU grace period

// gracePeriod waits until every program that was running when it was called has ended. The programs run with
// preemption off, for which RCU waits too.
func gracePeriod() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno == 0 {
		return nil
	}
	return visitEveryCPU() // the kernel refuses with nohz_full CPUs, and may be built without
}

// visitEveryCPU is a grace period by other means: a thread gets onto a CPU only when what ran there without
// preemption has ended.
func visitEveryCPU() error {
	const op = "capture: grace period"
	done := make(chan error, 1)
	go func() { // on a thread of its own, which ends with its affinity
		runtime.LockOSThread()
		done <- func() error {
			var allowed unix.CPUSet
			online, err := onlineCPUs()
			if err != nil {
				return fault.New(fault.Unsupported, op, "%w", err)
			}
			for _, cpu := range online {
				allowed.Zero()
				allowed.Set(cpu)
				if err := unix.SchedSetaffinity(0, &allowed); err != nil && err != unix.EINVAL { // EINVAL: gone offline
					return fault.New(fault.Unsupported, op, "CPU %d: %w", cpu, err)
				}
			}
			return nil
		}()
	}()
	return <-done
}
