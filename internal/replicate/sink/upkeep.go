package sink

import (
	"context"

	"github.com/understudy-dr/understudy/internal/journal"
)

// upkeep is what maintenance does to a journal, and asks of it. *journal.Journal is one.
type upkeep interface {
	// Maintain does one step of flushing, merging or reclaiming; false when there is nothing to do.
	Maintain(ctx context.Context, l journal.Limits) (did bool, err error)
	// Scrub reads and verifies the next file; passed when that was the last.
	Scrub(ctx context.Context, l journal.Limits) (passed bool, err error)
	ScrubProgress() journal.ScrubProgress
	Usage() journal.Usage
	Pressure() journal.Pressure
	Exposure() journal.Exposure
	Damage() []journal.Damage
	Closed() bool
}

var _ upkeep = (*journal.Journal)(nil)
