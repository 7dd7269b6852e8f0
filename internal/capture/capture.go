// Package capture is the door to the kernel's block layer: it loads, pins and re-opens the BPF programs that copy
// every write of a set of disks, in submission order, into one ring, and keep dirty bitmaps for when the ring is full.
//
// The agent's source side and its assembly import it; nobody else does, and only this package imports the eBPF
// library. It runs on x86_64 kernels from 6.1 on, with BTF, as root.
package capture

import (
	"log/slog"
)

// Disk is one captured whole disk.
type Disk struct {
	Index        uint16 // how records name it; stable for the life of the source server
	Path         string // for messages only
	Major, Minor uint32 // of the whole disk, never of a partition
	Bytes        uint64
}

// Options say what to capture and where its pins live.
type Options struct {
	PinDir    string // a directory of a bpffs, this capture's own; siblings are other captures
	RingBytes int    // a power of two, at least one page
	Owner     string // who captures: the source server's identity, recorded with the pins
	Disks     []Disk
	Log       *slog.Logger
}

// Capture is a running capture, mapped into this process. The programs live in the kernel: closing the Capture,
// or dying, does not stop them.
//
// Next, Release, Flip and the other movers belong to one goroutine at a time; counters may be read by any.
type Capture struct{}

// Open takes over the pinned capture in PinDir if it is whole, attached and of the same disks and ring size;
// else it removes what is there and loads, attaches and pins anew.
func Open(o Options) (*Capture, error) { return nil, nil }

// Remove detaches and unpins the capture in pinDir. It is idempotent.
func Remove(pinDir string) error { return nil }

// ID is made when the programs are loaded: another ID means that tracking was lost.
func (c *Capture) ID() [16]byte { return [16]byte{} }

// Fresh says that this Open made the capture anew.
func (c *Capture) Fresh() bool { return false }

// Close unmaps. The programs stay attached and keep capturing.
func (c *Capture) Close() error { return nil }
