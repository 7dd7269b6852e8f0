package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Report is what Verify found.
type Report struct {
	ID                        string
	Segments, Frames, Extents int
	Bytes                     int64
	TornBytes                 int64   // after the last good frame of the last segment; harmless
	Problems                  []error // each a Corruption that names segment and offset
}

// Verify checks every byte of a journal that is not open, and changes nothing. An error means that it could not
// be checked; what it found wrong is in the report.
func Verify(ctx context.Context, fsys vfs.FS, dir string) (r Report, err error) {
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
	v := verifier{directory: directory{fs: fsys, dir: dir, id: m.idBytes(), disks: newDiskSet(m.Disks)}, r: &r}
	return r, v.run(ctx)
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
	r    *Report
	fold fold
}

func (v *verifier) run(ctx context.Context) error {
	low, err := v.readMark()
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Corruption, "journal: "+markName, "is missing")
	}
	if err := v.r.note(err); err != nil {
		return err
	}
	count, sidecars, err := v.segments()
	if err != nil {
		return v.r.note(err)
	}
	if low.segment > count {
		return v.r.note(fault.New(fault.Corruption, "journal: verify", "%s is missing", segName(low.segment)))
	}
	for n := uint64(1); n <= count; n++ {
		if err := ctx.Err(); err != nil {
			return fault.New(fault.Transient, "journal: verify", "%w", err)
		}
		sealed := n < count || sidecars[n]
		bound := int64(segHeaderSize)
		if low.segment == n {
			bound = max(bound, low.bytes)
		}
		b, err := v.segment(n, sealed, bound)
		if err != nil || b == nil {
			return err // what follows cannot be judged without this one's end
		}
		v.fold = b.fold
		if err := v.sidecar(b, sidecars[n]); err != nil {
			return err
		}
	}
	return nil
}

// segment checks every frame. It returns nil if the fold after it is unknown.
func (v *verifier) segment(n uint64, sealed bool, bound int64) (*builder, error) {
	f, err := v.openSegment(n)
	if err != nil {
		return nil, v.r.note(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, vfs.Fault("journal: verify "+segName(n), err)
	}
	b, good, err := v.scan(f, n, v.fold)
	v.r.Segments++
	v.r.Bytes += good
	v.r.Frames += b.frames
	v.r.Extents += len(b.index)
	switch {
	case err == nil && good < bound:
		err = fault.New(fault.Corruption, "journal: "+segName(n), "ends at offset %d, %d bytes were durable", good, bound)
	case err == nil:
		return b, nil
	case !sealed && b.torn && good >= bound:
		v.r.TornBytes = size - good
		return b, nil
	}
	return nil, v.r.note(damage(n, good, err))
}

// sidecar must be what the segment gives.
func (v *verifier) sidecar(b *builder, exists bool) error {
	if !exists {
		return nil
	}
	want, err := encodeSidecar(v.id, b.segment(), b.index)
	if err != nil {
		return err
	}
	got, err := vfs.ReadFile(v.fs, v.path(idxName(b.number)), int64(len(want)))
	if err != nil {
		return v.r.note(vfs.Fault("journal: "+idxName(b.number), err))
	}
	if !bytes.Equal(got, want) {
		return v.r.note(fault.New(fault.Corruption, "journal: "+idxName(b.number), "%s", difference(got, want)).
			WithHint("remove it; opening the journal makes it anew"))
	}
	return nil
}

func difference(got, want []byte) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	return fmt.Sprintf("differs from its segment at offset %d", at)
}
