package source

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// MinBandwidth is the smallest limit that SetBandwidth sets, in bytes per second.
const MinBandwidth = 64 << 10

const (
	publishEvery  = 250 * time.Millisecond
	maxBackoff    = 5 * time.Second
	cycleEvery    = time.Second          // generations are flipped, and marks sent, so often
	holdFrame     = 5 * time.Millisecond // a frame waits so long for more while one follows the other
	settleAtMost  = 60 * time.Second     // twice the SCSI command timeout
	settleAtLeast = time.Second
	zeroPiece     = 4096             // zeroes are looked for in pieces of this size
	baseFrame     = 256 << 10        // raw bytes of a baseline frame
	queueFrames   = 8                // frames between the owner and the sender
	burst         = 64 << 10         // bytes sent at once under a bandwidth limit
	lingerAtMost  = 10 * time.Second // so long a stop waits for what only memory has to be sent
)

// Capture is what the source needs of a capture engine; internal/capture says what each method promises.
// All but ID are called by Run's goroutine only.
type Capture interface {
	ID() [16]byte

	Next(offset uint64, r *capture.Record) (bool, error)
	Producer() uint64
	Consumer() uint64
	Release(offset uint64)
	RingBytes() int
	Drops() uint64

	Flip() error
	ClearIdle()
	DirtyToDebt()
	LateToDebt() bool
	Debt(disk uint16) Bitmap

	OutstandingDropped() uint64
	LateDropped() (uint64, error)

	// BeginDrain has every completion marked late until EndDrain has answered it. Where the engine cannot, it may do
	// nothing: then Draining stays false and the source reads no block before the writes of its time have settled.
	BeginDrain()
	Draining() bool
	EndDrain()

	Meta(cell int) uint64
	SetMeta(cell int, v uint64)
}

// Bitmap is one disk's debt.
type Bitmap interface {
	BlockSize() uint64
	Blocks() uint64
	NextSet(from uint64) (start, end uint64, ok bool)
	Set(start, end uint64)
	Clear(start, end uint64)
	Count() uint64
}

// Disk is a disk to replicate. Reader reads past the page cache: offsets and lengths are multiples of the block size,
// save the last block of the disk, and buffers are aligned to 4096.
type Disk struct {
	Index  uint16
	Device string
	Bytes  uint64
	Reader io.ReaderAt
}

// Pacer says when epochs are opened that no doubt asks for. Run's goroutine calls it, and it must not wait.
type Pacer interface {
	MayOpen() bool // asked while an epoch that drops have ended owes nothing
	Completed()    // the epoch is complete and durably so; its last position was true a moment ago
}

// Config says what to replicate, from where and to whom. Fields below Log have defaults.
type Config struct {
	Capture Capture
	Disks   []Disk
	Agent   string // build version, for the server's log

	// Dial connects to the replication server, TLS included.
	Dial func(ctx context.Context) (net.Conn, error)
	// Clock reads CLOCK_MONOTONIC and the wall clock at one instant.
	Clock func() (mono uint64, wall time.Time)
	// InFlightWrites counts the writes that a disk has in flight.
	InFlightWrites func(disk uint16) (uint64, error)
	// Written counts the bytes written to a disk so far. Without it the ring tells, which must then be emptied also when nothing of it
	// will be sent.
	Written func(disk uint16) (uint64, error)
	// Unused finds what need not be read; nil reads everything. It asks for a capture that misses no write.
	Unused Unused
	// Verify compares the journal with the disks while replication is continuous; the zero value does not.
	Verify Verify
	Log    *slog.Logger

	// For a capture without payloads, of which every event is a drop: docs/design/2026-11-23-capture-modes.md.
	Pacer   Pacer
	Tracked bool // completions are events too: nobody need wait for a write from before an opening that is in flight nowhere
	// Coarse says that the capture's dirty bits stand for whole disks: they are compared before they are sent. May be nil.
	Coarse func() bool

	// Yield is the first that is called by each goroutine that compresses: what compresses can wait, so the assembly tells its thread to
	// give way to the programs of the server. What empties the ring can not. May be nil.
	Yield func()

	// BacklogBytes is the memory that may be taken for captured writes which the ring has no room to keep; 0: none.
	BacklogBytes int

	Poll       time.Duration // how often an idle ring is looked at; default 2 ms
	DeadAfter  time.Duration // a link that says nothing for so long is dead; default 15 s
	RetryRead  time.Duration // pause after a failed read of a disk; default 5 s
	FrameBytes int           // raw size of a frame of captured writes; default 128 KiB
	ChunkBytes int           // read from a disk for one baseline chunk; default 1 MiB
	Window     int           // baseline bytes read and not acknowledged; default 32 MiB
	Readers    int           // concurrent baseline reads; default 4
}

func (c *Config) complete() error {
	if c.Capture == nil || c.Dial == nil || c.Clock == nil || len(c.Disks) == 0 {
		return fault.New(fault.Invalid, "source: configuration", "a capture, disks, a dialer and a clock are needed")
	}
	for _, d := range c.Disks {
		if d.Reader == nil || d.Bytes == 0 || d.Bytes%wire.SectorSize != 0 {
			return fault.New(fault.Invalid, "source: configuration", "disk %d (%s) of %d bytes", d.Index, d.Device, d.Bytes)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Yield == nil {
		c.Yield = func() {}
	}
	byDefault(&c.Poll, 2*time.Millisecond)
	byDefault(&c.DeadAfter, 15*time.Second)
	byDefault(&c.RetryRead, 5*time.Second)
	byDefault(&c.FrameBytes, 128<<10)
	byDefault(&c.ChunkBytes, 1<<20)
	byDefault(&c.Window, 32<<20)
	byDefault(&c.Readers, 4)
	c.FrameBytes = min(c.FrameBytes, wire.MaxRaw)
	return nil
}

func byDefault[T ~int | ~int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// disk is a Disk and how its baseline stands.
type disk struct {
	Disk
	debt    Bitmap
	shown   uint64    // bytes of it that are part of the epoch at hand; the others join
	retryAt time.Time // after a read failed
	err     error     // of the last read; nil once one succeeds
	rescan  uint64    // baseline bytes acknowledged in this epoch, or found the same
	same    uint64    // of them, found the same
	owed    uint64    // bytes of debt, as last counted
	unused  uint64    // bytes taken off the debt of this epoch unread
}

func (s *Source) disk(index uint16) *disk {
	for _, d := range s.disks {
		if d.Index == index {
			return d
		}
	}
	return nil
}

// wireDisks are the disks at hand, whether part of an epoch or not.
func (s *Source) wireDisks() []wire.Disk {
	out := make([]wire.Disk, len(s.disks))
	for i, d := range s.disks {
		out[i] = wire.Disk{Index: d.Index, Device: d.Device, Bytes: d.Bytes}
	}
	return out
}
