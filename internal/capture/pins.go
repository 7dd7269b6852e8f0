package capture

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// A pin directory holds, on a bpffs, a pin per map and link of one capture:
//
//	<family>/<capture>/{bits,ring,control,meta,owner,disks,dropped}
//	<family>/<capture>/{queue,issue,bio_complete,bio_complete_twin,rq_complete,rq_complete_twin}
//
// They are made in no atomic way: control.complete is set last, and pins without it are removed. The directory is
// flock'ed while a process has the capture open, its family while one is made, taken over or removed.
var pinnedMaps = []string{"bits", "ring", "control", "meta", "owner", "disks", "dropped"}

// pinnedLinks are in the order of attaching: what marks completions before what makes them matter.
var pinnedLinks = []struct{ pin, program string }{
	{"rq_complete", "on_rq_complete"},
	{"rq_complete_twin", "on_rq_complete_twin"},
	{"bio_complete", "on_bio_complete"},
	{"bio_complete_twin", "on_bio_complete_twin"},
	{"issue", "on_issue"},
	{queuePin, "on_queue"},
}

const queuePin = "queue"

// Remove detaches and unpins the capture in pinDir. It is idempotent. It fails with a Conflict while the capture is
// open. The kernel detaches what has no pin left a moment after Remove has returned.
func Remove(pinDir string) error {
	if _, err := os.Stat(pinDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	family, err := enterFamily(pinDir)
	if err != nil {
		return err
	}
	defer family.Close()
	lock, err := lockPins(pinDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := clearPins(pinDir); err != nil {
		return err
	}
	if err := os.Remove(pinDir); err != nil {
		return fault.New(fault.Transient, "capture: remove", "%w", err)
	}
	return nil
}

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
		i := slices.IndexFunc(disks, func(d ownedDisk) bool { return other.captures(d.dev()) })
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

// clearPins removes every pin of a directory: links first, so that nothing runs on half the maps.
func clearPins(pinDir string) error {
	for i := len(pinnedLinks) - 1; i >= 0; i-- {
		if err := os.Remove(filepath.Join(pinDir, pinnedLinks[i].pin)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return pinFault(err)
		}
	}
	entries, err := os.ReadDir(pinDir)
	if err != nil {
		return pinFault(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(pinDir, e.Name())); err != nil {
			return pinFault(err)
		}
	}
	return nil
}

// adopt takes over the pins in pinDir. It returns no Capture and the reason if they cannot serve.
func adopt(pinDir string, want owner) (c *Capture, why string, err error) {
	p := parts{maps: map[string]*ebpf.Map{}}
	defer func() {
		if c == nil {
			p.close()
		}
	}()
	if why, err := p.load(pinDir); why != "" || err != nil {
		return nil, why, err
	}
	own, err := loadOwner(p.maps["owner"])
	if err != nil {
		return nil, err.Error(), nil
	}
	if why := own.differs(want); why != "" {
		return nil, why, nil
	}
	c, err = assemble(&p, own)
	if err != nil {
		return nil, "", err
	}
	if atomic.LoadUint64(&c.control.complete) != formatVersion {
		_ = c.unmap()
		c = nil
		return nil, "the pins were left half-made", nil
	}
	return c, "", nil
}

// parts are the kernel objects of a capture.
type parts struct {
	maps  map[string]*ebpf.Map
	links []link.Link
	queue *ebpf.Program
}

func (p *parts) load(pinDir string) (why string, err error) {
	for _, name := range pinnedMaps {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, name), nil)
		if err != nil {
			return missing(name, err)
		}
		p.maps[name] = m
	}
	for _, l := range pinnedLinks {
		k, err := link.LoadPinnedLink(filepath.Join(pinDir, l.pin), nil)
		if err != nil {
			return missing(l.pin, err)
		}
		p.links = append(p.links, k)
		info, err := k.Info()
		if err != nil {
			return missing(l.pin, err)
		}
		if l.pin != queuePin {
			continue
		}
		if p.queue, err = ebpf.NewProgramFromID(info.Program); err != nil {
			return missing(l.pin, err)
		}
	}
	return "", nil
}

// missing tells an absent pin, for which a new capture is the cure, from a kernel that does not let us look.
func missing(name string, err error) (string, error) {
	if errors.Is(err, os.ErrNotExist) {
		return "no pin " + name, nil
	}
	return "", kernelFault("take over pin "+name, err)
}

func (p *parts) closers() []io.Closer {
	var all []io.Closer
	for _, l := range p.links {
		all = append(all, l)
	}
	for _, m := range p.maps {
		all = append(all, m)
	}
	if p.queue != nil {
		all = append(all, p.queue)
	}
	return all
}

func (p *parts) close() {
	for _, k := range p.closers() {
		_ = k.Close()
	}
}

func pinFault(err error) error {
	kind, hint := fault.Transient, ""
	if errors.Is(err, os.ErrPermission) {
		kind, hint = fault.Denied, "run as root"
	}
	return fault.New(kind, "capture: pins", "%w", err).WithHint(hint)
}
