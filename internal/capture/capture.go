// Package capture is the door to the kernel's block layer: it loads, pins and re-opens the BPF programs that copy
// every write of a set of disks, in submission order, into one ring, and keep dirty bitmaps for when the ring is full.
// Where the kernel does not let payloads be read it notes dirty blocks only, or watches the kernel's counters.
//
// The agent's source side and its assembly import it; nobody else does, and only this package imports the eBPF
// library. It runs on x86_64 kernels from 6.1 on, with BTF, as root.
//
// The heart is bpf/capture.bpf.c. What it shares with this package is in bpf/layout.h, mirrored by record.go (the
// ring) and shared.go (the maps). docs/design/2026-11-22-replication.md says which invariants both keep.
package capture

import (
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/understudy-dr/understudy/internal/blockdev"
)

// Disk is one captured whole disk.
type Disk struct {
	Index uint16 `json:"index"` // how records name it; stable for the life of the source server
	Path  string `json:"path"`  // of a device node
	Major uint32 `json:"major"` // of the whole disk, never of a partition
	Minor uint32 `json:"minor"`
	Bytes uint64 `json:"bytes"`
}

func (d Disk) dev() blockdev.Dev { return blockdev.Dev{Major: d.Major, Minor: d.Minor} }

// Options say what to capture and where its pins live.
type Options struct {
	Mode      Mode   // payload when empty
	PinDir    string // a directory of a bpffs, this capture's own; siblings are other captures
	RingBytes int    // a power of two, 64 KiB to 2 GiB; of payload mode
	Owner     string // who captures: the source server's identity, recorded with the pins
	Disks     []Disk
	Log       *slog.Logger `json:"-"`
}

// Capture is a running capture, mapped into this process. The programs live in the kernel: closing the Capture,
// or dying, does not stop them.
//
// Next, Release, Flip and the other movers belong to one goroutine at a time; counters, Meta, Next at offsets that are
// not released, and bitmaps of Debt may be used by any. After Close nothing may be used, nor any Data or Bitmap.
type Capture struct {
	stream
	*shared
	owner     owner
	fresh     bool
	silent    []uint16      // disks without requests: nothing tells when a write to them completes
	drainSeen atomic.Uint64 // the latest request for draining that Draining saw, which EndDrain answers
	programs  map[string]*ebpf.Program
	coarse    bool // whole disks were made dirty since the last debt, or in it
	audits    map[uint16]*audit
	doubts    doubts
	lost      uint64    // of control.lost, as last seen
	lostAt    time.Time // when it was seen to grow
	log       *slog.Logger
	disks     *ebpf.Map
	dropped   *ebpf.Map
	kept      []io.Closer // links and maps: a link that loses its last reference detaches
	lock      *os.File
}

// Open takes over the pinned capture in PinDir if it is whole, attached and of the same owner, disks and ring size;
// else it removes what is there and loads, attaches and pins anew.
//
// It fails with a Conflict while another process has the capture open, or if a sibling of PinDir captures one of the
// disks; with Unsupported where the kernel cannot capture, saying why.
func Open(o Options) (*Capture, error) {
	if o.Mode == "" {
		o.Mode = ModePayload
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	own, err := describe(o)
	if err != nil {
		return nil, err
	}
	if err := supported(o.Mode); err != nil {
		return nil, err
	}
	family, err := enterFamily(o.PinDir)
	if err != nil {
		return nil, err
	}
	defer family.Close()
	if err := findConflict(o.PinDir, own.Disks); err != nil {
		return nil, err
	}
	lock, err := lockPins(o.PinDir)
	if err != nil {
		return nil, err
	}
	c, err := openLocked(o, own)
	if err != nil {
		lock.Close()
		return nil, err
	}
	if c.fresh {
		c.lostAt = time.Now() // what was on its way to a disk without requests was never remembered
	}
	c.lock, c.silent, c.log = lock, own.silent, o.Log
	return c, nil
}

func openLocked(o Options, own owner) (*Capture, error) {
	c, why, err := adopt(o.PinDir, own)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return c, nil
	}
	o.Log.Info("making a new capture", "mode", o.Mode, "pins", o.PinDir, "reason", why, "disks", len(own.Disks), "ring", o.RingBytes)
	if err := clearPins(o.PinDir); err != nil {
		return nil, err
	}
	c, err = create(o.PinDir, own)
	if err != nil {
		_ = clearPins(o.PinDir) // what is left is half-made, which the next Open sees
		return nil, err
	}
	return c, nil
}

// ID is made when the programs are loaded: another ID means that tracking was lost.
func (c *Capture) ID() [16]byte { return c.owner.ID }

// Mode is payload or bitmap.
func (c *Capture) Mode() Mode { return c.owner.Mode }

// Fresh says that this Open made the capture anew.
func (c *Capture) Fresh() bool { return c.fresh }

// Close unmaps. The programs stay attached and keep capturing.
func (c *Capture) Close() error {
	err := c.unmap()
	for _, k := range c.kept {
		if cerr := k.Close(); err == nil {
			err = cerr
		}
	}
	c.kept = nil
	if cerr := c.lock.Close(); err == nil {
		err = cerr
	}
	return err
}

func (c *Capture) unmap() error {
	err := c.shared.unmap()
	if rerr := c.stream.unmap(); err == nil {
		err = rerr
	}
	return err
}
