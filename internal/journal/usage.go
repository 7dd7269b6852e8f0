package journal

import "time"

// Usage is what a journal takes and what for. Bytes are on disk or in object storage where they are not said to be raw.
type Usage struct {
	Stored      int64 // all files
	Unflushed   int64 // of these: segments
	Layers      int64
	Timelines   int64
	Reclaimable int64 // of Stored: what is not retained any more and will be freed, about
	Raw         int64 // of what is stored, before compression, every retained version of every block once
	Logical     int64 // sizes of the disks

	Segments, LayerFiles, Runs int
	Surveyed                   time.Time // when Raw and Reclaimable were counted
	OldestRetained             time.Time // every second from here on; zero: since the beginning
	KeptPoints                 int
}

// Usage costs nothing: it was counted before.
func (j *Journal) Usage() Usage {
	p := j.snapshot()
	u := Usage{Unflushed: p.bytes, Segments: len(p.sealed), Runs: len(p.cat.Runs), OldestRetained: unixTime(p.retained.FromTime), KeptPoints: len(p.retained.Points)}
	if p.tail != nil {
		u.Unflushed += p.tail.bytes
		u.Segments++
	}
	for _, d := range p.fold.tables.last().Disks {
		u.Logical += int64(d.Bytes)
	}
	live := int64(0)
	seen := map[string]bool{}
	for i := range p.cat.Runs {
		for k := range p.cat.Runs[i].Layers {
			ref := &p.cat.Runs[i].Layers[k]
			live += ref.Live
			if !seen[ref.Name] {
				seen[ref.Name] = true
				u.Layers += ref.Info.Bytes
				u.Raw += ref.Info.Raw
				u.LayerFiles++
			}
		}
	}
	for i := range p.cat.Timelines {
		u.Timelines += p.cat.Timelines[i].Bytes
	}
	u.Stored = u.Unflushed + u.Layers + u.Timelines
	u.Reclaimable = max(0, u.Layers-live)
	j.mu.RLock()
	defer j.mu.RUnlock()
	if s := j.survey.last; s.kept+s.dropped > 0 {
		u.Reclaimable += int64(float64(live) * float64(s.dropped) / float64(s.kept+s.dropped))
		u.Raw = s.kept
		u.Surveyed = j.survey.ended
	}
	return u
}
