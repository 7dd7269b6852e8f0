package source

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
What no file system uses need not be read. Where an epoch owes everything to an empty journal, the unused ranges of each disk
are looked for beside the baseline, which has begun meanwhile, and taken off the debt when they are found: at most once an
epoch, and never after debt of another origin may have come. Later epochs compare everything: that costs reading, not
sending, and the replica is the disk, whole. docs/design/2026-11-23-rescan.md says why that is sound.
*/

// Unused finds what a disk holds that nobody needs. It is called after an epoch was opened that owes everything.
type Unused interface {
	// Commit has the disks hold, in place or in logs, all that was done before it was called.
	Commit(ctx context.Context) error
	// Find returns ranges of bytes that are not in use, from what the disk holds. It is called after Commit. Where it must be sure,
	// what somebody else than this machine's kernel may write to, a guest, is in use.
	Find(ctx context.Context, disk uint16, sure bool) ([]Range, error)
}

// Range is a run of bytes of a disk.
type Range struct{ Offset, Length uint64 }

// finder looks for unused ranges on behalf of the owner.
type finder struct {
	epoch  uint64 // whose debt may be taken off; 0: none
	found  chan unused
	group  sync.WaitGroup
	cancel context.CancelFunc // of the search under way
}

// unused is what was found for one disk.
type unused struct {
	disk   *disk
	epoch  uint64
	ranges []Range
}

const finders = 4 // disks looked at side by side

// find begins to look. A search for an earlier epoch ends.
func (s *Source) find() {
	s.keepDebt()
	if s.cfg.Unused == nil || !s.ep.fresh { // what the journal holds already is compared, in use or not
		return
	}
	ctx, cancel := context.WithCancel(s.running)
	epoch := s.ep.number
	s.finder.epoch, s.finder.cancel = epoch, cancel
	s.finder.group.Go(func() {
		defer cancel()
		if err := s.search(ctx, epoch); err != nil && ctx.Err() == nil {
			s.log.Warn("all of the disks is read, in use or not", "err", err)
		}
	})
}

func (s *Source) search(ctx context.Context, epoch uint64) error {
	if err := s.cfg.Unused.Commit(ctx); err != nil {
		return fault.Wrap("source: unused", err)
	}
	var group errgroup.Group
	group.SetLimit(finders)
	for _, d := range s.disks {
		group.Go(func() error {
			list, err := s.cfg.Unused.Find(ctx, d.Index, true)
			if err != nil {
				return fault.Wrap("source: unused: "+d.Device, err)
			}
			select {
			case s.finder.found <- unused{d, epoch, list}:
			case <-ctx.Done():
			}
			return nil
		})
	}
	return group.Wait()
}

// keepDebt ends the search: debt of another origin is about to come.
func (s *Source) keepDebt() {
	s.finder.epoch = 0
	if s.finder.cancel != nil {
		s.finder.cancel()
	}
}

// takeOff takes unused ranges off the debt, whole blocks only.
func (s *Source) takeOff(u unused) {
	if u.epoch != s.finder.epoch || u.epoch != s.ep.number {
		return
	}
	d, size := u.disk, u.disk.debt.BlockSize()
	before := d.debt.Count()
	for _, r := range u.ranges {
		if r.Offset >= d.Bytes {
			continue
		}
		end := r.Offset + min(r.Length, d.Bytes-r.Offset)
		first, last := (r.Offset+size-1)/size, end/size
		if end == d.Bytes {
			last = d.debt.Blocks()
		}
		if first < last {
			d.debt.Clear(first, last)
		}
	}
	d.unused = min((before-d.debt.Count())*size, d.Bytes)
	s.log.Info("what is not in use is not read", "disk", d.Device, "bytes", d.unused, "of", d.Bytes)
}
