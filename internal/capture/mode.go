package capture

import "github.com/understudy-dr/understudy/internal/fault"

// Mode is how a capture learns of writes. docs/design/2026-11-23-capture-modes.md says what each can promise.
type Mode string

// The modes, best first.
const (
	ModePayload Mode = "payload" // every write and its data, in order
	ModeBitmap  Mode = "bitmap"  // which blocks were written, and that they were
	ModeScan    Mode = "scan"    // that a disk was written
)

// ModeAuto is the wish for the best mode that works here. No capture has it.
const ModeAuto Mode = "auto"

// Modes that a capture can have, best first.
var Modes = []Mode{ModePayload, ModeBitmap, ModeScan}

// ParseMode reads a mode or the wish for any.
func ParseMode(s string) (Mode, error) {
	for _, m := range append([]Mode{ModeAuto}, Modes...) {
		if string(m) == s {
			return m, nil
		}
	}
	return "", fault.New(fault.Invalid, "capture: mode", "%q is none of auto, payload, bitmap and scan", s)
}

// maps are the pinned maps of a mode that has any.
func (m Mode) maps() []string {
	if m == ModePayload {
		return append([]string{"ring"}, commonMaps...)
	}
	return commonMaps
}

// Engine is what every mode does; Capture and Scan say the details. See Capture for who may call what when.
type Engine interface {
	ID() [16]byte
	Mode() Mode
	Fresh() bool
	Close() error

	Next(offset uint64, r *Record) (bool, error)
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
	// DirtyBytes is how much of the disks DirtyToDebt would make debt now, debt that there is included.
	DirtyBytes() uint64
	// Coarse says whether the dirty bits, or those that the last DirtyToDebt moved, stand for whole disks of which nobody
	// knows what was written: then it is worth comparing before sending.
	Coarse() bool

	OutstandingDropped() uint64
	LateDropped() (uint64, error)
	BeginDrain()
	Draining() bool
	EndDrain()

	Meta(cell int) uint64
	SetMeta(cell int, v uint64)

	Doubts() Doubts
}

// Start opens the capture of o.Mode, as Open and OpenScan do. What probing read of the kernel is let go.
func Start(o Options) (Engine, error) {
	defer kernelTypes.forget()
	if o.Mode == ModeScan {
		s, err := OpenScan(o)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	c, err := Open(o)
	if err != nil {
		return nil, err
	}
	return c, nil
}
