package journal

import (
	"context"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/wire"
)

// flush turns the oldest sealed segment into layers: one for what was captured and one for the baseline in it, which
// then often overlaps nothing and need not be merged.
func (j *Journal) flush(ctx context.Context, l *Limits) (bool, error) {
	p := j.snapshot()
	if len(p.sealed) == 0 {
		return false, nil
	}
	s := p.sealed[0]
	if err := l.pace(ctx, s.bytes); err != nil {
		return false, err
	}
	index, err := j.entries(&p, s)
	if err != nil {
		return false, err
	}
	sums, err := j.indexSums(s, index)
	if err != nil {
		return false, err
	}
	m, err := j.loadSegment(s, index, sums)
	if err != nil {
		return false, err
	}
	c := p.cat.clone()
	if err := j.flushInto(ctx, c, s, index, m, l); err != nil {
		return false, err
	}
	return true, j.commit(ctx, c)
}

func (j *Journal) flushInto(ctx context.Context, c *catalogue, s *segment, index []entry, m *segmentData, l *Limits) error {
	for _, part := range []*layer.Memory{m.baseline, m.captured} {
		refs, err := j.writeLayers(ctx, c, part.Iterate(), zstd.SpeedFastest, l) // merging will take its time
		if err != nil {
			return err
		}
		c.place(refs)
	}
	if err := j.writeTimeline(ctx, c, endsOf(index, s.baseEpoch), s.sum.Spans); err != nil {
		return err
	}
	f := c.Fold.fold(j.disks)
	f.restore(&s.sum)
	c.Fold, c.Flushed, c.Frames = saveFold(f), s.number, c.Frames+uint64(s.sum.Frames)
	return nil
}

// segmentData is a segment in memory.
type segmentData struct {
	baseline, captured *layer.Memory
}

// loadSegment reads a segment by its index. A frame that is damaged makes what the index says of it lost; its sums are
// kept, by which the same content is known should it come again.
func (j *Journal) loadSegment(s *segment, index []entry, sums []uint64) (*segmentData, error) {
	m := &segmentData{baseline: &layer.Memory{}, captured: &layer.Memory{}}
	f, err := j.openSegment(s.number)
	j.noteSegment(s.number, err)
	if fault.Is(err, fault.Corruption) || fault.Is(err, fault.NotFound) {
		j.log.Error("journal: segment lost", "dir", j.dir, "err", err)
		m.lose(index, sums, s.baseEpoch)
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r, err := newReader(f)
	if err != nil {
		return nil, err
	}
	for len(index) > 0 {
		n := slices.IndexFunc(index, func(e entry) bool { return e.frame != index[0].frame })
		if n < 0 {
			n = len(index)
		}
		r.off, r.plain = int64(index[0].frame), nil // a payload that is not compressed lies in there
		err := m.addFrame(r)
		j.noteSegment(s.number, err)
		switch {
		case fault.Is(err, fault.Corruption):
			j.log.Error("journal: frame lost", "dir", j.dir, "segment", segName(s.number), "offset", index[0].frame, "err", err)
			m.lose(index[:n], sums, s.baseEpoch)
		case err != nil:
			return nil, err
		}
		index, sums = index[n:], sums[countSums(index[:n]):]
	}
	return m, nil
}

func (m *segmentData) part(baseline bool) *layer.Memory {
	if baseline {
		return m.baseline
	}
	return m.captured
}

func (m *segmentData) lose(index []entry, sums []uint64, baseEpoch uint64) {
	for i := range index {
		e := &index[i]
		own := sums[:e.cells():e.cells()]
		sums = sums[len(own):]
		switch part := m.part(e.flags&entryBaseline != 0); {
		case e.sectors == 0:
		case e.kind == wire.KindData:
			part.Add(e.disk, e.sector, uint64(e.sectors), e.version(baseEpoch), layer.Lost, nil, known(own))
		default:
			part.Add(e.disk, e.sector, uint64(e.sectors), e.version(baseEpoch), layer.Zero, nil, nil) // the index says all of it
		}
	}
}

// known is nil for the sums of a frame that had none.
func known(sums []uint64) []uint64 {
	if slices.Contains(sums, 0) {
		return nil
	}
	return sums
}

// addFrame keeps the payload of the frame that the reader stands at.
func (m *segmentData) addFrame(r *reader) error {
	frame, ok, err := r.next()
	if err == nil && !ok {
		err = fault.New(fault.Corruption, "journal: read", "the segment ends before it")
	}
	if err != nil {
		return err
	}
	extents, err := frame.ExtentTable(nil)
	if err != nil {
		return err
	}
	raw, err := frame.Payload(nil)
	if err != nil {
		return err
	}
	sums, err := frame.Sums(nil)
	if err != nil {
		return err
	}
	for i := range extents {
		x := &extents[i]
		v, kind := layer.Version{Epoch: frame.Header.Epoch, Position: x.Position}, layer.Zero
		var data []byte
		var own []uint64
		if x.Kind == wire.KindData {
			n := wire.Cells(x.Sector, x.Bytes)
			kind, data, own = layer.Data, raw[:x.Bytes:x.Bytes], sums[:n:n]
			raw, sums = raw[x.Bytes:], sums[n:]
		}
		if x.Bytes > 0 {
			m.part(frame.Header.Type == wire.TypeBaseline).Add(x.Disk, x.Sector, x.Bytes/wire.SectorSize, v, kind, data, own)
		}
	}
	return nil
}

// writeLayers writes spans to as many layers as they need.
func (j *Journal) writeLayers(ctx context.Context, c *catalogue, it layer.Iterator, level zstd.EncoderLevel, l *Limits) (refs []layerRef, err error) {
	defer func() { _ = it.Close() }()
	for {
		ref, more, err := j.writeLayer(ctx, c, it, level, l)
		if err != nil {
			return nil, err
		}
		if ref != nil {
			refs = append(refs, *ref)
		}
		if !more {
			return refs, nil
		}
	}
}

// writeLayer writes one layer: spans until it is large enough, or there are no more. It returns nil when there were none.
func (j *Journal) writeLayer(ctx context.Context, c *catalogue, it layer.Iterator, level zstd.EncoderLevel, l *Limits) (_ *layerRef, more bool, err error) {
	s, ok, err := it.Next(ctx)
	if err != nil || !ok {
		return nil, false, err
	}
	number := c.Next
	c.Next++
	ref := &layerRef{Name: fileName("layer", number)}
	salt := newSalt()
	fc, err := j.key.File(salt, layerPurpose)
	if err != nil {
		return nil, false, err
	}
	out, err := j.blobs.Create(ctx, ref.Name)
	if err != nil {
		return nil, false, err
	}
	defer out.Abort()
	w, err := layer.NewWriter(out, layer.WriterOptions{Journal: j.id, Number: number, Salt: salt, Cipher: fc, Level: level})
	if err != nil {
		return nil, false, err
	}
	limit, paced := c.layerBytes(j.o.LayerBytes), int64(0)
	var lost []layer.Range
	for ok {
		lost = appendLost(lost, &s)
		if err := w.Add(ctx, s); err != nil {
			return nil, false, err
		}
		if n := w.Size() - paced; n >= 1<<20 {
			if err := l.pace(ctx, n); err != nil {
				return nil, false, err
			}
			paced += n
		}
		if w.Size() >= limit {
			break
		}
		if s, ok, err = it.Next(ctx); err != nil {
			return nil, false, err
		}
	}
	if ref.Info, err = w.Finish(); err != nil {
		return nil, false, err
	}
	j.begun(ref.Name, number)
	if err := out.Commit(ctx); err != nil {
		return nil, false, err
	}
	ref.From, ref.To, ref.Live = ref.Info.First, ref.Info.Last, ref.Info.Bytes
	j.noteLost(ref.Name, append(lost, ref.Info.Lost...))
	ref.Info.Lost = nil
	return ref, ok, nil
}

// appendLost adds what a span says is lost already.
func appendLost(lost []layer.Range, s *layer.Span) []layer.Range {
	for i := range s.Entries {
		if s.Entries[i].Kind == layer.Lost && len(lost) < maxDamage {
			lost = append(lost, layer.Range{Disk: s.Disk, Sector: s.Sector, Sectors: s.Sectors, Version: s.Entries[i].Version})
		}
	}
	return lost
}

// layerBytes grows with the journal, so that there are never more than a few thousand layers.
func (c *catalogue) layerBytes(least int64) int64 {
	total := int64(0)
	for i := range c.Runs {
		total += c.Runs[i].bytes()
	}
	return min(max(least, total/2048), max(least, 1<<30))
}

// bytes that count in a run, about.
func (r *run) bytes() int64 {
	n := int64(0)
	for i := range r.Layers {
		n += r.Layers[i].Live
	}
	return n
}

// place adds layers that are newer than everything else. They go into the oldest run such that neither it nor a newer one
// overlaps them, so that a baseline becomes one run without merging; else they are a run of their own.
func (c *catalogue) place(refs []layerRef) {
	if len(refs) == 0 {
		return
	}
	at := len(c.Runs)
	for at > 0 && !c.Runs[at-1].overlaps(refs) {
		at--
	}
	if at == len(c.Runs) {
		c.Runs = append(c.Runs, run{ID: c.Next, Layers: refs})
		c.Next++
		return
	}
	c.Runs[at] = c.Runs[at].with(refs)
}

func (r *run) overlaps(refs []layerRef) bool {
	for i := range refs {
		for k := range r.Layers {
			if r.Layers[k].From.Compare(refs[i].To) < 0 && refs[i].From.Compare(r.Layers[k].To) < 0 {
				return true
			}
		}
	}
	return false
}

// with is the run and more layers, sorted.
func (r run) with(refs []layerRef) run {
	r.Layers = append(slices.Clone(r.Layers), refs...)
	slices.SortFunc(r.Layers, func(a, b layerRef) int { return a.From.Compare(b.From) })
	return r
}

func (j *Journal) writeTimeline(ctx context.Context, c *catalogue, ends []end, spans []span) error {
	if len(ends) == 0 {
		return nil
	}
	number := c.Next
	c.Next++
	b, err := encodeTimeline(&j.directory, number, ends)
	if err != nil {
		return err
	}
	name := fileName("timeline", number)
	j.begun(name, number)
	if err := blob.Put(ctx, j.blobs, name, b); err != nil {
		return err
	}
	c.Timelines = append(c.Timelines, timelineRef{Name: name, Number: number, Bytes: int64(len(b)), Ends: len(ends), Spans: spans})
	return nil
}

// pruneTimelines drops those of which no instant is asked any more: kept points know their position and time.
func (c *catalogue) pruneTimelines(r *retained) {
	c.Timelines = slices.DeleteFunc(c.Timelines, func(t timelineRef) bool {
		return !slices.ContainsFunc(t.Spans, func(s span) bool {
			return (layer.Version{Epoch: s.Epoch, Position: s.Last}).Compare(r.From) >= 0
		})
	})
}

// noteLost keeps what a layer's making could not verify, and says so when it is news.
func (j *Journal) noteLost(file string, lost []layer.Range) {
	now := time.Now().UTC()
	j.mu.Lock()
	defer j.mu.Unlock()
	var first *Damage
	fresh := 0
	for _, r := range lost {
		d := Damage{File: file, Disk: r.Disk, Sector: r.Sector, Sectors: r.Sectors, Epoch: r.Version.Epoch, Position: r.Version.Position, FoundAt: now}
		if j.note(d) {
			if fresh++; first == nil {
				first = &d
			}
		}
	}
	if first != nil {
		j.log.Error("journal: content is lost", "dir", j.dir, "file", file, "stretches", fresh,
			"disk", first.Disk, "sector", first.Sector, "sectors", first.Sectors, "epoch", first.Epoch, "position", first.Position)
	}
}

// noteDamage keeps what a reader could not verify. The reader's caller hears of it.
func (j *Journal) noteDamage(f *fragment, disk uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(Damage{File: f.place(), Disk: disk, Sector: f.start, Sectors: f.sectors, Epoch: f.version.Epoch, Position: f.version.Position, FoundAt: time.Now().UTC()})
}
