package journal

import (
	"context"
	"math"
	"time"

	"github.com/understudy-dr/understudy/internal/journal/layer"
)

// survey looks through the indexes of all layers for what is not retained any more, range by range, and remembers what it
// found. It is guarded by upkeep; its figures by mu.
type survey struct {
	running  bool
	retained retained // as it is looked for
	next     layer.Key
	ended    time.Time
	pass     figures // of the pass so far
	last     figures // of the last whole pass
}

// figures are raw bytes, before compression.
type figures struct{ kept, dropped int64 }

const (
	surveyEvery  = 10 * time.Minute
	reclaimPart  = 4  // a range is written anew when so much of it, one nth, is not needed
	urgentPart   = 20 // or so much when room is short
	reclaimLeast = 1 << 20
)

// reclaim surveys one range, and writes it anew if enough of it is not retained any more.
func (j *Journal) reclaim(ctx context.Context, l *Limits) (bool, error) {
	c := j.catalogue()
	s := &j.survey
	if len(c.Runs) == 0 { // merged away meanwhile
		s.running = false
		return false, nil
	}
	if !s.running && !j.beginSurvey(c, l) {
		return false, nil
	}
	from := s.next
	to, last := c.rangeAfter(from)
	all := make([]int, len(c.Runs))
	for i := range all {
		all[i] = i
	}
	f, err := j.surveyRange(ctx, c, all, from, to)
	if err != nil {
		return false, err
	}
	j.mu.Lock()
	s.pass.kept += f.kept
	s.pass.dropped += f.dropped
	s.next = to
	if last {
		s.running, s.ended, s.last = false, time.Now(), s.pass
	}
	j.mu.Unlock()
	if !worthwhile(f, l) {
		return true, nil
	}
	j.mu.Lock()
	s.pass.dropped -= f.dropped
	if last {
		s.last = s.pass
	}
	j.mu.Unlock()
	return true, j.rewrite(ctx, from, to, l)
}

func worthwhile(f figures, l *Limits) bool {
	part, least := int64(reclaimPart), int64(reclaimLeast)
	if l.Urgent {
		part, least = urgentPart, 1
	}
	return f.dropped >= least && f.dropped >= (f.kept+f.dropped)/part
}

func (j *Journal) beginSurvey(c *catalogue, l *Limits) bool {
	s, r := &j.survey, c.bounded(j.retention())
	if s.retained.same(&r) && !s.ended.IsZero() {
		return false
	}
	if !l.Urgent && !s.ended.IsZero() && time.Since(s.ended) < surveyEvery {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.running, s.retained, s.next, s.pass = true, r, layer.Key{}, figures{}
	return true
}

// rangeAfter cuts the whole key space at the beginnings of the oldest run's layers.
func (c *catalogue) rangeAfter(from layer.Key) (to layer.Key, last bool) {
	for i := range c.Runs[0].Layers {
		if k := c.Runs[0].Layers[i].From; k.Compare(from) > 0 {
			return k, false
		}
	}
	return layer.Key{Disk: math.MaxUint16, Sector: math.MaxUint64}, true
}

// surveyRange counts without reading data.
func (j *Journal) surveyRange(ctx context.Context, c *catalogue, g []int, from, to layer.Key) (figures, error) {
	in := int64(0)
	inputs := make([]layer.Iterator, 0, len(g))
	for _, i := range g {
		inputs = append(inputs, counted{j.runIterator(&c.Runs[i], from, to), &in})
	}
	next := *c
	next.Retained = c.bounded(j.retention())
	out := int64(0)
	it := counted{layer.Merge(inputs, next.keep(c.bottom(g, j.meta.Parent != nil))), &out}
	for {
		_, ok, err := it.Next(ctx)
		if err != nil || !ok {
			_ = it.Close()
			return figures{kept: out, dropped: in - out}, err
		}
	}
}

// counted adds up the data that goes by.
type counted struct {
	layer.Iterator
	bytes *int64
}

// Next implements layer.Iterator.
func (it counted) Next(ctx context.Context) (layer.Span, bool, error) {
	s, ok, err := it.Iterator.Next(ctx)
	for i := range s.Entries {
		if s.Entries[i].Kind == layer.Data {
			*it.bytes += int64(s.Sectors) * layer.SectorSize
		}
	}
	return s, ok, err
}

// rewrite merges all runs in a range into the oldest.
func (j *Journal) rewrite(ctx context.Context, from, to layer.Key, l *Limits) error {
	for from.Compare(to) < 0 {
		c := j.catalogue().clone()
		all := make([]int, len(c.Runs))
		for i := range all {
			all[i] = i
		}
		end, err := j.mergeRange(ctx, c, all, from, to, l)
		if err != nil {
			return err
		}
		c.dropEmpty()
		if err := j.commit(ctx, c); err != nil {
			return err
		}
		if len(j.catalogue().Runs) == 0 {
			return nil
		}
		from = end
	}
	return nil
}
