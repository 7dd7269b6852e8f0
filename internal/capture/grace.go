package capture

import (
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const membarrierGlobal = 1 << 0 // MEMBARRIER_CMD_GLOBAL: wait for an RCU grace period

// gracePeriod waits until every program that was running when it was called has ended. The programs run in RCU's critical
// sections. They used to run with preemption off as well, but newer kernels (7.3 does) may preempt them.
func gracePeriod() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno == 0 {
		return nil
	}
	return replaceInnerMap() // the kernel refuses with nohz_full CPUs, and may be built without
}

// replaceInnerMap is a grace period by other means: the kernel ends an update of a map of maps only when no program uses what
// was in it any more, and waits for all programs to know.
func replaceInnerMap() error {
	const op = "grace period"
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	in, err := ebpf.NewMap(inner)
	if err != nil {
		return kernelFault(op, err)
	}
	defer in.Close()
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return kernelFault(op, err)
	}
	defer outer.Close()
	return kernelFault(op, outer.Put(uint32(0), in))
}
