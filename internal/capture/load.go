package capture

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// create loads, attaches and pins a new capture into an empty pin directory.
func create(pinDir string, own owner) (*Capture, error) {
	var a addresses
	var err error
	if own.Mode == ModePayload {
		if a, err = calibrate(own.Disks[0].Disk); err != nil {
			return nil, err
		}
	}
	own.lay()
	p := newParts(own.Mode)
	c, err := p.create(pinDir, own, a)
	if err != nil {
		p.close()
		return nil, err
	}
	return c, nil
}

func (p *parts) create(pinDir string, own owner, a addresses) (*Capture, error) {
	if err := p.loadNew(own, a); err != nil {
		return nil, err
	}
	c, err := assemble(p, own)
	if err != nil {
		return nil, err
	}
	if err := p.publish(pinDir, c.control); err != nil {
		_ = c.unmap()
		return nil, err
	}
	c.kept, c.fresh = p.closers(), true
	return c, nil
}

// publish fills, pins and attaches; complete is said last.
func (p *parts) publish(pinDir string, ctl *control) error {
	atomic.StoreUint64(&ctl.drainWanted, 1)
	for _, name := range p.mode.maps() {
		if err := p.maps[name].Pin(filepath.Join(pinDir, name)); err != nil {
			return kernelFault("pin "+name, err)
		}
	}
	for _, l := range pinnedLinks {
		k, err := link.AttachTracing(link.TracingOptions{Program: p.programs[l.program]})
		if err != nil {
			return kernelFault("attach "+l.program, err)
		}
		p.links = append(p.links, k)
		if err := k.Pin(filepath.Join(pinDir, l.pin)); err != nil {
			return kernelFault("pin "+l.pin, err)
		}
	}
	atomic.StoreUint64(&ctl.complete, formatVersion)
	return nil
}

// loadNew loads the programs with maps of the right sizes and fills the maps that tell who and what.
func (p *parts) loadNew(own owner, a addresses) error {
	pl := own.plan()
	spec, err := parseObject(own.Mode)
	if err != nil {
		return err
	}
	constants := map[string]uint64{"region_words": pl.words}
	if own.Mode == ModePayload {
		delete(spec.Programs, "on_calibrate")
		delete(spec.Programs, "on_probe")
		delete(spec.Maps, "calibration")
		spec.Maps["ring"].MaxEntries = uint32(own.RingBytes)
		constants["ring_bytes"], constants["vmemmap"], constants["page_offset"] = uint64(own.RingBytes), a.vmemmap, a.pageOffset
	} else {
		delete(spec.Maps, "ring")
	}
	spec.Maps["bits"].MaxEntries = uint32(regions * pl.words)
	spec.Maps["disks"].MaxEntries = uint32(len(own.Disks) + spareDisks)
	for name, v := range constants {
		if err := spec.Variables[name].Set(v); err != nil {
			return fault.New(fault.Bug, "capture: load", "%s: %w", name, err)
		}
	}
	options, err := loadOptions()
	if err != nil {
		return err
	}
	all, err := ebpf.NewCollectionWithOptions(spec, options)
	if err != nil {
		return kernelFault("load", err)
	}
	defer all.Close() // what is detached from it stays
	for _, name := range p.mode.maps() {
		p.maps[name] = all.DetachMap(name)
	}
	for name := range spec.Programs {
		p.programs[name] = all.DetachProgram(name)
	}
	return p.describe(own, pl)
}

// describe fills the owner and disks maps.
func (p *parts) describe(own owner, pl plan) error {
	if err := own.store(p.maps["owner"]); err != nil {
		return err
	}
	for _, d := range own.Disks {
		if err := p.maps["disks"].Put(deviceKey(d.dev()), pl.entry(d)); err != nil {
			return kernelFault("describe disks", err)
		}
	}
	return nil
}

// entry is what the programs know of a disk.
func (p plan) entry(d ownedDisk) diskEntry {
	dp := p.disks[d.Index]
	return diskEntry{Word: dp.word, Sectors: d.Bytes >> 9, Shift: uint32(dp.shift), Index: uint32(d.Index)}
}

// deviceKey is the key of the disks map.
func deviceKey(d blockdev.Dev) uint32 { return d.Major<<20 | d.Minor }

// assemble maps the parts into this process. It owns them from then on if it succeeds.
func assemble(p *parts, own owner) (*Capture, error) {
	s, err := mapShared(p.maps["control"], p.maps["meta"], p.maps["bits"], own.plan())
	if err != nil {
		return nil, err
	}
	c := &Capture{shared: s, owner: own, programs: p.programs, disks: p.maps["disks"], dropped: p.maps["dropped"]}
	if own.Mode == ModePayload {
		r, err := mapRing(p.maps["ring"].FD(), own.RingBytes)
		if err != nil {
			_ = s.unmap()
			return nil, err
		}
		c.stream = &r
	} else {
		c.stream = newCounted(&s.control.drops)
	}
	c.kept = p.closers()
	c.drainSeen.Store(atomic.LoadUint64(&s.control.drainEnded))
	return c, nil
}

func parseObject(m Mode) (*ebpf.CollectionSpec, error) {
	object := payloadObject
	if m == ModeBitmap {
		object = bitmapObject
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fault.New(fault.Bug, "capture: load", "%w", err)
	}
	return spec, nil
}

// kernelFault classes what the BPF system calls refuse.
func kernelFault(doing string, err error) error {
	if err == nil {
		return nil
	}
	kind, hint := fault.Unsupported, "needs Linux 6.1 or later on x86_64, built with BTF and BPF; the kernel log may say more"
	switch {
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.E2BIG):
		kind, hint = fault.OutOfSpace, "not enough memory for the ring and bitmaps; make the ring smaller"
	case errors.Is(err, os.ErrPermission):
		kind, hint = fault.Denied, "run as root, outside any container that forbids bpf(2)"
	}
	return fault.New(kind, "capture: "+doing, "%w", err).WithHint(hint)
}
