package journal

import (
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

// State is what the journal durably holds.
type State struct {
	ID           string
	Disks        []wire.Disk // of the newest epoch
	Joining      []wire.Disk // copied in it, and part of none of its points
	CaptureID    string      // of the newest epoch; "" when there is none
	Epoch        uint64      // newest epoch; 0 when there is none
	First        uint64      // its first position
	BaselineDone bool
	Durable      uint64    // highest position that ends a bio, over all epochs
	Highest      uint64    // highest position named by anything
	Frames       uint64    // over all epochs
	Watermark    time.Time // everything submitted up to it is durable, in the newest epoch; zero when unknown
	Recoverable  bool      // at least one position is
	Bytes        int64     // on disk, of segments
	Segments     int
}

// Interval is a closed stretch of recoverable positions of one epoch. Inside, every end of a bio is recoverable,
// and so is every instant.
type Interval struct {
	Epoch            uint64
	From, To         uint64
	FromTime, ToTime time.Time
}

// Point is one recoverable state of all disks at once. The epoch belongs to it because a baseline is stored at the
// position where the epoch before it ended.
type Point struct {
	Epoch    uint64
	Position uint64
	Time     time.Time // the instant whose state this is
}
