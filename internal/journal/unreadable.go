package journal

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
What the disk cannot read is damage: it is told by range and time, and everything else goes on. But unlike wrong bytes it may be there
after all, for another cable, another kernel or a rescuer's tools. So no file that has such a place is deleted, shortened
or overwritten before its time is up:

	the unsealed segment    becomes damaged-<segment>-<offset>.usj as it is, and what is whole of it is copied into a new file
	a sealed segment        becomes damaged-<segment>-0.usj once all that could be read of it is in layers
	a layer                 stays under its name once all that could be read of it was merged into others

Their time is up when the window has passed over the moment when they were given up. The catalogue names those of the
last two kinds.
*/

// An opening that cannot read a segment looks again so many times, so long apart, before it ends history there.
const (
	rereads       = 3
	defaultReread = time.Second
)

// keepsake is a file that does not count any more, and in which something could not be read.
type keepsake struct {
	Name string    `json:"name"` // of a segment or a layer
	At   time.Time `json:"at"`   // when it was given up
}

// segment tells whether it is one, and its number.
func (k *keepsake) segment() (uint64, bool) { return parseName(k.Name, segSuffix) }

func (c *catalogue) keepsake(name string) bool {
	return slices.ContainsFunc(c.Keepsakes, func(k keepsake) bool { return k.Name == name })
}

// held calls yield for every object that must not be deleted.
func (c *catalogue) held(yield func(string) bool) {
	for i := range c.Keepsakes {
		if k := &c.Keepsakes[i]; !yield(k.Name) {
			return
		}
	}
	c.names(yield)
}

// loadPatiently opens a segment. What the disk cannot read now it may read in a moment.
func (j *Journal) loadPatiently(ctx context.Context, n uint64, sealed bool, low bound) error {
	err := j.loadOne(n, sealed, low)
	for try := 0; try < rereads && vfs.Unreadable(err); try++ {
		j.log.Warn("journal: the disk cannot read a segment; it is tried again", "dir", j.dir, "segment", segName(n), "err", err)
		select {
		case <-time.After(j.o.reread):
		case <-ctx.Done():
			return fault.New(fault.Transient, "journal: open "+j.dir, "%w", ctx.Err())
		}
		err = j.loadOne(n, sealed, low)
	}
	return err
}

// noteUnreadable remembers a file in which the disk could not read something.
func (j *Journal) noteUnreadable(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.unread == nil {
		j.unread = map[string]bool{}
	}
	j.unread[name] = true
}

// noteSegment is noteUnreadable if that is what an error means.
func (j *Journal) noteSegment(n uint64, err error) {
	if vfs.Unreadable(err) {
		j.noteUnreadable(segName(n))
	}
}

// keepUnreadable takes leave of files that old counts on and c does not, and in which the disk could not read something. It wants mu held.
func (j *Journal) keepUnreadable(old, c *catalogue) {
	now := time.Now().UTC()
	counts := map[string]bool{}
	for name := range c.names {
		counts[name] = true
	}
	leave := func(name string) {
		if j.unread[name] && !counts[name] && !c.keepsake(name) {
			c.Keepsakes = append(c.Keepsakes, keepsake{name, now})
		}
	}
	for name := range old.names {
		leave(name)
	}
	for n := old.Flushed + 1; n <= c.Flushed; n++ {
		leave(segName(n))
	}
	c.Keepsakes = slices.DeleteFunc(c.Keepsakes, func(k keepsake) bool { return !inWindow(k.At, &c.Retained) })
}

const wholeSuffix = ".whole"

// part puts a file with what is whole of a segment in the segment's place, which is set aside as it is.
func (j *Journal) part(n uint64, good int64) error {
	whole := segName(n) + wholeSuffix
	if err := j.copySegment(n, whole, good); err != nil {
		return err
	}
	err := j.fs.SyncDir(j.dir)
	if err == nil {
		err = j.setAside(n, good)
	}
	if err == nil {
		err = j.fs.Rename(j.path(whole), j.path(segName(n)))
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	return vfs.Fault("journal: set aside "+segName(n), err)
}

// setAside takes the file of a segment away as it is. An older one of the same name stays.
func (j *Journal) setAside(n uint64, from int64) error {
	name := j.path(asideName(n, from))
	for {
		_, err := j.fs.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		name = strings.TrimSuffix(name, segSuffix) + "-again" + segSuffix
	}
	if err := ignoreMissing(j.fs.Rename(j.path(segName(n)), name)); err != nil {
		return err
	}
	return j.fs.SyncDir(j.dir)
}

// rejoin ends what an opening began that died in part.
func (d *directory) rejoin() error {
	names, err := d.fs.List(d.dir)
	for _, name := range names {
		seg, ok := strings.CutSuffix(name, wholeSuffix)
		if !ok || err != nil {
			continue
		}
		switch _, missing := d.fs.Stat(d.path(seg)); {
		case errors.Is(missing, fs.ErrNotExist): // it was taken away, so the copy is whole
			err = d.fs.Rename(d.path(name), d.path(seg))
		case missing == nil:
			err = d.fs.Remove(d.path(name))
		default:
			err = missing
		}
		if err == nil {
			err = d.fs.SyncDir(d.dir)
		}
	}
	return vfs.Fault("journal: open "+d.dir, err)
}
