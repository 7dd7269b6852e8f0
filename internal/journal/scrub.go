package journal

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
)

// scrubState is how far scrubbing has come. It is stored in the catalogue.
type scrubState struct {
	Next  string    `json:"next,omitempty"` // name of the file to read next; "" between passes
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"` // the last whole pass
}

// ScrubProgress is how far scrubbing has come.
type ScrubProgress struct {
	Done, Total int64     // bytes of the pass that is under way
	Began       time.Time // that pass; zero between passes
	LastFull    time.Time // everything was read and verified by then; zero: never yet
	Damage      []Damage
}

// Scrub reads and verifies the next file, and says whether that ended a pass over all. What is found damaged is in Damage
// from then on; the other files are read all the same.
func (j *Journal) Scrub(ctx context.Context, l Limits) (passed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(j.stop, cancel)()
	files := j.hold()
	defer j.release(&files)
	name, last := files.cat.scrubNext()
	if name != "" {
		if err := j.scrubFile(ctx, files.cat, name, &l); err != nil {
			return false, stepError(ctx, err)
		}
	}
	return last, j.scrubbed(ctx, name, last)
}

// scrubNext is the first file at or behind where the pass stands, by name: files that come meanwhile were verified when
// they were written.
func (c *catalogue) scrubNext() (name string, last bool) {
	names := slices.Sorted(c.names)
	i, _ := slices.BinarySearch(names, c.Scrub.Next)
	if i == len(names) {
		return "", true
	}
	return names[i], i == len(names)-1
}

func (j *Journal) scrubFile(ctx context.Context, c *catalogue, name string, l *Limits) error {
	for i := range c.Runs {
		for k := range c.Runs[i].Layers {
			if ref := &c.Runs[i].Layers[k]; ref.Name == name {
				return j.scrubLayer(ctx, ref, l)
			}
		}
	}
	for i := range c.Timelines {
		if ref := &c.Timelines[i]; ref.Name == name {
			b, err := blob.Get(ctx, j.blobs, name, ref.Bytes)
			if err == nil {
				_, err = parseTimeline(&j.directory, ref.Number, b)
			}
			return j.noteFile(name, err)
		}
	}
	return nil // merged away meanwhile
}

func (j *Journal) scrubLayer(ctx context.Context, ref *layerRef, l *Limits) error {
	if err := l.pace(ctx, ref.Info.Bytes); err != nil {
		return err
	}
	r, err := j.openLayer(ctx, ref, nil)
	if unreadable(err) {
		j.log.Error("journal: damaged", "dir", j.dir, "file", ref.Name, "err", err)
		j.noteLost(ref.Name, j.lostRanges(ref, ref.From, ref.To))
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Verify(ctx, func(lost layer.Range, cause error) {
		j.log.Error("journal: damaged", "dir", j.dir, "file", ref.Name, "disk", lost.Disk, "sector", lost.Sector, "sectors", lost.Sectors, "err", cause)
		j.noteLost(ref.Name, []layer.Range{lost})
	})
}

// noteFile keeps a file of which nothing can be read; other errors are not damage.
func (j *Journal) noteFile(name string, err error) error {
	if err == nil || (!fault.Is(err, fault.Corruption) && !fault.Is(err, fault.NotFound)) {
		return err
	}
	j.log.Error("journal: damaged", "dir", j.dir, "file", name, "err", err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(Damage{File: name, FoundAt: time.Now().UTC()})
	return nil
}

// scrubbed remembers how far it came.
func (j *Journal) scrubbed(ctx context.Context, name string, last bool) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	if err := j.isClosed(); err != nil {
		return err
	}
	c := j.catalogue().clone()
	now := time.Now().UTC()
	if c.Scrub.Next == "" {
		c.Scrub.Began = now
	}
	c.Scrub.Next = name + "\x00" // behind it
	if last {
		c.Scrub = scrubState{Began: c.Scrub.Began, Ended: now}
	}
	return j.commit(ctx, c)
}

// ScrubProgress tells how far scrubbing has come.
func (j *Journal) ScrubProgress() ScrubProgress {
	c := j.catalogue()
	p := ScrubProgress{LastFull: c.Scrub.Ended, Damage: j.Damage()}
	if c.Scrub.Next != "" {
		p.Began = c.Scrub.Began
	}
	for i := range c.Runs {
		for k := range c.Runs[i].Layers {
			ref := &c.Runs[i].Layers[k]
			p.Total += ref.Info.Bytes
			if ref.Name < c.Scrub.Next {
				p.Done += ref.Info.Bytes
			}
		}
	}
	return p
}

// Damage lists what is known to be damaged, by disk range and version.
func (j *Journal) Damage() []Damage {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return mergeDamage(slices.Clone(j.pub.cat.Damage), j.noted)
}
