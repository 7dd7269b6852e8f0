package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/usedblocks"
)

// mounted knows which file systems the kernel has mounted from one disk, in whatever mount namespace: each has a directory
// in sysfs.
type mounted struct {
	sys  string // where sysfs is
	disk string // the disk's name in it
}

func mountedFrom(device string) (mounted, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return mounted{}, err
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	return mounted{"/sys", filepath.Base(dir)}, err
}

// has tells whether the file system of a kind that lies at a place of the disk is mounted.
func (m mounted) has(kind string, at usedblocks.Place) bool {
	pattern := filepath.Join(m.sys, "fs", kind, "*")
	if kind == "btrfs" { // by its id, with its devices inside
		pattern = filepath.Join(pattern, "devices", "*")
	}
	found, _ := filepath.Glob(pattern) // it can only complain of the pattern
	for _, dir := range found {
		if m.lies(filepath.Base(dir), at) {
			return true
		}
	}
	return false
}

// lies tells whether a block device is the one at a place of the disk.
func (m mounted) lies(name string, at usedblocks.Place) bool {
	dir, err := filepath.EvalSymlinks(filepath.Join(m.sys, "class/block", name))
	switch {
	case err != nil:
		return false // not of a device
	case at.Volume != "":
		uuid := attribute(dir, "dm/uuid") // of the group and the volume, 32 letters each
		return len(uuid) == len("LVM-")+64 && strings.HasPrefix(uuid, "LVM-") && strings.HasSuffix(uuid, at.Volume)
	case name == m.disk:
		return at.Offset == 0
	case attribute(dir, "partition") == "" || filepath.Base(filepath.Dir(dir)) != m.disk:
		return false
	}
	start, err := strconv.ParseInt(attribute(dir, "start"), 10, 64)
	return err == nil && start*512 == at.Offset
}

func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
