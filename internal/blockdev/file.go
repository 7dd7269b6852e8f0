package blockdev

import (
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// OfFile is the whole disk under the file system that holds path. File systems over several disks, or over none, are
// Unsupported.
func OfFile(path string) (Dev, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Dev{}, fault.New(fault.NotFound, "blockdev: disk of "+path, "%w", err)
	}
	info, err := stat(path, Dev{unix.Major(st.Dev), unix.Minor(st.Dev)})
	if err != nil {
		return Dev{}, fault.New(fault.Unsupported, "blockdev: disk of "+path, "%w", err)
	}
	return info.Disk, nil
}
