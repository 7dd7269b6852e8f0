package journal

import (
	"errors"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Sync makes everything appended so far durable and visible. If it fails, everything since the last one that succeeded is
// gone, and the journal goes on from there once the disk takes writes again.
func (j *Journal) Sync() error {
	j.w.Lock()
	defer j.w.Unlock()
	if j.closing {
		return fault.New(fault.Conflict, "journal: "+j.dir, "closed")
	}
	if err := j.failed; err != nil {
		return errors.Join(err, j.heal())
	}
	return j.sync()
}

func (j *Journal) sync() error {
	if j.failed != nil {
		return j.failed
	}
	if j.tail == nil || (j.tail.bytes == j.undo.bytes && !j.cut) {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		// Linux may have marked the lost pages clean: no later fsync tells about them, so they must not stay.
		err = vfs.Fault("journal: sync", err)
		j.failed = err
		return errors.Join(err, j.heal())
	}
	j.cut = false
	j.publish()
	j.writeMark()
	return nil
}

// publish shows the tail to readers.
func (j *Journal) publish() {
	t := j.tail
	j.undo = undo{
		fold: t.fold, bytes: t.bytes, raw: t.raw, frames: t.frames, index: len(t.index), sums: len(t.sums), epochs: len(t.epochs), spans: slices.Clone(t.spans),
	}
	v := &tailView{
		number: t.number, baseEpoch: t.baseEpoch, bytes: t.bytes, frames: t.frames, index: t.index[:len(t.index):len(t.index)], spans: j.undo.spans, began: j.began,
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pub.fold, j.pub.tail = t.fold, v
}

// writeMark is best effort: the mark is a lower bound.
func (j *Journal) writeMark() {
	if j.markF == nil {
		return
	}
	m := mark{segment: j.tail.number, bytes: j.tail.bytes}
	if _, err := j.markF.WriteAt(m.encode(), 0); err != nil {
		j.log.Warn("journal: tail mark not written", "dir", j.dir, "err", err)
	}
}

// heal cuts the tail back to what was durable at the last successful sync.
func (j *Journal) heal() error {
	if j.tail != nil {
		if err := j.file.Truncate(j.undo.bytes); err != nil {
			return j.unhealed(err)
		}
		if err := j.file.Sync(); err != nil {
			return j.unhealed(err)
		}
		t, u := j.tail, &j.undo
		t.fold, t.bytes, t.raw, t.frames = u.fold, u.bytes, u.raw, u.frames
		t.sums = t.sums[:u.sums:u.sums]
		t.index, t.epochs, t.spans = t.index[:u.index:u.index], t.epochs[:u.epochs:u.epochs], slices.Clone(u.spans)
	}
	j.failed, j.cut = nil, false
	return nil
}

func (j *Journal) unhealed(err error) error {
	return fault.New(fault.Transient, "journal: "+j.dir, "the last write failed (%w) and cannot be undone: %w", j.failed, err).
		WithHint("look at the disk that holds the journal")
}

// place sees to it that the tail has room for f: it seals a full segment and begins the next.
func (j *Journal) place(f *wire.Frame) error {
	if j.tail != nil && !j.tail.fits(f, j.o.SegmentBytes) {
		if j.Pressure() == Full {
			return fault.New(fault.OutOfSpace, "journal: append", "too many segments wait to become layers").
				WithHint("look for the reason in the log of the replication server; it goes on by itself")
		}
		j.aged = false
		if err := j.seal(); err != nil {
			return err
		}
	}
	if j.tail == nil {
		return j.begin()
	}
	return nil
}

// seal makes the tail a sealed segment: synced, then indexed by a sidecar.
func (j *Journal) seal() error {
	if err := j.sync(); err != nil {
		j.failed = err // even if it is healed: only Sync can say that frames from before this one are gone
		return err
	}
	if err := j.cutTail(); err != nil {
		return err
	}
	j.tail.sealing = true
	s := j.tail.segment()
	s.began = j.began
	if err := j.writeSidecar(s, j.tail.index, j.tail.sums); err != nil {
		return err
	}
	if err := j.file.Close(); err != nil { // harmless: it is synced
		j.log.Warn("journal: sealed segment not closed", "dir", j.dir, "segment", segName(s.number), "err", err)
	}
	j.before = j.tail.fold
	j.tail, j.file = nil, nil
	j.addSealed(s)
	return nil
}

func (j *Journal) addSealed(s *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pub.sealed, j.pub.tail = append(j.pub.sealed, s), nil
	j.pub.bytes += s.bytes
	j.pub.frames += uint64(s.sum.Frames)
}

func (d *directory) writeSidecar(s *segment, index []entry, sums []uint64) error {
	b, err := encodeSidecar(d, s, index, sums)
	if err != nil {
		return err
	}
	return vfs.Fault("journal: seal "+segName(s.number), vfs.WriteAtomic(d.fs, d.path(idxName(s.number)), b))
}

// begin makes the next segment. Its header is durable before any frame is written.
func (j *Journal) begin() error {
	number := j.lastSegment() + 1
	f, err := j.createSegment(number)
	if err != nil {
		return err
	}
	s, err := j.asSegment(f, number)
	if err != nil {
		return errors.Join(err, f.Close(), j.fs.Remove(j.path(segName(number))))
	}
	j.file, j.tail, j.began = s, newBuilder(s, j.before), time.Now()
	j.publish()
	return nil
}

// lastSegment is the number of the newest sealed segment there ever was.
func (j *Journal) lastSegment() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if n := len(j.pub.sealed); n > 0 {
		return j.pub.sealed[n-1].number
	}
	return j.pub.cat.Flushed
}
