package consistency

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Selection is which file systems to freeze: Auto, None or a list of mount points.
type Selection struct{ mounts []string }

// Auto and None as they are written.
const (
	Auto = "auto"
	None = "none"
)

// ParseSelection reads "auto", "none" or a comma-separated list of mount points.
func ParseSelection(s string) (Selection, error) {
	switch s {
	case Auto, "":
		return Selection{}, nil
	case None:
		return Selection{mounts: []string{}}, nil
	}
	list := strings.Split(s, ",")
	for _, m := range list {
		if !strings.HasPrefix(m, "/") {
			return Selection{}, fault.New(fault.Invalid, "consistency: file systems", "%q is neither auto, none nor a mount point", m)
		}
	}
	return Selection{mounts: list}, nil
}

func (s Selection) auto() bool { return s.mounts == nil }

// Nothing tells whether nothing is to be frozen, ever.
func (s Selection) Nothing() bool { return s.mounts != nil && len(s.mounts) == 0 }

// Target is a mounted file system.
type Target struct {
	Mount  string `json:"mount"`
	Device string `json:"device"` // of its superblock, as major:minor

	id       int // of the mount
	fs       string
	source   string
	writable bool
	file     *os.File
}

// freezable are the file systems that a freeze brings into a state which needs no replay.
var freezable = []string{"ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs"}

// parseMounts reads /proc/self/mountinfo. One superblock may appear more than once.
func parseMounts(r io.Reader) ([]*Target, error) {
	var out []*Target
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		own, rest, ok := strings.Cut(lines.Text(), " - ")
		f, g := strings.Fields(own), strings.Fields(rest)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue // a kernel that says more or less than documented
		}
		t := &Target{Mount: unescape(f[4]), Device: f[2], fs: g[0], source: unescape(g[1])}
		for _, c := range f[0] {
			t.id = 10*t.id + int(c-'0')
		}
		t.writable = slices.Contains(strings.Split(g[2], ","), "rw")
		out = append(out, t)
	}
	if err := lines.Err(); err != nil {
		return nil, fault.New(fault.Transient, "consistency: mounts", "%w", err)
	}
	return out, nil
}

// unescape undoes the octal that the kernel writes for blanks and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

func mounts() ([]*Target, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.New(fault.Unsupported, "consistency: mounts", "%w", err)
	}
	defer f.Close()
	return parseMounts(f)
}

// targets lists what to freeze, in the order to freeze it: what was mounted last first, because it may lie in a file of
// what was mounted before.
func (s Selection) targets(disks []string, log *slog.Logger) ([]*Target, error) {
	if s.Nothing() {
		return nil, nil
	}
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var out []*Target
	if s.auto() {
		out = automatic(all, disks, log)
	} else if out, err = s.named(all, disks); err != nil {
		return nil, err
	}
	slices.Reverse(out)
	return out, nil
}

// automatic is every file system that can be frozen and lies on a replicated disk.
func automatic(all []*Target, disks []string, log *slog.Logger) []*Target {
	var out []*Target
	seen := map[string]bool{}
	for _, t := range all {
		if seen[t.Device] || !t.writable || !slices.Contains(freezable, t.fs) || !t.reachable() {
			continue
		}
		under := devicesOf(t)
		if !under.on(disks) {
			continue
		}
		seen[t.Device] = true
		if name := under.served(); name != "" {
			log.Info("a file system is not frozen: its device is served by a process of this machine", "mount", t.Mount, "device", name)
			continue
		}
		out = append(out, t)
	}
	return out
}

func (s Selection) named(all []*Target, disks []string) ([]*Target, error) {
	const op = "consistency: file systems"
	var out []*Target
	seen := map[string]bool{}
	for _, t := range all {
		if !slices.Contains(s.mounts, t.Mount) || seen[t.Device] || !t.reachable() {
			continue
		}
		switch {
		case !t.writable:
			return nil, fault.New(fault.Invalid, op, "%s is mounted for reading only", t.Mount)
		case !devicesOf(t).on(disks):
			return nil, fault.New(fault.Invalid, op, "%s is not on a disk that is replicated", t.Mount)
		}
		seen[t.Device] = true
		out = append(out, t)
	}
	for _, m := range s.mounts {
		if !slices.ContainsFunc(all, func(t *Target) bool { return t.Mount == m && seen[t.Device] }) {
			return nil, fault.New(fault.NotFound, op, "nothing is mounted at %s", m).WithHint("see findmnt, and --freeze")
		}
	}
	return out, nil
}

// reachable tells whether the path leads to this mount, and not to one over it.
func (t *Target) reachable() bool {
	f, err := t.open()
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func (t *Target) open() (*os.File, error) {
	f, err := os.OpenFile(t.Mount, unix.O_RDONLY, 0)
	if err != nil {
		return nil, fault.New(fault.Denied, "consistency: open a file system", "%w", err)
	}
	var st unix.Statx_t
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != uint64(t.id) {
		f.Close()
		return nil, fault.New(fault.Conflict, "consistency: open a file system", "something else is mounted over %s", t.Mount)
	}
	return f, nil
}

func openTargets(targets []*Target) (err error) {
	for _, t := range targets {
		if t.file, err = t.open(); err != nil {
			closeTargets(targets)
			return err
		}
	}
	return nil
}

func closeTargets(targets []*Target) {
	for _, t := range targets {
		if t.file != nil {
			t.file.Close()
			t.file = nil
		}
	}
}

// thawLeft thaws what an agent that is gone may have left frozen.
func (t *Target) thawLeft() (bool, error) {
	all, err := mounts()
	if err != nil {
		return false, err
	}
	for _, now := range all {
		if now.Mount != t.Mount || now.Device != t.Device {
			continue
		}
		f, err := now.open()
		if err != nil {
			continue
		}
		defer f.Close()
		err = thaw(int(f.Fd()))
		if errors.Is(err, unix.EINVAL) {
			return false, nil // it is not frozen
		}
		return err == nil, err
	}
	return false, nil // it is not mounted any more, so it is not frozen either
}
