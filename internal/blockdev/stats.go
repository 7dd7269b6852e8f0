package blockdev

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// InFlightWrites counts the writes that the disk's driver has not completed. Discards count as writes. Where the
// administrator has turned statistics off, which reads as no writes, it fails.
func InFlightWrites(disk Dev) (uint64, error) { return statField(disk, "inflight", 1) }

// WriteSectors counts the 512-byte sectors written to the disk since it appeared, by completed writes.
// Zeroing counts, discarding does not.
func WriteSectors(disk Dev) (uint64, error) { return statField(disk, "stat", 6) }

// Written is what a disk was done to since it appeared, as the kernel counts. Two that differ mean that something was
// written in between, and completed before the second was read.
type Written struct{ Writes, Sectors, Discards, DiscardedSectors uint64 }

// WrittenTo reads a disk's counters, all at once. It fails as InFlightWrites does.
func WrittenTo(disk Dev) (Written, error) {
	f, err := statFields(disk, "stat", 14)
	if err != nil {
		return Written{}, err
	}
	return Written{Writes: f[4], Sectors: f[6], Discards: f[11], DiscardedSectors: f[13]}, nil
}

func statField(disk Dev, file string, field int) (uint64, error) {
	f, err := statFields(disk, file, field+1)
	if err != nil {
		return 0, err
	}
	return f[field], nil
}

// statFields reads at least the given number of fields, added up over all that counts for the disk.
func statFields(disk Dev, file string, least int) ([]uint64, error) {
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + disk.String())
	if err != nil {
		return nil, fault.New(fault.NotFound, "blockdev: statistics", "disk %s: %w", disk, err)
	}
	var sum []uint64
	for _, counter := range counters(dir, "/sys/block") {
		fields, err := readFields(counter, file, least)
		if err != nil {
			return nil, fault.Wrap("disk "+disk.String(), err)
		}
		if sum == nil {
			sum = make([]uint64, len(fields))
		}
		for i := range sum[:min(len(sum), len(fields))] {
			sum[i] += fields[i]
		}
	}
	return sum, nil
}

// counters are where the kernel counts what is done to the disk that sysfs has at dir. An NVMe disk that may have several
// paths passes everything on to one of those, hidden disks that count it as any disk does; whether the disk itself counts
// depends on the kernel, and one that does not reads as if nothing was ever written.
func counters(dir, block string) []string {
	if !strings.HasPrefix(dir, "/sys/devices/virtual/nvme-subsystem/") {
		return []string{dir}
	}
	subsystem, namespace, ok := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "nvme"), "n")
	paths, err := filepath.Glob(filepath.Join(block, "nvme"+subsystem+"c*n"+namespace))
	if !ok || err != nil || len(paths) == 0 {
		return []string{dir}
	}
	return paths
}

func readFields(dir, file string, least int) ([]uint64, error) {
	const op = "blockdev: statistics"
	if attr(dir, "queue/iostats") == "0" {
		return nil, fault.New(fault.Unsupported, op, "%s keeps none", filepath.Base(dir)).
			WithHint("write 1 to queue/iostats of " + filepath.Base(dir) + " in /sys/block")
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, fault.New(fault.NotFound, op, "%w", err)
	}
	var fields []uint64
	for _, text := range strings.Fields(string(b)) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fault.New(fault.Unsupported, op, "%s: %w", file, err)
		}
		fields = append(fields, n)
	}
	if len(fields) < least {
		return nil, fault.New(fault.Unsupported, op, "%s has %d fields", file, len(fields))
	}
	return fields, nil
}
