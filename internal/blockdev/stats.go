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

func statField(disk Dev, file string, field int) (uint64, error) {
	dir := "/sys/dev/block/" + disk.String()
	if attr(dir, "queue/iostats") == "0" {
		return 0, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s keeps none", disk).
			WithHint("write 1 to queue/iostats of the disk in /sys/block")
	}
	b, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		return 0, fault.New(fault.NotFound, "blockdev: statistics", "disk %s: %w", disk, err)
	}
	f := strings.Fields(string(b))
	if field >= len(f) {
		return 0, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s: %s has %d fields", disk, file, len(f))
	}
	n, err := strconv.ParseUint(f[field], 10, 64)
	if err != nil {
		return 0, fault.New(fault.Unsupported, "blockdev: statistics", "disk %s: %s: %w", disk, file, err)
	}
	return n, nil
}
