package layer

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Part is a piece that is wanted, and where its first byte goes in the reader's buffer.
type Part struct {
	Piece
	At int
}

// ReadParts reads Data pieces of this layer into buf, which their places in it part without overlap. Pieces whose content lies
// together in the file are read together, and a block that is wanted whole is decoded where it belongs. Everything is verified as Read does. After an
// error buf holds nothing of use, and which piece was to blame is for Read to tell.
func (r *Reader) ReadParts(ctx context.Context, parts []Part, buf []byte) error {
	b := batches.Get().(*batch) //nolint:forcetypeassert // the pool is this file's own
	defer b.free()
	for i := range parts {
		p := &parts[i]
		n := int(p.Sectors) * SectorSize
		if p.Kind != Data || p.at.ix == nil || p.At < 0 || n > len(buf)-p.At {
			return fault.New(fault.Bug, "layer: read", "%d sectors of kind %d wanted at %d of %d bytes", p.Sectors, p.Kind, p.At, len(buf))
		}
		if from, to := p.at.whole(p.Sector, p.Sectors); from != p.Sector || to != p.Sector+p.Sectors { // cut inside of a cell
			if err := r.Read(ctx, p.Piece, buf[p.At:p.At+n]); err != nil {
				return err
			}
			continue
		}
		b.wants = append(b.wants, want{ix: p.at.ix, raw: p.at.raw + uint32(p.Sector-p.at.sector)*SectorSize, n: uint32(n), at: p.At, part: p})
	}
	b.plan()
	if err := b.read(ctx, r, buf); err != nil {
		return fault.Wrap("layer: read", err)
	}
	for i := range b.wants {
		w := &b.wants[i]
		if err := w.part.at.verify(w.part.Disk, w.part.Sector, buf[w.at:w.at+int(w.n)]); err != nil {
			return err
		}
	}
	return nil
}

// want is whole cells of an extent: a run of raw bytes of an index block.
type want struct {
	ix   *indexBlock
	raw  uint32
	n    uint32
	at   int // in the reader's buffer
	part *Part
}

// blockWant is a data block of which something is wanted.
type blockWant struct {
	ix      *indexBlock
	i       int
	wants   []want // that have bytes in it
	at      int    // where all of it goes; negative if not all is wanted, or not to one place
	decoded bool   // found in the cache
}

// batch is what a call of ReadParts works with.
type batch struct {
	wants  []want
	blocks []blockWant
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) free() {
	clear(b.wants) // index blocks should not stay for this
	clear(b.blocks)
	b.wants, b.blocks = b.wants[:0], b.blocks[:0]
	batches.Put(b)
}

// plan lists the data blocks in the order of the file.
func (b *batch) plan() {
	slices.SortFunc(b.wants, func(x, y want) int {
		if c := cmp.Compare(x.ix.dataAt, y.ix.dataAt); c != 0 {
			return c
		}
		return cmp.Compare(x.raw, y.raw)
	})
	for k := range b.wants {
		w := &b.wants[k]
		for i := w.ix.find(w.raw); i < len(w.ix.blocks); i++ {
			from, _ := w.ix.blockRaw(i)
			if from >= w.raw+w.n {
				break
			}
			if n := len(b.blocks); n > 0 && b.blocks[n-1].ix == w.ix && b.blocks[n-1].i == i {
				last := &b.blocks[n-1]
				last.wants = last.wants[:len(last.wants)+1]
				continue
			}
			b.blocks = append(b.blocks, blockWant{ix: w.ix, i: i, wants: b.wants[k : k+1]})
		}
	}
	for k := range b.blocks {
		b.blocks[k].aim()
	}
}

// aim finds out whether the block can be decoded right where it goes: what is wanted of it follows each other, in the file and in the buffer.
func (b *blockWant) aim() {
	from, to := b.ix.blockRaw(b.i)
	first := &b.wants[0]
	b.at = -1
	if first.raw > from {
		return
	}
	at, raw := first.at, first.raw
	for i := range b.wants {
		if w := &b.wants[i]; w.raw != raw || w.at != at {
			return
		}
		raw, at = raw+b.wants[i].n, at+int(b.wants[i].n)
	}
	if raw >= to {
		b.at = first.at + int(from-first.raw)
	}
}

// maxSkip is how many bytes that nobody wants are read rather than a read is begun anew.
const maxSkip = 32 << 10

// read gets all blocks, those that lie near each other at once.
func (b *batch) read(ctx context.Context, r *Reader, buf []byte) error {
	for i := range b.blocks {
		b.blocks[i].cached(r, buf)
	}
	for from := 0; from < len(b.blocks); {
		if b.blocks[from].decoded {
			from++
			continue
		}
		begin, end := b.blocks[from].extent()
		to := from + 1
		for k := to; k < len(b.blocks); k++ {
			at, e := b.blocks[k].extent()
			if at-end > maxSkip || e-begin > maxRun {
				break
			}
			if !b.blocks[k].decoded {
				to, end = k+1, e
			}
		}
		if err := b.fetch(ctx, r, from, to, begin, end, buf); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func (b *blockWant) extent() (from, to int64) {
	return b.ix.place(b.i)
}

// cached copies what is wanted of a block that is wanted in part, if the cache has it.
func (b *blockWant) cached(r *Reader, buf []byte) {
	if b.at >= 0 {
		return
	}
	off, _ := b.extent()
	k := cacheKey{journal: r.journal, number: r.number, off: off}
	if have := r.cache.getData(&k); have != nil {
		b.copy(have.data, buf)
		have.release()
		b.decoded = true
	}
}

// copy hands out the content of the block.
func (b *blockWant) copy(data, buf []byte) {
	from, to := b.ix.blockRaw(b.i)
	for i := range b.wants {
		w := &b.wants[i]
		begin, end := max(w.raw, from), min(w.raw+w.n, to)
		copy(buf[w.at+int(begin-w.raw):], data[begin-from:end-from])
	}
}

// fetch reads a part of the file and decodes blocks from to to-1 of it. Of blocks that are wanted in part the outermost are kept: whoever goes
// on from here wants the rest of them.
func (b *batch) fetch(ctx context.Context, r *Reader, from, to int, begin, end int64, buf []byte) error {
	s := takeScratch()
	defer scratches.Put(s)
	s.sealed = grow(s.sealed, int(end-begin))
	if err := r.src.ReadAt(ctx, s.sealed, begin); err != nil {
		return err
	}
	for k := from; k < to; k++ {
		w := &b.blocks[k]
		if w.decoded {
			continue
		}
		off, e := w.extent()
		raw, rawEnd := w.ix.blockRaw(w.i)
		sealed, compressed := s.sealed[off-begin:e-begin], w.ix.compressed(w.i)
		if w.at >= 0 {
			if err := r.decode(buf[w.at:w.at+int(rawEnd-raw)], sealed, off, dataBlock, compressed); err != nil {
				return err
			}
			continue
		}
		block := newBuffer(int(rawEnd - raw))
		if err := r.decode(block.data, sealed, off, dataBlock, compressed); err != nil {
			block.release()
			return err
		}
		w.copy(block.data, buf)
		if len(b.blocks) <= 4 || k == 0 || k == len(b.blocks)-1 {
			key := cacheKey{journal: r.journal, number: r.number, off: off}
			r.cache.putData(&key, block)
		}
		block.release()
	}
	return nil
}
