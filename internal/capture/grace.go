package capture

import "github.com/cilium/ebpf"

// gracePeriod waits until every program that was running when it was called has ended: the kernel ends an update of a map of maps
// only when no program uses what was in it any more, whatever program that is (maybe_wait_bpf_programs: an RCU grace period).
// membarrier(2) waits in the same way, but not with nohz_full CPUs, nor on a machine of one processor, where a program
// may have been preempted since Linux 7.
func gracePeriod() error {
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
