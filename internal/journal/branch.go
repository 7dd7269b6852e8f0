package journal

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// parentRef says on what a branch stands.
type parentRef struct {
	Journal string `json:"journal"`
	Point   Point  `json:"point"`
}

// CreateBranch makes a journal in dir that begins as this one was at p, and opens it. What is written to the branch stays in
// the branch. The parent keeps p until DropBranch.
func (j *Journal) CreateBranch(ctx context.Context, p Point, fsys vfs.FS, dir string, o Options) (*Journal, error) {
	m, err := newMeta(j.disksAt(p).Disks)
	if err != nil {
		return nil, err
	}
	m.Parent = &parentRef{Journal: j.ID(), Point: p}
	var b *Journal
	if err = j.addBranch(ctx, m.ID, p); err == nil {
		b, err = create(ctx, fsys, dir, m, o)
	}
	if err == nil {
		return b, nil
	}
	if made, bad := readMeta(fsys, dir); bad == nil && made.ID == m.ID {
		return nil, err // it was made, and may be opened yet
	}
	if gone := j.DropBranch(ctx, m.ID); gone != nil {
		j.log.Warn("journal: a branch that was not made keeps its point", "dir", j.dir, "branch", m.ID, "err", gone)
	}
	return nil, err
}

// addBranch looks at the point while nothing is merged: what was let go of before may be on its way out.
func (j *Journal) addBranch(ctx context.Context, id string, p Point) error {
	return j.changeBranches(ctx, func(c *catalogue) (bool, error) {
		now := j.snapshot()
		c.Branches = append(c.Branches, branchRef{Journal: id, Point: p})
		return true, j.checkPoint(ctx, &now, p)
	})
}

// DropBranch lets go of the point that a branch stood on. It is idempotent; the branch must have been removed.
func (j *Journal) DropBranch(ctx context.Context, id string) error {
	return j.changeBranches(ctx, func(c *catalogue) (bool, error) {
		n := len(c.Branches)
		c.Branches = slices.DeleteFunc(c.Branches, func(b branchRef) bool { return b.Journal == id })
		return len(c.Branches) < n, nil
	})
}

func (j *Journal) changeBranches(ctx context.Context, change func(*catalogue) (bool, error)) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	if err := j.isClosed(); err != nil {
		return err
	}
	c := j.catalogue().clone()
	if changed, err := change(c); err != nil || !changed {
		return err
	}
	return j.commit(ctx, c)
}

// standsOn tells whether a branch needs a point.
func (c *catalogue) standsOn(p Point) bool {
	return slices.ContainsFunc(c.Branches, func(b branchRef) bool { return b.Point.version() == p.version() })
}

// Branches lists the journals that stand on this one. While there are any it must not be removed.
func (j *Journal) Branches() []string {
	c := j.catalogue()
	ids := make([]string, len(c.Branches))
	for i := range c.Branches {
		ids[i] = c.Branches[i].Journal
	}
	return ids
}

// BranchPoint is the state that a branch begins with, which can be viewed like any other; false when this is no branch.
func (j *Journal) BranchPoint() (Point, bool) {
	if j.meta.Parent == nil {
		return Point{}, false
	}
	return Point{Time: j.meta.Parent.Point.Time}, true
}

// openParent finds the parent each time: it may have been closed and opened since.
func (j *Journal) openParent() (*Journal, error) {
	ref := j.meta.Parent
	if j.o.Parents == nil {
		return nil, fault.New(fault.Unsupported, "journal: open "+j.dir, "it is a branch of journal %s, which is not known here", ref.Journal)
	}
	parent, err := j.o.Parents(ref.Journal)
	return parent, fault.Wrap("journal: open "+j.dir+": parent", err)
}

// viewParent is what the branch stands on.
func (j *Journal) viewParent(ctx context.Context) (*View, error) {
	parent, err := j.openParent()
	if err != nil {
		return nil, err
	}
	v, err := parent.View(ctx, j.meta.Parent.Point)
	return v, fault.Wrap("journal: parent", err)
}

// isBranchPoint tells whether a point is the one before a branch's own first epoch.
func (j *Journal) isBranchPoint(p Point) bool {
	return j.meta.Parent != nil && p.version() == layer.Version{}
}
