package blockdev

import (
	"os"
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

// statFields reads at least the given number of fields.
func statFields(disk Dev, file string, least int) ([]uint64, error) {
	dir := "/sys/dev/block/" + disk.String()
	if attr(dir, "queue/iostats") == "0" {
		return nil, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s keeps none", disk).
			WithHint("write 1 to queue/iostats of the disk in /sys/block")
	}
	b, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		return nil, fault.New(fault.NotFound, "blockdev: statistics", "disk %s: %w", disk, err)
	}
	var fields []uint64
	for _, text := range strings.Fields(string(b)) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s: %s: %w", disk, file, err)
		}
		fields = append(fields, n)
	}
	if len(fields) < least {
		return nil, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s: %s has %d fields", disk, file, len(fields))
	}
	return fields, nil
}
