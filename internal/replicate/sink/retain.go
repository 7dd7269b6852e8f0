package sink

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

// Attached names the source servers whose journals are open, sorted.
func (s *Server) Attached() (ids []string) {
	for _, w := range s.wards() {
		ids = append(ids, w.id)
	}
	slices.Sort(ids)
	return ids
}

// Newest is the newest recoverable instant of a source server, by its agent's clock; fault.NotFound when there is none.
func (s *Server) Newest(serverID string) (time.Time, error) {
	j, err := s.Journal(serverID)
	if err != nil {
		return time.Time{}, err
	}
	p, err := j.Latest()
	return p.Time, err
}

// Recoverable is the instant of a position; fault.NotFound when it cannot be read, or not any more.
func (s *Server) Recoverable(serverID string, position uint64) (time.Time, error) {
	j, err := s.Journal(serverID)
	if err != nil {
		return time.Time{}, err
	}
	p, err := j.Check(position)
	return p.Time, err
}

// AtOrBelow is the last state of an epoch at or below a position; fault.Transient while that is not all here.
func (s *Server) AtOrBelow(serverID string, epoch, position uint64) (uint64, time.Time, error) {
	j, err := s.Journal(serverID)
	if err != nil {
		return 0, time.Time{}, err
	}
	p, err := j.AtOrBelow(epoch, position)
	return p.Position, p.Time, err
}

// Retain keeps every instant from since on and these positions, and lets go of the rest, for ever. Positions that are
// not there any more are a fault.Conflict; the others are kept all the same.
func (s *Server) Retain(_ context.Context, serverID string, since time.Time, positions []uint64) error {
	w, _ := s.ward(serverID)
	j, err := s.Journal(serverID)
	if err != nil {
		return err
	}
	points, gone, err := w.points(j, positions)
	if err != nil {
		return err
	}
	err = j.Retain(journal.Retention{Since: since, Points: points})
	if err == nil && gone > 0 {
		err = fault.New(fault.Conflict, "sink: retain", "%d recovery points of source server %s cannot be read any more", gone, serverID).
			WithHint("see 'understudy points " + serverID + "'")
	}
	return err
}

// points turns positions into points of the journal. Each is looked up once: a later epoch may begin at the position where
// this one ended, and the point is the one that was meant when it was made.
func (w *ward) points(j *journal.Journal, positions []uint64) (points []journal.Point, gone int, err error) {
	w.mu.Lock()
	known := w.resolved
	w.mu.Unlock()
	if known == nil {
		known = map[uint64]journal.Point{}
		for _, p := range j.Kept() {
			known[p.Position] = p
		}
	}
	next := make(map[uint64]journal.Point, len(positions))
	for _, pos := range positions {
		p, ok := known[pos]
		if !ok {
			p, err = j.Check(pos)
			if fault.Is(err, fault.NotFound) {
				gone++
				continue
			}
			if err != nil {
				return nil, 0, err
			}
		}
		next[pos] = p
		points = append(points, p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolved = next
	return points, gone, nil
}
