package layer

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Verify reads everything and reports what is damaged, by range and version, going on behind it. A damaged index block is the whole
// range that it covered, in all versions that it told of. Damage that concerns no content has a range of no sectors. An error
// that is no corruption ends it.
func (r *Reader) Verify(ctx context.Context, found func(Range, error)) error {
	v := &verifier{r: r, window: window{file: &r.file}, found: found, dataAt: headerSize}
	defer v.window.close()
	if err := v.header(ctx); err != nil {
		return fault.Wrap("layer: verify", err)
	}
	for i := range r.top {
		if err := v.block(ctx, i); err != nil {
			return fault.Wrap("layer: verify", err)
		}
	}
	v.flush()
	v.follows(r.dataEnd)
	return fault.Wrap("layer: verify", v.tops(ctx))
}

type verifier struct {
	window
	r      *Reader
	found  func(Range, error)
	buf    []byte
	dataAt int64 // where the next data block must be; negative if not known
	damage Range // found, and perhaps going on
	cause  error
}

func (v *verifier) header(ctx context.Context) error {
	h, err := ReadHeader(ctx, v.src)
	if err == nil && (h.Journal != v.journal || h.Number != v.number) {
		err = fault.New(fault.Corruption, "layer: header", "the header names layer %d of journal %x", h.Number, h.Journal)
	}
	if err != nil && !fault.Is(err, fault.Corruption) && !fault.Is(err, fault.Unsupported) {
		return err
	}
	if err != nil {
		v.found(Range{}, err)
	}
	return nil
}

// tops reads both top indexes, of which opening needed only one.
func (v *verifier) tops(ctx context.Context) error {
	tail, err := v.r.tail(ctx, 2*(int64(v.r.foot.topLen)+footerSize))
	if fault.Is(err, fault.Corruption) { // since it was opened
		v.found(Range{}, err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, at := range []int64{v.size - footerSize, v.size - int64(len(tail)) + int64(v.r.foot.topLen)} {
		r := *v.r
		f, err := r.footer(tail, at)
		if err == nil {
			err = r.take(ctx, &f, tail)
		}
		if err != nil && !fault.Is(err, fault.Corruption) && !fault.Is(err, fault.Unsupported) {
			return err
		}
		if err != nil {
			v.found(Range{}, err)
		}
	}
	return nil
}

// follows reports bytes that no index speaks of.
func (v *verifier) follows(off int64) {
	if v.dataAt >= 0 && v.dataAt != off {
		v.found(Range{}, fault.New(fault.Corruption, "layer: verify", "layer %d: data blocks end at %d, and the next begin at %d", v.number, v.dataAt, off))
	}
}

func (v *verifier) block(ctx context.Context, i int) error {
	t := &v.r.top[i]
	ix, err := v.r.loadIndex(ctx, i)
	if fault.Is(err, fault.Corruption) {
		v.flush()
		lost := Range{Disk: t.disk, Sector: t.first, Sectors: t.end - t.first, Version: t.newest}
		if t.oldest != t.newest {
			lost.Since = t.oldest
		}
		v.found(lost, err)
		v.dataAt = -1
		return nil
	}
	if err != nil {
		return err
	}
	v.follows(ix.dataAt)
	v.dataAt = ix.dataEnd()
	for c := ix.start(); c.record(); {
		for c.left > 0 {
			e := c.entry()
			if e.kind != Data {
				continue
			}
			x := extent{sector: c.start, sectors: c.end - c.start, ix: ix, raw: e.raw, sums: e.sums}
			if err := v.extent(ctx, &x, e.version); err != nil {
				return err
			}
		}
	}
	return nil
}

// extent reads all of an extent, and where that fails cell by cell.
func (v *verifier) extent(ctx context.Context, x *extent, ver Version) error {
	for at, end := x.sector, x.sector+x.sectors; at < end; {
		to := min(end, at/widestSpan*widestSpan+widestSpan)
		err := v.read(ctx, x, at, to)
		if err != nil && !fault.Is(err, fault.Corruption) {
			return err
		}
		for ; err != nil && at < to; at = min(to, at&^(CellSectors-1)+CellSectors) {
			next := min(to, at&^(CellSectors-1)+CellSectors)
			err := v.read(ctx, x, at, next)
			switch {
			case err == nil:
			case !fault.Is(err, fault.Corruption):
				return err
			default:
				v.note(Range{Disk: x.ix.disk, Sector: at, Sectors: next - at, Version: ver}, err)
			}
		}
		at = to
	}
	return nil
}

func (v *verifier) read(ctx context.Context, x *extent, from, to uint64) error {
	v.buf = grow(v.buf, int(to-from)*SectorSize)
	return v.load(ctx, x, x.ix.disk, from, v.buf)
}

// note joins damage that goes on.
func (v *verifier) note(r Range, err error) {
	d := &v.damage
	if d.Sectors > 0 && d.Disk == r.Disk && d.Version == r.Version && d.Sector+d.Sectors == r.Sector {
		d.Sectors += r.Sectors
		return
	}
	v.flush()
	v.damage, v.cause = r, err
}

func (v *verifier) flush() {
	if v.damage.Sectors > 0 {
		v.found(v.damage, v.cause)
	}
	v.damage = Range{}
}
