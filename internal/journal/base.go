package journal

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Base is the state that the baseline of an epoch is laid over: of every sector the newest content that is durable and not
// above the epoch's first position, whether it can be recovered or not. No captured write of the epoch is in it, and all
// of its baseline that is durable by now. Only the newest epoch can be asked for. It is for comparing with the source, not
// for booting: no moment need have had it.
func (j *Journal) Base(ctx context.Context, epoch uint64) (_ *View, err error) {
	if err := j.isClosed(); err != nil {
		return nil, err
	}
	v := &View{j: j, files: j.hold()}
	defer func() {
		if err != nil {
			j.release(&v.files)
		}
	}()
	c := &v.files.fold.cur
	if c.Number == 0 || c.Number != epoch {
		return nil, fault.New(fault.Conflict, "journal: base", "of epoch %d, the journal is at %d", epoch, c.Number)
	}
	v.point = Point{Epoch: c.Number, Position: c.First}
	t := v.files.fold.tables.last()
	v.sizes = t.limits()
	v.disks = slices.DeleteFunc(slices.Concat(t.Disks, t.Joining), func(d wire.Disk) bool { return d.Bytes < v.sizes[d.Index] })
	if v.maps, err = j.mapUnflushed(ctx, &v.files, v.disks, v.point); err != nil {
		return nil, err
	}
	if j.meta.Parent != nil {
		if v.parent, err = j.viewParent(ctx); err != nil {
			return nil, err
		}
	}
	return v, nil
}
