package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// VerifyOptions of Verify.
type VerifyOptions struct {
	Keys   encryption.Provider
	Blobs  blob.Store // where layers are; nil: in the journal's directory
	Sample float64    // the part of the layers to read, chosen at random; 0 or 1: all
}

// Report is what Verify found.
type Report struct {
	ID                        string
	Segments, Frames, Extents int
	Layers, Timelines         int
	Skipped                   int // layers that the sample left out
	Bytes                     int64
	TornBytes                 int64    // after the last good frame of the last segment; harmless
	Problems                  []error  // each a Corruption that names file and offset
	Damage                    []Damage // what of the disks cannot be read because of it
}

// Verify checks every byte of a journal that is not open, and changes nothing. An error means that it could not
// be checked; what it found wrong is in the report.
func Verify(ctx context.Context, fsys vfs.FS, dir string, o VerifyOptions) (r Report, err error) {
	if _, err := fsys.Stat(filepath.Join(dir, metaName)); err != nil {
		return r, vfs.Fault("journal: verify "+dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return r, vfs.Fault("journal: verify "+dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	m, err := readMeta(fsys, dir)
	if err != nil {
		return r, r.note(err)
	}
	r.ID = m.ID
	v := verifier{directory: directory{fs: fsys, dir: dir, id: m.idBytes(), disks: m.Disks}, r: &r, o: o, cat: &catalogue{}}
	if err := v.open(ctx, m); err != nil {
		return r, r.note(err)
	}
	if err := v.layers(ctx); err != nil {
		return r, err
	}
	v.fold = v.cat.Fold.fold(v.disks)
	err = v.segmentsFrom(ctx, v.cat.Flushed)
	v.tellTimes()
	return r, err
}

// note keeps damage for the report and returns every other error.
func (r *Report) note(err error) error {
	if fault.Is(err, fault.Corruption) {
		r.Problems = append(r.Problems, err)
		return nil
	}
	return err
}

type verifier struct {
	directory
	r     *Report
	o     VerifyOptions
	blobs blob.Store
	cat   *catalogue
	fold  fold
	ends  []end
}

// open finds key and catalogue; a journal of format 1 has neither.
func (v *verifier) open(ctx context.Context, m meta) (err error) {
	if m.Format < FormatV2 {
		v.key = encryption.NewDataKey()
		return nil
	}
	if err := v.unlock(ctx, v.o.Keys); err != nil {
		return err
	}
	c, errs := v.readCatalogues()
	for _, err := range errs {
		if err := v.r.note(missing(catName, err)); err != nil {
			return err
		}
	}
	if v.cat = c; c == nil {
		v.cat = &catalogue{}
		return fault.New(fault.Corruption, "journal: "+catName, "there is none that can be read")
	}
	if v.blobs = v.o.Blobs; v.blobs == nil {
		v.blobs = fileStore{v.fs, v.path(layerDir)}
	}
	return nil
}

// layers checks layers and timelines.
func (v *verifier) layers(ctx context.Context) error {
	for i := range v.cat.Timelines {
		t := &v.cat.Timelines[i]
		b, err := blob.Get(ctx, v.blobs, t.Name, t.Bytes)
		var ends []end
		if err == nil {
			ends, err = parseTimeline(&v.directory, t.Number, b)
		}
		if err := v.r.note(missing(t.Name, err)); err != nil {
			return err
		}
		v.ends = append(v.ends, ends...)
		v.r.Timelines++
		v.r.Bytes += t.Bytes
	}
	seen := map[string]bool{}
	for i := range v.cat.Runs {
		for k := range v.cat.Runs[i].Layers {
			ref := &v.cat.Runs[i].Layers[k]
			if seen[ref.Name] {
				continue
			}
			seen[ref.Name] = true
			if s := v.o.Sample; s > 0 && s < 1 && rand.Float64() >= s {
				v.r.Skipped++
				continue
			}
			if err := v.layer(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// missing makes an object that is not there damage.
func missing(name string, err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Corruption, "journal: "+name, "is missing")
	}
	return fault.Wrap("journal: "+name, err)
}

func (v *verifier) layer(ctx context.Context, ref *layerRef) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Transient, "journal: verify", "%w", err)
	}
	v.r.Layers++
	v.r.Bytes += ref.Info.Bytes
	c, err := v.key.File(ref.Info.Salt, layerPurpose)
	if err != nil {
		return err
	}
	r, err := layer.Open(ctx, blobSource{store: v.blobs, name: ref.Name}, ref.Info.Bytes, c, nil, v.id, ref.Info.Number)
	if err != nil {
		v.damage(Damage{File: ref.Name, Disk: ref.From.Disk, Sector: ref.From.Sector})
		return v.r.note(missing(ref.Name, err))
	}
	defer r.Close()
	return r.Verify(ctx, func(lost layer.Range, cause error) {
		_ = v.r.note(fault.New(fault.Corruption, "journal: "+ref.Name, "disk %d, bytes %d to %d, as written at position %d: %w",
			lost.Disk, lost.Sector*layer.SectorSize, (lost.Sector+lost.Sectors)*layer.SectorSize, lost.Version.Position, cause))
		v.damage(Damage{File: ref.Name, Disk: lost.Disk, Sector: lost.Sector, Sectors: lost.Sectors, Epoch: lost.Version.Epoch, Position: lost.Version.Position})
	})
}

func (v *verifier) damage(d Damage) {
	d.FoundAt = time.Now().UTC()
	v.r.Damage = append(v.r.Damage, d)
}

// tellTimes finds when what is damaged was written.
func (v *verifier) tellTimes() {
	sort.Slice(v.ends, func(i, k int) bool { return v.ends[i].version.Less(v.ends[k].version) })
	for i := range v.r.Damage {
		d := &v.r.Damage[i]
		if !d.Written.IsZero() {
			continue
		}
		at := layer.Version{Epoch: d.Epoch, Position: d.Position}
		n := sort.Search(len(v.ends), func(i int) bool { return !v.ends[i].version.Less(at) })
		if n < len(v.ends) && v.ends[n].version.Epoch == d.Epoch {
			d.Written = unixTime(v.ends[n].time)
		}
	}
}

func (v *verifier) segmentsFrom(ctx context.Context, flushed uint64) error {
	low, err := v.readMark()
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Corruption, "journal: "+markName, "is missing")
	}
	if err := v.r.note(err); err != nil {
		return err
	}
	l, err := v.segments(flushed)
	if err != nil {
		return v.r.note(err)
	}
	if low.segment > l.last {
		return v.r.note(fault.New(fault.Corruption, "journal: verify", "%s is missing", segName(low.segment)))
	}
	for n := l.first; n <= l.last; n++ {
		if err := ctx.Err(); err != nil {
			return fault.New(fault.Transient, "journal: verify", "%w", err)
		}
		bound := int64(segHeaderV1)
		if low.segment == n {
			bound = max(bound, low.bytes)
		}
		known, err := v.segment(n, n < l.last || l.sidecars[n], l.sidecars[n], bound)
		if err != nil || !known {
			return err // what follows cannot be judged without this one's end
		}
	}
	return nil
}

// segment checks every frame and the sidecar. It says false if the fold after it is unknown.
func (v *verifier) segment(n uint64, sealed, indexed bool, bound int64) (known bool, err error) {
	v.r.Segments++
	var side *segment
	var index []entry
	if indexed {
		side, index, err = v.readSidecar(n, true)
		if errors.Is(err, errOldSidecar) {
			err = nil // made anew when the journal is opened
		}
		if err := v.r.note(err); err != nil {
			return false, err
		}
	}
	f, err := v.openSegment(n)
	if err != nil {
		v.lose(index, side)
		return v.restore(side), v.r.note(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return false, vfs.Fault("journal: verify "+segName(n), err)
	}
	b, good, err := v.scan(f, v.fold)
	if b == nil {
		return false, err
	}
	v.count(b, good)
	switch {
	case err == nil && good < bound:
		err = fault.New(fault.Corruption, "journal: "+segName(n), "ends at offset %d, %d bytes were durable", good, bound)
	case err == nil:
		v.fold = b.fold
		v.ends = append(v.ends, endsOf(b.index, b.baseEpoch)...)
		return true, v.sidecar(b, side, index)
	case !sealed && b.torn && good >= bound:
		v.r.TornBytes = size - good
		v.fold = b.fold
		return true, nil
	}
	if err := v.r.note(damage(n, good, err)); err != nil {
		return false, err
	}
	if side == nil {
		return false, v.tellBehind(f, b, good)
	}
	if !fault.Is(err, fault.Corruption) {
		return false, nil
	}
	return v.restore(side), v.behind(f, good, side, index)
}

func (v *verifier) count(b *builder, good int64) {
	v.r.Bytes += good
	v.r.Frames += b.frames
	v.r.Extents += len(b.index)
}

// restore goes on from what a sidecar says of its segment's end.
func (v *verifier) restore(side *segment) bool {
	if side == nil {
		return false
	}
	v.fold.restore(&side.sum)
	return true
}

func (v *verifier) lose(index []entry, side *segment) {
	for i := range index {
		if e := &index[i]; e.sectors > 0 {
			v.damage(Damage{File: segName(side.number), Disk: e.disk, Sector: e.sector, Sectors: uint64(e.sectors), Epoch: side.baseEpoch + uint64(e.epoch), Position: e.pos})
		}
	}
}

// tellBehind tells what still reads behind damage of a segment without an index: opening the journal ends history before it.
func (v *verifier) tellBehind(f *segFile, b *builder, good int64) error {
	lost := &behind{}
	if err := lost.survey(f, good); err != nil {
		return err
	}
	for _, d := range lost.damage(&ending{segment: f.number, good: good, fold: b.fold}) {
		d.File = segName(f.number)
		v.damage(d)
	}
	return nil
}

// behind checks the frames after the first damaged one, which the sidecar finds.
func (v *verifier) behind(f *segFile, from int64, side *segment, index []entry) error {
	r, err := newReader(f)
	if err != nil {
		return err
	}
	v.ends = append(v.ends, endsOf(index, side.baseEpoch)...)
	i := slices.IndexFunc(index, func(e entry) bool { return int64(e.frame) >= from })
	for first := true; i >= 0 && i < len(index); {
		n := i
		for n < len(index) && index[n].frame == index[i].frame {
			n++
		}
		r.off = int64(index[i].frame)
		_, ok, err := r.next()
		switch {
		case fault.Is(err, fault.Corruption) || (err == nil && !ok):
			if !first {
				err = fault.New(fault.Corruption, "journal: "+segName(side.number), "damaged at offset %d: %v", index[i].frame, err)
				_ = v.r.note(err)
			}
			v.lose(index[i:n], side)
		case err != nil:
			return err
		default:
			v.r.Frames++
			v.r.Extents += n - i
		}
		i, first = n, false
	}
	return nil
}

// sidecar must be what the segment gives.
func (v *verifier) sidecar(b *builder, side *segment, index []entry) error {
	if side == nil {
		return nil
	}
	want := b.segment()
	sums, err := v.readSums(b.number)
	if err != nil {
		return v.r.note(err)
	}
	if slices.Equal(sums, b.sums) && side.bytes == want.bytes && side.baseEpoch == want.baseEpoch && side.sum.equal(&want.sum) && slices.Equal(index, b.index) {
		return nil
	}
	return v.r.note(fault.New(fault.Corruption, "journal: "+idxName(b.number), "differs from its segment").
		WithHint("remove it; opening the journal makes it anew"))
}

func (s *summary) equal(o *summary) bool {
	return s.Frames == o.Frames && s.Highest == o.Highest && s.Data == o.Data && s.Bio == o.Bio &&
		slices.Equal(s.Epochs, o.Epochs) && slices.Equal(s.Spans, o.Spans)
}

// fileStore reads a journal's own layers without changing anything, as opening the directory's store would.
type fileStore struct {
	fs  vfs.FS
	dir string
}

// ReadAt implements blob.Store.
func (s fileStore) ReadAt(_ context.Context, name string, p []byte, off int64) error {
	f, err := s.fs.Open(filepath.Join(s.dir, name))
	if err != nil {
		return vfs.Fault("journal: read", err)
	}
	err = vfs.ReadFull(f, p, off)
	return vfs.Fault("journal: read", errors.Join(err, f.Close()))
}

// Stat implements blob.Store.
func (s fileStore) Stat(_ context.Context, name string) (int64, error) {
	info, err := s.fs.Stat(filepath.Join(s.dir, name))
	return info.Size, vfs.Fault("journal: read", err)
}

func errReadOnly() error { return fault.New(fault.Unsupported, "journal: verify", "changes nothing") }

// Create implements blob.Store.
func (s fileStore) Create(context.Context, string) (blob.Writer, error) { return nil, errReadOnly() }

// Delete implements blob.Store.
func (s fileStore) Delete(context.Context, string) error { return errReadOnly() }

// List implements blob.Store.
func (s fileStore) List(context.Context, string) ([]blob.Info, error) { return nil, errReadOnly() }
