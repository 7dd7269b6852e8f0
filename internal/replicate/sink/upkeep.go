package sink

import (
	"context"
	"time"
)

// upkeep is what maintenance does to a journal, and asks of it.
type upkeep interface {
	// Maintain does one step of flushing, merging or reclaiming; false when there is nothing to do.
	Maintain(ctx context.Context, l Limits) (did bool, err error)
	// Scrub reads about budget bytes on from where it was. A budget of 0 only tells how far it is.
	Scrub(ctx context.Context, budget int64) (ScrubProgress, error)
	Usage() Usage
	Pressure() Pressure
	Damage() []Damage
	Closed() bool
}

// Limits of one step of maintenance.
type Limits struct {
	Pace      func(ctx context.Context, bytes int64) error // asked before bytes are read and written, and may wait
	SealAfter time.Duration                                // ends a segment that is older
	Urgent    bool                                         // room is short: reclaim even what is little
}

// Usage is what a journal takes, in bytes unless it is a count.
type Usage struct {
	Stored      int64 // on disk and in the blob store
	Logical     int64 // what was written and is kept, before it was compressed
	Unique      int64 // of that, what is stored once
	Reclaimable int64 // of what is stored, nobody needs; freed by maintenance
	Unflushed   int64 // in segments, not in layers yet
	Segments    int64
	Layers      int64
	Runs        int64
}

// Pressure is how far maintenance is behind what arrives.
type Pressure int

// The pressures.
const (
	Relaxed Pressure = iota
	Slow             // what arrives should come slower
	Full             // nothing more is taken in
)

func (p Pressure) String() string {
	switch p {
	case Slow:
		return "slow"
	case Full:
		return "full"
	}
	return "relaxed"
}

// ScrubProgress is how far the scrub of a journal is.
type ScrubProgress struct {
	Done, Total int64     // bytes
	Since       time.Time // of this pass
	LastFull    time.Time // when a pass was completed; zero when none was
}

// Damage is a stretch of a disk whose content, as one write left it, is lost.
type Damage struct {
	Disk            uint16
	Sector, Sectors uint64
	Epoch, Position uint64    // of the write; zero where not even that is known
	Time            time.Time // of the write; zero when unknown
	File            string
	FoundAt         time.Time
}
