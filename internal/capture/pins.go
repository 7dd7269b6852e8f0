package capture

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/understudy-dr/understudy/internal/fault"
)

// A pin directory holds, on a bpffs, a pin per map and link of one capture:
//
//	<family>/<capture>/{bits,ring,control,meta,owner,disks,dropped}
//	<family>/<capture>/{queue,issue,bio_complete,bio_complete_twin,rq_complete,rq_complete_twin}
//
// They are made in no atomic way: control.complete is set last, and pins without it are removed. The directory is
// flock'ed while a process has the capture open, its family while one is made, taken over or removed.
var commonMaps = []string{"bits", "control", "meta", "owner", "disks", "dropped"} // and ring, where there are payloads

// pinnedLinks are in the order of attaching: what marks completions before what makes them matter.
var pinnedLinks = []struct{ pin, program string }{
	{"rq_complete", "on_rq_complete"},
	{"rq_complete_twin", "on_rq_complete_twin"},
	{"bio_complete", "on_bio_complete"},
	{"bio_complete_twin", "on_bio_complete_twin"},
	{"issue", "on_issue"},
	{"queue", queueProgram},
}

const queueProgram = "on_queue"

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
	p := newParts(want.Mode)
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
	made := uint64(own.Version)
	ch, why := own.become(want)
	if why != "" {
		return nil, why, nil
	}
	c, err = assemble(&p, ch.next)
	if err != nil {
		return nil, "", err
	}
	if atomic.LoadUint64(&c.control.complete) != made {
		_ = c.unmap()
		c = nil
		return nil, "the pins were left half-made", nil
	}
	if err := c.change(&ch, p.maps["owner"]); err != nil {
		_ = c.unmap()
		c = nil
		return nil, "", err
	}
	return c, "", nil
}

// parts are the kernel objects of a capture.
type parts struct {
	mode     Mode
	maps     map[string]*ebpf.Map
	links    []link.Link
	programs map[string]*ebpf.Program
}

func newParts(m Mode) parts {
	return parts{mode: m, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}}
}

func (p *parts) load(pinDir string) (why string, err error) {
	for _, name := range p.mode.maps() {
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
		if p.programs[l.program], err = ebpf.NewProgramFromID(info.Program); err != nil {
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
	for _, prog := range p.programs {
		all = append(all, prog)
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
