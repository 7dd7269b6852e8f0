package source

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// findings wait for the epoch that corrects them. Their blocks are debt already, which outlives the agent.
type findings struct {
	doubt wire.Doubt
	first time.Time // of those that wait
	after time.Time // no earlier is the next epoch opened for them
}

func (f *findings) any() bool { return f.doubt.Bytes > 0 }

// differ makes debt of blocks that differ for no known reason.
func (s *Source) differ(w *stretch, blocks []uint64, now time.Time) {
	f, d, size := &s.findings, w.disk, w.disk.debt.BlockSize()
	since := s.plan.proofs.Disks[w.part.n].Proven[w.part.at]
	if !f.any() {
		f.first, f.doubt.Since = now, since*1e9
	}
	f.doubt.Since = min(f.doubt.Since, since*1e9)
	bytes, absent := uint64(0), uint64(0)
	for _, b := range blocks {
		d.debt.Set(b, b+1)
		from, to := b*size, min((b+1)*size, d.Bytes)
		bytes += to - from
		if w.absent.has(b) {
			absent += to - from
		}
		f.doubt.Ranges = addRange(f.doubt.Ranges, wire.Range{Disk: d.Index, Sector: from / wire.SectorSize, Sectors: (to - from) / wire.SectorSize})
	}
	f.doubt.Bytes += bytes
	f.doubt.Absent += absent
	w.found += len(blocks)
	s.mu.Lock()
	all := &s.plan.proofs.Found
	all.Differed, all.Absent, all.Last = all.Differed+bytes-absent, all.Absent+absent, now.UTC()
	s.mu.Unlock()
	s.log.Error("the journal differs from the disk; it is read again", "disk", d.Device, "bytes", bytes, "absent", absent, "first", blocks[0]*size, "proven", since)
}

// addRange keeps as many as a message names, joining those that touch.
func addRange(list []wire.Range, g wire.Range) []wire.Range {
	if n := len(list); n > 0 && list[n-1].Disk == g.Disk && list[n-1].Sector+list[n-1].Sectors == g.Sector {
		list[n-1].Sectors += g.Sectors
		return list
	}
	if len(list) == wire.MaxDoubt {
		return list
	}
	return append(list, g)
}

// correct ends a complete epoch for what was found. It waits for suspects, so that they need no epoch of their own.
func (x *session) correct(now time.Time) {
	f := &x.s.findings
	if !f.any() || !x.announced || x.tainted || !x.s.ep.done || now.Before(f.after) {
		return
	}
	if w := x.verifying.stretch; w != nil && w.suspects.any() && now.Sub(f.first) < 2*settleAtMost {
		return
	}
	x.endEpoch(x.read)
	x.s.log.Info("the epoch ends for what a verify pass found", "epoch", x.s.ep.number, "last", x.gap, "bytes", f.doubt.Bytes)
}

// told takes the findings into the epoch that owes them. The next waits a while, for each ends a stretch of points.
func (f *findings) told(now time.Time, pause time.Duration) *wire.Doubt {
	if !f.any() {
		return nil
	}
	d := f.doubt
	*f = findings{after: now.Add(pause)}
	return &d
}

// freed is what no file system used when they were last asked: the journal need not have it. A block that is in use since
// is compared the next time.
type freed struct {
	at        time.Time // when the search began
	ranges    map[uint16][]Range
	found     chan map[uint16][]Range // has room for one
	searching bool
}

const askAgain = time.Hour

// leftOut is what need not be compared of a disk; false while it is being looked for. Where it cannot be told, what the
// journal has nothing of means nothing.
func (s *Source) leftOut(d *disk, now time.Time) (unused []Range, told, known bool) {
	f := &s.freed
	if s.cfg.Unused == nil {
		return nil, true, true
	}
	select {
	case f.ranges = <-f.found:
		f.searching = false
	default:
	}
	if f.searching {
		return nil, false, false
	}
	if f.ranges == nil || now.Sub(f.at) > askAgain {
		f.at, f.searching = now, true
		ctx := s.running
		s.finder.group.Go(func() { f.found <- s.freeNow(ctx) })
		return nil, false, false
	}
	unused, told = f.ranges[d.Index]
	return unused, told, true
}

// freeNow asks for all disks. One that cannot be told is missing.
func (s *Source) freeNow(ctx context.Context) map[uint16][]Range {
	out := map[uint16][]Range{}
	if err := s.cfg.Unused.Commit(ctx); err != nil {
		s.log.Warn("it cannot be told what is in use", "err", err)
		return out
	}
	type answer struct {
		disk   uint16
		ranges []Range
	}
	answers := make(chan answer, len(s.disks))
	var group errgroup.Group
	group.SetLimit(finders)
	for _, d := range s.disks {
		group.Go(func() error {
			list, err := s.cfg.Unused.Find(ctx, d.Index, false)
			if err != nil {
				return fault.Wrap("source: unused: "+d.Device, err)
			}
			answers <- answer{d.Index, list}
			return nil
		})
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		s.log.Warn("it cannot be told what is in use", "err", err)
	}
	close(answers)
	for a := range answers {
		out[a.disk] = a.ranges
	}
	return out
}
