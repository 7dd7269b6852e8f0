package layer

import (
	"context"
	"sort"
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

// openTail is read at once: the footer and, nearly always, the whole top index.
const openTail = 16 << 10

// Open reads the footer and the top index of the layer that the catalogue names by journal and number. The cache is shared with other layers;
// without one, nothing is kept.
func Open(ctx context.Context, src Source, size int64, c Cipher, cache *Cache, journal [16]byte, number uint64) (*Reader, error) {
	if cache == nil {
		cache = NewCache(0)
	}
	r := &Reader{file: file{src: src, cipher: c, cache: cache, journal: journal, number: number, size: size}}
	if err := r.open(ctx); err != nil {
		return nil, fault.Wrap("layer: open", err)
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context) error {
	if r.size < headerSize+footerSize {
		return fault.New(fault.Corruption, "layer: open", "%d bytes are no layer", r.size)
	}
	tail := make([]byte, min(r.size, openTail))
	if err := r.src.ReadAt(ctx, tail, r.size-int64(len(tail))); err != nil {
		return err
	}
	if err := r.foot.decode(tail[len(tail)-footerSize:]); err != nil {
		return err
	}
	f := &r.foot
	overhead := r.cipher.Overhead()
	if f.number != r.number || f.topOff < headerSize || f.topOff > uint64(r.size) || f.topLen < uint64(overhead) ||
		f.topOff+f.topLen != uint64(r.size-footerSize) {
		return fault.New(fault.Corruption, "layer: footer", "the footer of layer %d does not describe this file", r.number)
	}
	sealed := tail[:len(tail)-footerSize]
	if n := uint64(len(sealed)); n >= f.topLen {
		sealed = sealed[n-f.topLen:]
	} else {
		sealed = make([]byte, f.topLen)
		if err := r.src.ReadAt(ctx, sealed, int64(f.topOff)); err != nil {
			return err
		}
	}
	raw := make([]byte, len(sealed)-overhead)
	if err := r.decode(raw, sealed, int64(f.topOff), topBlock, false); err != nil {
		return err
	}
	top, err := decodeTop(raw, int64(f.topOff))
	if err != nil {
		return err
	}
	r.top, r.dataEnd = top, int64(f.topOff)
	if len(top) > 0 {
		r.dataEnd = top[0].off
	}
	return nil
}

// decode opens a sealed block into dst, which has its raw length.
func (f *file) decode(dst, sealed []byte, off int64, kind blockKind, compressed bool) error {
	s, ok := scratches.Get().(*scratch)
	if !ok {
		s = new(scratch)
	}
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
	sealed := make([]byte, t.stored)
	if err := r.src.ReadAt(ctx, sealed, t.off); err != nil {
		return nil, fault.Wrap("layer: index", err)
	}
	raw := make([]byte, t.raw)
	if err := r.decode(raw, sealed, t.off, indexBlk, t.compressed); err != nil {
		return nil, err
	}
	nb := neighbours{goesOn: i+1 < len(r.top) && r.top[i+1].continued}
	if t.continued {
		nb.chainEnd = r.top[i-1].end
	}
	return parseIndex(raw, t, nb, r.cipher.Overhead(), r.dataEnd)
}

// Piece is the version of a run of sectors that a lookup found.
type Piece struct {
	Disk    uint16
	Sector  uint64
	Sectors uint64
	Version Version
	Kind    Kind

	at    extent
	cause error
}

// Clip is the part of the piece that lies in a run of sectors.
func (p Piece) Clip(sector, sectors uint64) Piece {
	from, to := max(p.Sector, sector), min(p.Sector+p.Sectors, sector+sectors)
	p.Sector, p.Sectors = from, max(to, from)-from
	return p
}

// Cause is why a Lost piece is lost, if that was found by this lookup; nil if the layer was written so.
func (p *Piece) Cause() error { return p.cause }

// Lookup visits, in order and clipped to the range, the greatest version at or below at of every span that overlaps it.
// Where the layer knows nothing it visits nothing. A damaged index block is a Lost piece over what it covered, with the greatest
// version that it may have hidden.
func (r *Reader) Lookup(ctx context.Context, disk uint16, sector, sectors uint64, at Version, visit func(Piece) error) error {
	if sectors == 0 || sectors > maxSector || sector > maxSector-sectors {
		return fault.New(fault.Invalid, "layer: lookup", "no sectors %d + %d", sector, sectors)
	}
	end := sector + sectors
	for i := r.seek(disk, sector); i < len(r.top); i++ {
		t := &r.top[i]
		if t.disk != disk || t.first >= end {
			break
		}
		if t.end <= sector || at.Less(t.oldest) {
			continue // answered by a block before, or nothing that old
		}
		ix, err := r.index(ctx, i)
		switch {
		case err == nil:
			sector, err = ix.visit(disk, sector, end, at, visit)
		case fault.Is(err, fault.Corruption):
			p := Piece{Disk: disk, Sector: t.first, Sectors: t.end - t.first, Version: at, Kind: Lost, cause: err}
			if t.newest.Less(at) {
				p.Version = t.newest
			}
			err = visit(p.Clip(sector, end-sector))
			sector = t.end
		}
		if err != nil {
			return err
		}
		if sector >= end {
			break
		}
	}
	return nil
}

// seek is the first index block that may say something of a place or what follows it.
func (r *Reader) seek(disk uint16, sector uint64) int {
	return sort.Search(len(r.top), func(i int) bool {
		t := &r.top[i]
		return t.disk > disk || t.disk == disk && t.end > sector
	})
}

// visit visits what the block knows of [sector, end) and returns up to where that was answered.
func (ix *indexBlock) visit(disk uint16, sector, end uint64, at Version, visit func(Piece) error) (uint64, error) {
	c := ix.seek(sector, at)
	for ok := true; ok && c.start < end; ok = c.record() {
		if c.end <= sector {
			continue
		}
		for c.left > 0 {
			e := c.entry()
			if at.Less(e.version) {
				continue
			}
			p := Piece{Disk: disk, Version: e.version, Kind: e.kind}
			p.Sector, p.Sectors = max(c.start, sector), min(c.end, end)-max(c.start, sector)
			p.at = extent{sector: c.start, sectors: c.end - c.start, ix: ix, raw: e.raw, sums: e.sums}
			if e.open {
				p.Version = at
			}
			if err := visit(p); err != nil {
				return sector, err
			}
			sector = c.end
			break
		}
	}
	return sector, nil
}

// Memory is how many bytes the reader holds outside of the cache.
func (r *Reader) Memory() int64 {
	return int64(unsafe.Sizeof(*r)) + int64(cap(r.top))*int64(unsafe.Sizeof(topEntry{}))
}

// Close ends the use of the reader. What the cache keeps of it stays there for the next who opens the layer; the source
// belongs to who opened it.
func (r *Reader) Close() {}
