package journal

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Limits of one step of Maintain.
type Limits struct {
	// Pace is asked before bytes are read and written, and may wait; nil does not.
	Pace func(ctx context.Context, bytes int64) error
	// SealAfter ends a segment that is older, so that what it holds reaches the layers; 0 leaves it to its size.
	SealAfter time.Duration
	// Urgent reclaims what little can be reclaimed, because room is short.
	Urgent bool
}

func (l *Limits) pace(ctx context.Context, bytes int64) error {
	if l.Pace == nil {
		return ctx.Err()
	}
	return l.Pace(ctx, bytes)
}

// Maintain does one step of what keeps a journal small and quick: it deletes what nobody needs, turns a sealed segment into
// layers, merges layers, or reclaims what is not retained any more. It says false when there is nothing to do. Each step
// leaves the journal whole, whatever happens in it; an error means that the step is still to be done.
func (j *Journal) Maintain(ctx context.Context, l Limits) (did bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(j.stop, cancel)()
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	if err := j.isClosed(); err != nil {
		return false, err
	}
	if did, err = j.tidy(ctx); did || err != nil {
		return did, stepError(ctx, err)
	}
	did, swept := j.sweep(ctx)
	if did && swept == nil {
		return true, nil
	}
	for _, step := range []func(context.Context, *Limits) (bool, error){j.sealOld, j.flush, j.mergeStep, j.reclaim, j.saveRetention} {
		if did, err = step(ctx, &l); did || err != nil {
			j.abandon()
			return did, stepError(ctx, err)
		}
	}
	return false, stepError(ctx, swept) // what cannot be deleted holds nothing else up
}

// stepError tells being stopped from failing.
func stepError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !fault.Is(err, fault.Transient) {
		return fault.New(fault.Transient, "journal: maintain", "%w", errors.Join(ctx.Err(), err))
	}
	return fault.Wrap("journal: maintain", err)
}

// tidy settles what is on disk and in object storage, and deletes what a crash left.
func (j *Journal) tidy(ctx context.Context) (bool, error) {
	if j.unsettled {
		return true, j.commit(ctx, j.catalogue().clone())
	}
	if j.o.Remote {
		if err := j.publishRemote(ctx); err != nil {
			return false, err
		}
	}
	if !j.orphans {
		if err := j.sweepOrphans(ctx); err != nil {
			return false, err
		}
		j.orphans = true
	}
	return false, nil
}

func (j *Journal) sealOld(_ context.Context, l *Limits) (bool, error) {
	j.w.Lock()
	defer j.w.Unlock()
	if l.Urgent {
		if err := j.dropSpares(); err != nil {
			return false, err
		}
	}
	if l.SealAfter <= 0 || j.closing || j.failed != nil || j.tail == nil || j.tail.frames == 0 || time.Since(j.began) < l.SealAfter {
		return false, nil
	}
	j.aged = true
	return true, errors.Join(j.seal(), j.dropSpares())
}

// Seal ends the unsealed segment, so that Maintain can turn it into layers.
func (j *Journal) Seal() error {
	j.w.Lock()
	defer j.w.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	if j.tail == nil || j.tail.frames == 0 {
		return nil
	}
	return j.seal()
}

// saveRetention makes what Retain said durable when nothing else did, and forgets timelines that are not asked any more.
func (j *Journal) saveRetention(ctx context.Context, _ *Limits) (bool, error) {
	c := j.catalogue()
	r := c.bounded(j.retention())
	j.mu.RLock()
	noted := len(j.noted) > 0
	j.mu.RUnlock()
	if !noted && c.Retained.same(&r) {
		return false, nil
	}
	return true, j.commit(ctx, c.clone())
}

func (r *retained) same(o *retained) bool {
	if r.From != o.From || len(r.Points) != len(o.Points) {
		return false
	}
	for i := range r.Points {
		if r.Points[i].version() != o.Points[i].version() {
			return false
		}
	}
	return true
}

// Pressure is how far flushing is behind appending.
type Pressure int

// The pressures.
const (
	Relaxed Pressure = iota
	Slow             // appends should be slowed down
	Full             // appends are refused
)

// What waits costs its readers by its entries: whoever looks at the journal goes through all of them. Its bytes cost room
// only. So small writes, 64Ki of 4 KiB to a quarter of a GiB, are put away early, and a first copy of a disk, whose entries are long,
// may arrive as fast as it comes and is put away afterwards.
const (
	slowEntries  = 64 << 10
	fullEntries  = 256 << 10
	slowBytes    = 32 * defaultSegmentBytes
	fullBytes    = 128 * defaultSegmentBytes
	fullSegments = 4096
)

// Pressure tells whether whoever appends should wait a little.
func (j *Journal) Pressure() Pressure {
	j.mu.RLock()
	defer j.mu.RUnlock()
	entries := 0
	for _, s := range j.pub.sealed {
		entries += s.entries
	}
	switch n := j.pub.bytes; {
	case n >= fullBytes || entries >= fullEntries || len(j.pub.sealed) >= fullSegments:
		return Full
	case n >= slowBytes || entries >= slowEntries:
		return Slow
	}
	return Relaxed
}
