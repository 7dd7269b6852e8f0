package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
A segment without a readable index is known by its frames only: one that is damaged says neither which sectors it changed nor
whether any state after it is whole. So history ends before it. What lies there and behind is set aside as
damaged-<segment>-<offset>.usj, told by disk range and time as far as it still reads, and replication goes on from what is whole: the
agent sees that frames it knew to be durable are gone, and owes everything.
*/
const asidePrefix = "damaged-"

func asideName(segment uint64, from int64) string {
	return fmt.Sprintf("%s%020d-%d%s", asidePrefix, segment, from, segSuffix)
}

// ending is where history ends: bytes of a segment are whole, and what they and all before amount to.
type ending struct {
	segment uint64
	good    int64 // 0: not even its header is
	whole   bool  // nothing is wrong with it
	fold    fold
}

// isolate ends history before damage in segment n. Everything up to last goes: nothing says any more that it follows. Each step is
// repeated by the next opening if this one dies; what is lost is told, and its positions are out of reach, before anything changes.
func (j *Journal) isolate(n, last uint64, cause error) error {
	e, err := j.ending(n)
	if err != nil {
		return err
	}
	unread := vfs.Unreadable(cause)
	if unread && e.whole {
		return fault.New(fault.Transient, "journal: open "+j.dir, "the disk has thought better of it: %w", cause)
	}
	lost := j.lookBehind(&e, last)
	j.log.Error("journal: history ends at damage; its source is asked for everything from there on", "dir", j.dir, "segment", segName(n),
		"offset", e.good, "segments", last-n+1, "whole frames behind", lost.frames, "last", unixTime(e.fold.cur.Clock), "err", cause)
	if e.good > 0 && !unread {
		unread = vfs.Unreadable(j.copyAside(n, e.good))
	}
	err = j.amend(func(c *catalogue) {
		c.raise(max(e.fold.highest, lost.highest))
		c.dropBranches(e.fold.newest())
		c.Damage = mergeDamage(c.Damage, lost.damage(&e))
	})
	if err != nil {
		return err
	}
	low := mark{segment: n, bytes: e.good}
	if e.good == 0 {
		low.segment--
	}
	if err := j.setMark(low); err != nil {
		return err
	}
	for k := last; k > n; k-- {
		if err := j.moveAside(k); err != nil {
			return err
		}
	}
	if e.good == 0 {
		return j.moveAside(n)
	}
	if err := j.fs.Remove(j.path(idxName(n))); ignoreMissing(err) != nil {
		return vfs.Fault("journal: remove "+idxName(n), err)
	}
	if unread {
		if err := j.part(n, e.good); err != nil {
			return err
		}
	}
	return j.loadTail(n, bound{mark: low, known: true, isolated: true})
}

// ending finds how much of a segment is whole.
func (j *Journal) ending(n uint64) (ending, error) {
	e := ending{segment: n, fold: j.before}
	f, err := j.openSegment(n)
	if fault.Is(err, fault.Corruption) || fault.Is(err, fault.NotFound) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	defer func() { _ = f.Close() }()
	b, good, err := j.scan(f, j.before)
	if b == nil {
		return e, err
	}
	if err != nil && !fault.Is(damage(n, good, err), fault.Corruption) {
		return e, err
	}
	e.good, e.fold, e.whole = good, b.fold, err == nil
	return e, nil
}

// doubt looks at what is about to be cut off as torn. Whole records in there may have been durable, and the mark too late for the disk:
// if so the agent will tell. Their positions are out of reach either way.
func (j *Journal) doubt(f *segFile, b *builder, good int64) error {
	cut := &behind{}
	if err := cut.survey(f, good); err != nil || cut.frames == 0 {
		return err
	}
	j.log.Warn("journal: whole frames lie behind a torn one", "dir", j.dir, "segment", segName(f.number), "offset", good, "frames", cut.frames)
	return j.amend(func(c *catalogue) { c.raise(max(b.fold.highest, cut.highest)) })
}

// newest is the newest recoverable state; the zero Version when there is none.
func (s *fold) newest() layer.Version {
	for e := range s.epochs {
		if e.recoverable() {
			return layer.Version{Epoch: e.Number, Position: e.to()}
		}
	}
	return layer.Version{}
}

// raise keeps positions that were lost from being given again: somebody may remember what lay there.
func (c *catalogue) raise(highest uint64) {
	c.Floor = max(c.Floor, c.Fold.Highest, highest) + skippedPositions
}

// dropBranches forgets branches that stand on a state which was lost.
func (c *catalogue) dropBranches(last layer.Version) {
	c.Branches = slices.DeleteFunc(c.Branches, func(b branchRef) bool { return last.Less(b.Point.version()) })
}

// amend changes the catalogue while the journal is being opened. Nothing is deleted on its word before it was settled.
func (j *Journal) amend(change func(*catalogue)) error {
	c := j.pub.cat.clone()
	change(c)
	j.tried++
	c.Generation = j.tried
	if err := j.writeCatalogue(c); err != nil {
		return err
	}
	j.pub.cat = c
	return nil
}

// setMark changes the mark for good. Its lower bound may not come back: what it was true of is gone.
func (j *Journal) setMark(m mark) error {
	_, err := j.markF.WriteAt(m.encode(), 0)
	if err == nil {
		err = j.markF.Sync()
	}
	return vfs.Fault("journal: "+markName, err)
}

// copyAside keeps what is about to be cut off. It is for people to look at, so a journal opens without it, too, unless that is because the
// disk cannot read it: then it is told, and the segment itself is kept.
func (j *Journal) copyAside(n uint64, from int64) error {
	name := asideName(n, from)
	err := j.copySegment(n, name, -1)
	if err == nil {
		return nil
	}
	removed := ignoreMissing(j.fs.Remove(j.path(name)))
	if !vfs.Unreadable(err) {
		j.log.Warn("journal: damaged segment not kept", "dir", j.dir, "segment", segName(n), "err", errors.Join(err, removed))
		return nil
	}
	return err
}

// copySegment copies so much of a segment, or all of it if that is negative, to a file of another name, and syncs it.
func (j *Journal) copySegment(n uint64, name string, size int64) (err error) {
	from, err := j.fs.Open(j.path(segName(n)))
	if err != nil {
		return vfs.Fault("journal: read "+segName(n), err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if size < 0 {
		if size, err = from.Size(); err != nil {
			return vfs.Fault("journal: read "+segName(n), err)
		}
	}
	if err := ignoreMissing(j.fs.Remove(j.path(name))); err != nil {
		return vfs.Fault("journal: remove "+name, err)
	}
	to, err := j.fs.Create(j.path(name))
	if err != nil {
		return vfs.Fault("journal: create "+name, err)
	}
	err = copyRange(to, from, 0, size)
	if err == nil {
		err = to.Sync()
	}
	return vfs.Fault("journal: write "+name, errors.Join(err, to.Close()))
}

// moveAside takes a segment of which nothing counts any more out of the journal.
func (j *Journal) moveAside(n uint64) error {
	if err := j.fs.Remove(j.path(idxName(n))); ignoreMissing(err) != nil {
		return vfs.Fault("journal: remove "+idxName(n), err)
	}
	return vfs.Fault("journal: set aside "+segName(n), j.setAside(n, 0))
}

// forgetAside deletes what was set aside once no loss of the kind is in the window any more.
func (j *Journal) forgetAside(c *catalogue) {
	if slices.ContainsFunc(c.Damage, func(d Damage) bool { return d.Cut }) ||
		slices.ContainsFunc(c.Keepsakes, func(k keepsake) bool { _, ok := k.segment(); return ok }) {
		return
	}
	names, err := j.fs.List(j.dir)
	for _, name := range names {
		if strings.HasPrefix(name, asidePrefix) {
			err = errors.Join(err, j.fs.Remove(j.path(name)))
		}
	}
	if err != nil {
		j.log.Warn("journal: what was set aside is not deleted", "dir", j.dir, "err", err)
	}
}

// inWindow tells of a loss that ended history whether somebody may still ask for the states that went with it.
func (d *Damage) inWindow(r *retained) bool {
	at := d.Written
	if at.IsZero() {
		at = d.FoundAt
	}
	return inWindow(at, r)
}

func inWindow(at time.Time, r *retained) bool {
	return r.FromTime == 0 || !at.Before(time.Unix(0, r.FromTime))
}
