package layer

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// fetcher gives data blocks of a file.
type fetcher interface {
	// get is a block, which the caller releases.
	get(ctx context.Context, ix *indexBlock, i int) (*buffer, error)
	// into decodes blocks i to j-1 into dst, which has their raw length.
	into(ctx context.Context, ix *indexBlock, i, j int, dst []byte) error
}

// Read fills dst with the bytes of a Data piece, verified: every cell that the piece touches is checked whole.
func (r *Reader) Read(ctx context.Context, p Piece, dst []byte) error {
	switch {
	case p.Kind == Lost:
		return fault.New(fault.Corruption, "layer: read", "disk %d, sectors %d + %d of epoch %d, position %d are lost",
			p.Disk, p.Sector, p.Sectors, p.Version.Epoch, p.Version.Position)
	case p.Kind != Data || p.at.ix == nil || uint64(len(dst)) != p.Sectors*SectorSize:
		return fault.New(fault.Bug, "layer: read", "%d bytes wanted of a piece of kind %d and %d sectors", len(dst), p.Kind, p.Sectors)
	case p.Sectors == 0:
		return nil
	}
	if err := readExtent(ctx, r, &p.at, p.Disk, p.Sector, dst); err != nil {
		return fault.Wrap("layer: read", err)
	}
	return nil
}

// readExtent reads a part of an extent. Data blocks are cut between cells, so each is verified for itself.
func readExtent(ctx context.Context, f fetcher, x *extent, disk uint16, sector uint64, dst []byte) error {
	ix := x.ix
	from := x.raw + uint32((sector-x.sector)*SectorSize)
	to := from + uint32(len(dst))
	i := ix.find(from)
	for at := from; at < to; {
		b0, b1 := ix.blockRaw(i)
		if b0 < from || b1 > to {
			if err := readPart(ctx, f, x, disk, i, sector+uint64(at-from)/SectorSize, dst[at-from:min(b1, to)-from]); err != nil {
				return err
			}
			i, at = i+1, b1
			continue
		}
		j := i + 1 // a run of blocks that are wanted whole
		for ; j < len(ix.blocks); j++ {
			if _, e := ix.blockRaw(j); e > to || runTooLong(ix, i, j) {
				break
			}
			_, b1 = ix.blockRaw(j)
		}
		part := dst[at-from : b1-from]
		if err := f.into(ctx, ix, i, j, part); err != nil {
			return err
		}
		if err := x.verify(disk, sector+uint64(at-from)/SectorSize, part); err != nil {
			return err
		}
		i, at = j, b1
	}
	return nil
}

// maxRun is how much of a file is read at once.
const maxRun = 256 << 10

func runTooLong(ix *indexBlock, i, j int) bool {
	_, n := ix.run(i, j+1)
	return n > maxRun
}

// readPart copies a part of a block, after verifying the whole cells that it touches.
func readPart(ctx context.Context, f fetcher, x *extent, disk uint16, i int, sector uint64, dst []byte) error {
	b, err := f.get(ctx, x.ix, i)
	if err != nil {
		return err
	}
	defer b.release()
	block, _ := x.ix.blockRaw(i)
	in := func(s uint64) int { return int(int64(x.raw) + int64(s-x.sector)*SectorSize - int64(block)) }
	from, to := x.whole(sector, uint64(len(dst)/SectorSize))
	if err := x.verify(disk, from, b.data[in(from):in(to)]); err != nil {
		return err
	}
	copy(dst, b.data[in(sector):])
	return nil
}

// get takes a block from the cache, or reads it and puts it there.
func (f *file) get(ctx context.Context, ix *indexBlock, i int) (*buffer, error) {
	off, _ := ix.place(i)
	k := cacheKey{journal: f.journal, number: f.number, off: off}
	if b := f.cache.getData(&k); b != nil {
		return b, nil
	}
	from, to := ix.blockRaw(i)
	b := newBuffer(int(to - from))
	if err := f.into(ctx, ix, i, i+1, b.data); err != nil {
		b.release()
		return nil, err
	}
	f.cache.putData(&k, b)
	return b, nil
}

func (f *file) into(ctx context.Context, ix *indexBlock, i, j int, dst []byte) error {
	s := takeScratch()
	defer scratches.Put(s)
	off, n := ix.run(i, j)
	s.sealed = grow(s.sealed, n)
	if err := f.src.ReadAt(ctx, s.sealed, off); err != nil {
		return err
	}
	return f.decodeRun(ix, i, j, dst, s.sealed)
}

// decodeRun decodes blocks that lie one behind the other.
func (f *file) decodeRun(ix *indexBlock, i, j int, dst, sealed []byte) error {
	base, _ := ix.blockRaw(i)
	begin, _ := ix.place(i)
	for k := i; k < j; k++ {
		from, to := ix.blockRaw(k)
		off, end := ix.place(k)
		if err := f.decode(dst[from-base:to-base], sealed[off-begin:end-begin], off, dataBlock, ix.compressed(k)); err != nil {
			return err
		}
	}
	return nil
}
