package sink

import (
	"context"
	"maps"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

const (
	// scrubSlack is the part of the period that is left for days on which nothing could be read.
	scrubSlack = 20
	// mendYoung: damage found earlier than this before now is not asked for again after a restart. Its source was asked
	// when it was found, and what it did not have it will not get.
	mendYoung = 24 * time.Hour
	// mendEvery is how often a source is asked while a scrub finds more and more: each time costs it an epoch.
	mendEvery = time.Minute
)

// scrub reads the next file if the pass is behind its schedule, or if somebody asked for a whole one.
func (k *caretaker) scrub(ctx context.Context, w *ward, now time.Time) (did bool, err error) {
	w.mu.Lock()
	asked := !w.asked.IsZero()
	w.mu.Unlock()
	if !asked && !due(w.u.ScrubProgress(), w.u.Usage().LayerFiles, k.c.ScrubPeriod, now) {
		return false, nil
	}
	passed, err := w.u.Scrub(ctx, journal.Limits{Pace: k.pacer(w, &w.scrubbed)})
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if passed && w.passes > 0 {
		if w.passes--; w.passes == 0 {
			w.asked = time.Time{}
		}
	}
	return true, nil
}

// due tells whether to read a file now, so that a pass that goes on like this ends within the period. A pass begins when
// the one before it has ended; a journal that was never read is begun at once.
func due(p journal.ScrubProgress, files int, period time.Duration, now time.Time) bool {
	begun := p.Began
	if begun.IsZero() {
		begun = p.LastFull
	}
	if files == 0 || p.Total == 0 || begun.IsZero() {
		return files > 0
	}
	period -= period / scrubSlack
	passed := min(max(now.Sub(begun), 0), period)
	behind := int64(float64(p.Total)*(float64(passed)/float64(period))) - p.Done
	return behind >= min(p.Total/int64(files), p.Total-p.Done)
}

// StartScrub asks for everything a source server's journal stores to be read now, as fast as maintenance may.
func (s *Server) StartScrub(serverID string) error {
	w, _ := s.ward(serverID)
	if w == nil {
		return fault.New(fault.NotFound, "sink: scrub", "no journal of source server %s is attached", serverID)
	}
	w.mu.Lock()
	w.asked, w.passes = time.Now(), 1
	if !w.u.ScrubProgress().Began.IsZero() {
		w.passes = 2 // the one that is under way has read some of it before
	}
	w.mendAll = true // whoever asks wants the source to be asked again, too
	clear(w.tried)
	w.mu.Unlock()
	s.care.poke(w)
	return nil
}

// mayMend tells whether it is time to ask: when there is nothing else to do, and now and then while there is.
func (w *ward) mayMend(now time.Time, busy bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if busy && now.Sub(w.mended) < mendEvery {
		return false
	}
	w.mended = now
	return true
}

// mend asks the source for damaged content, once for each stretch: where it still has what was stored, the recovery points
// that show it become whole again; where it does not, the next point is whole at least.
func (k *caretaker) mend(w *ward) error {
	w.mu.Lock()
	var fresh []journal.Damage
	for _, d := range w.damage {
		if !d.Cut && !w.tried[d.Stretch()] && (time.Since(d.FoundAt) < mendYoung || w.mendAll) {
			fresh = append(fresh, d)
		}
	}
	w.mu.Unlock()
	if len(fresh) == 0 || k.repair == nil {
		return nil
	}
	k.log.Error("sink: stored content is damaged; its source is asked for it", "server", w.id, "stretches", len(fresh),
		"disk", fresh[0].Disk, "sector", fresh[0].Sector, "sectors", fresh[0].Sectors, "file", fresh[0].File)
	if err := k.repair(w, fresh); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mendAll = false
	for _, d := range fresh {
		w.tried[d.Stretch()] = true
	}
	damaged := make(map[journal.Damage]bool, len(w.damage))
	for _, d := range w.damage {
		damaged[d.Stretch()] = true
	}
	maps.DeleteFunc(w.tried, func(d journal.Damage, _ bool) bool { return !damaged[d] }) // what was mended is not remembered
	return nil
}
