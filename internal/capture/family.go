package capture

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// enterFamily makes the parent of a pin directory, on a bpffs, and waits for the right to change it.
func enterFamily(pinDir string) (*os.File, error) {
	parent := filepath.Dir(pinDir)
	if err := ensureBPFFS(parent); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, pinFault(err)
	}
	f, err := os.Open(parent)
	if err != nil {
		return nil, pinFault(err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, pinFault(err)
		}
	}
}

// lockPins makes a pin directory and takes it for this process. The caller is in its family.
func lockPins(pinDir string) (*os.File, error) {
	if err := os.Mkdir(pinDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, pinFault(err)
	}
	f, err := os.Open(pinDir)
	if err != nil {
		return nil, pinFault(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.New(fault.Conflict, "capture: open", "another process has the capture in %s open", pinDir).
			WithHint("one agent runs per source server; stop the other one")
	}
	return f, nil
}

const (
	bpffsMagic = 0xcafe4a11
	bpffsRoot  = "/sys/fs/bpf"
)

// ensureBPFFS sees that dir, or what exists of the path to it, is on a bpffs. The system's own is mounted if need be.
func ensureBPFFS(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if err == unix.ENOENT && at != "/" {
			continue
		}
		if err != nil {
			return pinFault(err)
		}
		if uint32(st.Type) == bpffsMagic {
			return nil
		}
		break
	}
	if dir != bpffsRoot && !strings.HasPrefix(dir, bpffsRoot+"/") {
		return invalid("%s is not on a bpffs", dir)
	}
	if err := unix.Mount("bpf", bpffsRoot, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fault.New(fault.Unsupported, "capture: open", "mount bpffs at %s: %w", bpffsRoot, err).
			WithHint("mount -t bpf bpf /sys/fs/bpf")
	}
	return nil
}

// findConflict looks for another capture of one of the disks among the siblings of pinDir.
func findConflict(pinDir string, disks []ownedDisk) error {
	parent := filepath.Dir(pinDir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return pinFault(err)
	}
	for _, e := range entries {
		sibling := filepath.Join(parent, e.Name())
		if !e.IsDir() || sibling == filepath.Clean(pinDir) {
			continue
		}
		other, whole := readSibling(sibling)
		i := slices.IndexFunc(disks, func(d ownedDisk) bool { return other.captures(d) })
		if whole && i >= 0 {
			return fault.New(fault.Conflict, "capture: open", "%s is already captured by %q in %s", disks[i].Path, other.Owner, sibling).
				WithHint("a disk is captured once; stop the other source server's agent and remove its capture")
		}
	}
	return nil
}

// readSibling says what the capture in dir is, if it is whole.
func readSibling(dir string) (o owner, whole bool) {
	ownerMap, err := ebpf.LoadPinnedMap(filepath.Join(dir, "owner"), nil)
	if err != nil {
		return o, false
	}
	defer ownerMap.Close()
	controlMap, err := ebpf.LoadPinnedMap(filepath.Join(dir, "control"), nil)
	if err != nil {
		return o, false
	}
	defer controlMap.Close()
	value, err := controlMap.LookupBytes(uint32(0))
	if err != nil || len(value) < 8 || [8]byte(value[:8]) == [8]byte{} {
		return o, false
	}
	o, err = loadOwner(ownerMap)
	return o, err == nil
}
