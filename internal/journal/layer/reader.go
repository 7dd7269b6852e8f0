package layer

import (
	"context"
	"unsafe"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Source is where a file's bytes come from: all of p, or an error.
type Source interface {
	ReadAt(ctx context.Context, p []byte, off int64) error
}

// Reader answers what a layer knows. It is safe for concurrent use, and holds the top index in memory; everything else
// is in the cache.
type Reader struct {
	file
	top  []topEntry
	foot footer
}

// file opens blocks.
type file struct {
	src     Source
	cipher  Cipher
	cache   *Cache
	journal [16]byte
	number  uint64
	size    int64
	dataEnd int64 // where index blocks begin
}

// ReadHeader tells whose file it is and with what salt its key was derived.
func ReadHeader(ctx context.Context, src Source) (Header, error) {
	var h Header
	b := make([]byte, headerSize)
	if err := src.ReadAt(ctx, b, 0); err != nil {
		return h, fault.Wrap("layer: header", err)
	}
	return h, h.decode(b)
}

// decode opens a sealed block into dst, which has its raw length.
func (f *file) decode(dst, sealed []byte, off int64, kind blockKind, compressed bool) error {
	s := takeScratch()
	defer scratches.Put(s)
	s.aad = appendAAD(s.aad[:0], &f.journal, f.number, off, kind)
	target := dst[:0:len(dst)]
	if compressed {
		target = s.plain[:0]
	}
	plain, err := f.cipher.Open(target, sealed, s.aad)
	switch {
	case err != nil:
		return fault.New(fault.Corruption, "layer: open block", "layer %d, block at %d: %w", f.number, off, err)
	case compressed:
		s.plain = plain
		return fault.Wrap("layer: open block", decompress(dst, plain))
	case len(plain) != len(dst):
		return fault.New(fault.Corruption, "layer: open block", "layer %d, block at %d has %d bytes, not %d", f.number, off, len(plain), len(dst))
	case len(dst) > 0 && unsafe.SliceData(plain) != unsafe.SliceData(dst):
		copy(dst, plain)
	}
	return nil
}

// index is the i-th index block, from the cache or the file.
func (r *Reader) index(ctx context.Context, i int) (*indexBlock, error) {
	k := cacheKey{journal: r.journal, number: r.number, off: r.top[i].off}
	if ix := r.cache.getIndex(&k); ix != nil {
		return ix, nil
	}
	ix, err := r.loadIndex(ctx, i)
	if err == nil {
		r.cache.putIndex(&k, ix)
	}
	return ix, err
}

func (r *Reader) loadIndex(ctx context.Context, i int) (*indexBlock, error) {
	t := &r.top[i]
	s := takeScratch()
	defer scratches.Put(s)
	s.sealed = grow(s.sealed, int(t.stored))
	if err := r.src.ReadAt(ctx, s.sealed, t.off); err != nil {
		return nil, fault.Wrap("layer: index", err)
	}
	raw := make([]byte, t.raw)
	if err := r.decode(raw, s.sealed, t.off, indexBlk, t.compressed); err != nil {
		return nil, err
	}
	nb := neighbours{goesOn: i+1 < len(r.top) && r.top[i+1].continued}
	if t.continued {
		nb.chainEnd = r.top[i-1].end
	}
	return parseIndex(raw, r.foot.version, t, nb, r.cipher.Overhead(), r.dataEnd)
}

// Memory is how many bytes the reader holds outside of the cache.
func (r *Reader) Memory() int64 {
	return int64(unsafe.Sizeof(*r)) + int64(cap(r.top))*int64(unsafe.Sizeof(topEntry{}))
}

// Close ends the use of the reader. What the cache keeps of it stays there for the next who opens the layer; the source
// belongs to who opened it.
func (r *Reader) Close() {}
