package source

import (
	"github.com/understudy-dr/understudy/internal/wire"
)

// verdict is what a Welcome means for this capture: go on in the epoch at hand, or open another that owes everything.
type verdict struct {
	resume    bool
	announced bool   // the server has the epoch at hand
	reason    uint64 // to open another
}

// reconcile compares what the agent remembers with what the server durably holds. newest is the highest position that
// this capture can have given to a bio.
func reconcile(e *epoch, captureID string, newest uint64, w *wire.Welcome) verdict {
	switch {
	case e.number == 0 && w.Epoch == 0:
		return verdict{reason: reasonInitial}
	case e.number == 0:
		return verdict{reason: reasonTrackingLost}
	case e.journal != w.Journal:
		return verdict{reason: reasonJournalChanged}
	case w.Durable < e.acked || w.Frames < e.frames || w.Epoch+1 < e.number:
		return verdict{reason: reasonRolledBack}
	case w.Epoch > e.number || w.Durable > newest:
		return verdict{reason: reasonTrackingLost} // somebody else wrote to this journal
	case w.Epoch == e.number:
		return reconcileSame(e, captureID, w)
	default:
		return reconcileBefore(e, captureID, w)
	}
}

func reconcileSame(e *epoch, captureID string, w *wire.Welcome) verdict {
	switch {
	case w.Capture != captureID || w.First != e.first:
		return verdict{reason: reasonTrackingLost}
	case e.done && !w.BaselineDone:
		return verdict{reason: reasonRolledBack}
	}
	return verdict{resume: true, announced: true}
}

// reconcileBefore: the server has not heard of the epoch at hand, or has forgotten it.
func reconcileBefore(e *epoch, captureID string, w *wire.Welcome) verdict {
	switch {
	case e.openAcked:
		return verdict{reason: reasonRolledBack}
	case w.Highest > e.first || (e.gap != 0 && w.Capture != captureID):
		return verdict{reason: reasonTrackingLost}
	}
	return verdict{resume: true}
}
