package consistency

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// stack is the block devices below a file system: major:minor to the kernel's name.
type stack map[string]string

// on tells whether any of them is one of the disks.
func (s stack) on(disks []string) bool {
	for dev := range s {
		if slices.Contains(disks, dev) {
			return true
		}
	}
	return false
}

// served names a device whose data go through a process of this machine, which might wait for a frozen file system.
func (s stack) served() string {
	for _, name := range s {
		for _, prefix := range []string{"nbd", "ublk", "drbd"} {
			if strings.HasPrefix(name, prefix) {
				return name
			}
		}
	}
	return ""
}

const sysBlock = "/sys/dev/block"

func devicesOf(t *Target) stack {
	s := stack{}
	if !strings.HasPrefix(t.Device, "0:") {
		s.add(t.Device)
		return s
	}
	// Btrfs may span devices, so its superblock has a number of its own.
	var st unix.Stat_t
	if unix.Stat(t.source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return s
	}
	first := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	s.add(first)
	for _, dev := range btrfsDevices(first) {
		s.add(dev)
	}
	return s
}

// add adds a device and everything below it: a partition's disk, a mapped device's parts.
func (s stack) add(dev string) {
	if _, ok := s[dev]; ok {
		return
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(sysBlock, dev))
	if err != nil {
		return
	}
	s[dev] = filepath.Base(dir)
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		s.add(devOf(filepath.Dir(dir)))
	}
	below, _ := os.ReadDir(filepath.Join(dir, "slaves")) // none is none
	for _, b := range below {
		s.add(devOf(filepath.Join(dir, "slaves", b.Name())))
	}
}

func devOf(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "dev")) // "" is no device
	return strings.TrimSpace(string(b))
}

// btrfsDevices lists the devices of the Btrfs that one of them belongs to.
func btrfsDevices(one string) []string {
	all, _ := filepath.Glob("/sys/fs/btrfs/*/devices/*/dev") // the pattern is good
	var uuid string
	for _, f := range all {
		if devOf(filepath.Dir(f)) == one {
			uuid = filepath.Dir(filepath.Dir(f))
		}
	}
	var out []string
	for _, f := range all {
		if uuid != "" && strings.HasPrefix(f, uuid+"/") {
			out = append(out, devOf(filepath.Dir(f)))
		}
	}
	return out
}
