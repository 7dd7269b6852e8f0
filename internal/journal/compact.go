package journal

import (
	"context"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
)

// mergeRuns is how many neighbouring runs of about one size are merged into one.
const mergeRuns = 3

// movedPart: a layer of a sixteenth of the usual size stands alone.
const movedPart = 16

// stretchLayers is how much is looked at for one step, in layers of the usual size: a step makes one.
const stretchLayers = 4

// plan chooses runs to merge: the newest ones of which each is no more than twice as large as all that are newer together.
// Every run is then more than twice as large as all newer ones, so their number is logarithmic, and each byte is rewritten
// as often. While a large merge is under way the runs that came after
// it are planned on their own, so they never pile up.
func (c *catalogue) plan() {
	c.Merging = slices.DeleteFunc(c.Merging, func(g []uint64) bool { return len(c.members(g)) < 2 })
	first := 0 // of those that are not being merged
	for i := range c.Runs {
		if slices.ContainsFunc(c.Merging, func(g []uint64) bool { return slices.Contains(g, c.Runs[i].ID) }) {
			first = i + 1
		}
	}
	lo := c.ripe(first)
	if lo < 0 {
		return
	}
	var group []uint64
	for _, r := range c.Runs[lo:] {
		group = append(group, r.ID)
	}
	c.Merging = append(c.Merging, group)
}

// ripe is where the runs begin that are to be merged, or -1. Runs that are newer than those of about one size are smaller
// than these, and are merged with them for little more.
func (c *catalogue) ripe(first int) int {
	for end := len(c.Runs); end-first >= mergeRuns; end-- {
		sum, lo := c.Runs[end-1].bytes(), end-1
		for lo > first && c.Runs[lo-1].bytes() <= 2*sum {
			lo--
			sum += c.Runs[lo].bytes()
		}
		if end-lo >= mergeRuns {
			return lo
		}
	}
	return -1
}

// members is the indices of the runs of a group that are still there, oldest first.
func (c *catalogue) members(group []uint64) (list []int) {
	for i := range c.Runs {
		if slices.Contains(group, c.Runs[i].ID) {
			list = append(list, i)
		}
	}
	return list
}

// mergeStep merges the next stretch of the runs that are being merged.
func (j *Journal) mergeStep(ctx context.Context, l *Limits) (bool, error) {
	c := j.catalogue().clone()
	c.plan()
	if len(c.Merging) == 0 {
		return false, nil
	}
	g := c.members(c.Merging[len(c.Merging)-1])
	from, to, move := c.stretch(g, j.o.LayerBytes)
	if move != nil {
		move(c)
	} else if _, err := j.mergeRange(ctx, c, g, from, to, l); err != nil {
		return false, err
	}
	c.dropEmpty()
	return true, j.commit(ctx, c)
}

// dropEmpty forgets runs that were merged away.
func (c *catalogue) dropEmpty() {
	c.Runs = slices.DeleteFunc(c.Runs, func(r run) bool { return len(r.Layers) == 0 })
}

// stretch chooses what to merge next: from the first layer of the newer runs on, everything that hangs together by
// overlapping, as far as is worth looking. A layer that overlaps nothing, and is large enough to stand alone, moves into the oldest run as it is.
func (c *catalogue) stretch(g []int, least int64) (from, to layer.Key, move func(*catalogue)) {
	newer, at := -1, 0
	for _, i := range g[1:] {
		for k := range c.Runs[i].Layers[:min(1, len(c.Runs[i].Layers))] {
			if newer < 0 || c.Runs[i].Layers[k].From.Compare(from) < 0 {
				newer, at, from = i, k, c.Runs[i].Layers[k].From
			}
		}
	}
	first := c.Runs[newer].Layers[at]
	to = first.To
	if c.alone(g, newer, first) && first.Live >= first.Info.Bytes/2 && first.Info.Bytes >= least/movedPart {
		return from, to, func(c *catalogue) {
			c.Runs[newer].Layers = c.Runs[newer].Layers[1:]
			c.Runs[g[0]] = c.Runs[g[0]].with([]layerRef{first})
		}
	}
	for grown, bytes := true, int64(0); grown && bytes < stretchLayers*c.layerBytes(least); {
		grown, bytes = false, 0
		for _, i := range g {
			for _, r := range c.Runs[i].between(from, to) {
				bytes += r.Live
				if i == g[0] && r.From.Compare(from) < 0 {
					from, grown = r.From, true
				}
				if r.To.Compare(to) > 0 {
					to, grown = r.To, true
				}
			}
		}
	}
	return from, to, nil
}

func (c *catalogue) alone(g []int, own int, ref layerRef) bool {
	for _, i := range g {
		if i != own && c.Runs[i].overlaps([]layerRef{ref}) {
			return false
		}
	}
	return true
}

// mergeRange merges [from, to) of some runs into the oldest of them, as far as one layer takes it, and returns where it
// ended. What it was made from is trimmed.
func (j *Journal) mergeRange(ctx context.Context, c *catalogue, g []int, from, to layer.Key, l *Limits) (layer.Key, error) {
	it, err := j.mergeIterator(ctx, c, g, from, to)
	if err != nil {
		return from, err
	}
	defer func() { _ = it.Close() }()
	ref, more, err := j.writeLayer(ctx, c, it, zstd.SpeedDefault, l)
	if err != nil {
		return from, err
	}
	if more {
		to = ref.To // the end of the last span that went in
	}
	for _, i := range g {
		c.Runs[i] = c.Runs[i].without(from, to)
	}
	if ref != nil {
		c.Runs[g[0]] = c.Runs[g[0]].with([]layerRef{*ref})
	}
	return to, nil
}

func (j *Journal) mergeIterator(ctx context.Context, c *catalogue, g []int, from, to layer.Key) (layer.Iterator, error) {
	inputs := make([]layer.Iterator, 0, len(g))
	for _, i := range g {
		inputs = append(inputs, j.runIterator(&c.Runs[i], from, to))
	}
	next := *c
	next.Retained = c.bounded(j.retention())
	return layer.Merge(inputs, next.keep(c.bottom(g, j.meta.Parent != nil))), nil
}

// bottom tells whether zeroes that nothing lies below may be dropped. Something may still come to lie below them as long as a
// baseline is being sent, that of a joining disk included, or a newer run holds versions that are older.
func (c *catalogue) bottom(g []int, branch bool) bool {
	if branch || g[0] != 0 || !c.Fold.Current.Done || c.Fold.joining() {
		return false
	}
	var newest layer.Version
	for _, i := range g {
		for k := range c.Runs[i].Layers {
			if v := c.Runs[i].Layers[k].Info.Newest; v.Compare(newest) > 0 {
				newest = v
			}
		}
	}
	for i := range c.Runs {
		if slices.Contains(g, i) {
			continue
		}
		for k := range c.Runs[i].Layers {
			if c.Runs[i].Layers[k].Info.Oldest.Compare(newest) <= 0 {
				return false
			}
		}
	}
	return true
}

// without is the run less [from, to). A layer that reaches over both ends is named twice then.
func (r run) without(from, to layer.Key) run {
	var kept []layerRef
	for _, ref := range r.Layers {
		if ref.To.Compare(from) <= 0 || ref.From.Compare(to) >= 0 {
			kept = append(kept, ref)
			continue
		}
		if ref.From.Compare(from) < 0 {
			kept = append(kept, ref.cut(ref.From, from))
		}
		if ref.To.Compare(to) > 0 {
			kept = append(kept, ref.cut(to, ref.To))
		}
	}
	r.Layers = kept
	return r
}

func (ref layerRef) cut(from, to layer.Key) layerRef {
	if from.Disk == to.Disk && ref.From.Disk == ref.To.Disk {
		ref.Live = int64(float64(ref.Live) * float64(to.Sector-from.Sector) / float64(ref.To.Sector-ref.From.Sector))
	} else {
		ref.Live /= 2
	}
	ref.From, ref.To = from, to
	return ref
}

// runIterator goes through what lies in [from, to) of a run, opening one layer at a time.
type runIterator struct {
	j        *Journal
	layers   []layerRef
	from, to layer.Key
	cur      layer.Iterator
}

func (j *Journal) runIterator(r *run, from, to layer.Key) *runIterator {
	it := &runIterator{j: j, from: from, to: to}
	for _, ref := range r.Layers {
		if ref.To.Compare(from) > 0 && ref.From.Compare(to) < 0 {
			it.layers = append(it.layers, ref)
		}
	}
	return it
}

// Next implements layer.Iterator.
func (it *runIterator) Next(ctx context.Context) (layer.Span, bool, error) {
	for {
		if it.cur == nil {
			if len(it.layers) == 0 {
				return layer.Span{}, false, nil
			}
			if err := it.open(ctx); err != nil {
				return layer.Span{}, false, err
			}
		}
		s, ok, err := it.cur.Next(ctx)
		if ok || err != nil {
			return s, ok, err
		}
		if err := it.Close(); err != nil {
			return layer.Span{}, false, err
		}
	}
}

func (it *runIterator) open(ctx context.Context) error {
	ref := &it.layers[0]
	it.layers = it.layers[1:]
	from, to := ref.From, ref.To
	if from.Compare(it.from) < 0 {
		from = it.from
	}
	if to.Compare(it.to) > 0 {
		to = it.to
	}
	r, err := it.j.layer(ctx, ref)
	switch {
	case unreadable(err):
		if err := it.j.writeOff(ctx, ref.Name, err); err != nil {
			return err
		}
		it.j.log.Error("journal: layer lost", "dir", it.j.dir, "file", ref.Name, "err", err)
		it.cur = layer.Unreadable(it.j.lostRanges(ref, from, to))
	case err != nil:
		return err
	default:
		it.cur = r.Iterate(from, to, true)
	}
	return nil
}

// unreadable tells whether a file is not there or not what it was, for good.
func unreadable(err error) bool {
	return fault.Is(err, fault.Corruption) || fault.Is(err, fault.NotFound)
}

// writeOff is asked before a layer that cannot be read becomes lost for good. Where several files are missing and all that is there is
// newer, it is the store that is missing: not mounted, another one, or emptied by a rule for old objects.
func (j *Journal) writeOff(ctx context.Context, name string, cause error) error {
	if !fault.Is(cause, fault.NotFound) {
		return nil
	}
	there := map[string]bool{}
	for _, kind := range []string{"layer-", "timeline-"} {
		list, err := j.blobs.List(ctx, kind)
		if err != nil {
			return err
		}
		for _, o := range list {
			there[o.Name] = true
		}
	}
	missing, newest, oldest := 0, uint64(0), uint64(math.MaxUint64)
	for name, number := range j.catalogue().numbers() {
		if there[name] {
			oldest = min(oldest, number)
		} else {
			missing, newest = missing+1, max(newest, number)
		}
	}
	if missing < 2 || oldest < newest {
		return nil
	}
	return fault.New(fault.Transient, "journal: "+name, "is missing with everything older, so nothing is merged").
		WithHint("see whether the store that holds the layers is the right one, and is mounted")
}

// lostRanges is what a layer may have said of [from, to), disk by disk.
func (j *Journal) lostRanges(ref *layerRef, from, to layer.Key) (list []layer.Range) {
	p := j.snapshot()
	for _, d := range p.fold.tables.extent() {
		start, end := uint64(0), d.Bytes/layer.SectorSize
		if d.Index == from.Disk {
			start = from.Sector
		}
		if d.Index == to.Disk {
			end = min(end, to.Sector)
		}
		if d.Index >= from.Disk && d.Index <= to.Disk && start < end {
			list = append(list, layer.Range{Disk: d.Index, Sector: start, Sectors: end - start, Version: ref.Info.Newest, Since: ref.Info.Oldest})
		}
	}
	return list
}

// Close implements layer.Iterator.
func (it *runIterator) Close() error {
	if it.cur == nil {
		return nil
	}
	cur := it.cur
	it.cur = nil
	return cur.Close()
}
