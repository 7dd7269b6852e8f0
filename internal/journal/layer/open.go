package layer

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	openTail   = 16 << 10 // read at once: the footers and, nearly always, both top indexes
	searchTail = 1 << 20  // where the first footer is looked for, if the last one is damaged
	tailPiece  = 4 << 10  // what a disk that cannot read one sector mostly cannot read, because the kernel reads pages
)

// Open reads the top index of the layer that the catalogue names by journal and number. The cache is shared with other layers;
// without one, nothing is kept.
func Open(ctx context.Context, src Source, size int64, c Cipher, cache *Cache, journal [16]byte, number uint64) (*Reader, error) {
	if c == nil || c.Overhead() < 0 || c.Overhead() > maxOverhead {
		return nil, fault.New(fault.Bug, "layer: open", "a cipher is needed, of at most %d bytes overhead", maxOverhead)
	}
	if cache == nil {
		cache = NewCache(0)
	}
	r := &Reader{file: file{src: src, cipher: c, cache: cache, journal: journal, number: number, size: size}}
	if err := r.open(ctx); err != nil {
		return nil, fault.Wrap("layer: open", err)
	}
	return r, nil
}

// open takes the last top index, or the first one where that is damaged.
func (r *Reader) open(ctx context.Context) error {
	if r.size < headerSize+2*footerSize {
		return fault.New(fault.Corruption, "layer: open", "%d bytes are no layer", r.size)
	}
	tail, err := r.tail(ctx, openTail)
	if err != nil {
		return err
	}
	last := r.size - footerSize
	f, err := r.footer(tail, last)
	if err == nil {
		if err = r.take(ctx, &f, tail); err == nil || !fault.Is(err, fault.Corruption) {
			return err
		}
		last = int64(f.topOff)
	} else if !fault.Is(err, fault.Corruption) {
		return err
	}
	if tail, err2 := r.tail(ctx, searchTail); err2 == nil {
		if f, ok := r.search(tail, last); ok {
			return r.take(ctx, &f, tail)
		}
	}
	return err
}

func (r *Reader) tail(ctx context.Context, n int64) ([]byte, error) {
	b := make([]byte, min(n, r.size))
	begin := r.size - int64(len(b))
	err := r.src.ReadAt(ctx, b, begin)
	if fault.Is(err, fault.Corruption) {
		err = r.pieces(ctx, b, begin, err)
	}
	return b, err
}

// pieces reads what can be read of a part of the file that cannot be read as a whole because of cause. What is missing are zeroes: both top
// indexes and their footers verify for themselves.
func (r *Reader) pieces(ctx context.Context, b []byte, off int64, cause error) error {
	clear(b)
	for at := off; at < off+int64(len(b)); {
		end := min((at/tailPiece+1)*tailPiece, off+int64(len(b)))
		p := b[at-off : end-off]
		switch err := r.src.ReadAt(ctx, p, at); {
		case err == nil:
			cause = nil
		case fault.Is(err, fault.Corruption):
			clear(p)
		default:
			return err
		}
		at = end
	}
	return cause // unless anything was read
}

// footer decodes the one at a place in the file, of which tail is the end.
func (r *Reader) footer(tail []byte, at int64) (f footer, err error) {
	begin := at - (r.size - int64(len(tail)))
	if begin < 0 || begin+footerSize > int64(len(tail)) {
		return f, fault.New(fault.Corruption, "layer: footer", "there is none at %d", at)
	}
	if err := f.decode(tail[begin : begin+footerSize]); err != nil {
		return f, err
	}
	if f.number != r.number || !f.describes(r.size, at) {
		return f, fault.New(fault.Corruption, "layer: footer", "the footer at %d does not describe layer %d of %d bytes", at, r.number, r.size)
	}
	return f, nil
}

// search looks for a footer before a place.
func (r *Reader) search(tail []byte, before int64) (footer, bool) {
	magic := binary.LittleEndian.AppendUint32(nil, footerMagic)
	begin := r.size - int64(len(tail))
	for n := before - begin; n > 0; {
		i := bytes.LastIndex(tail[:n], magic)
		if i < 0 {
			break
		}
		if f, err := r.footer(tail, begin+int64(i)); err == nil {
			return f, true
		}
		n = int64(i)
	}
	return footer{}, false
}

// take reads the top index that a footer describes.
func (r *Reader) take(ctx context.Context, f *footer, tail []byte) error {
	sealed := make([]byte, f.topLen)
	if begin := int64(f.topOff) - (r.size - int64(len(tail))); begin >= 0 {
		copy(sealed, tail[begin:])
	} else if err := r.src.ReadAt(ctx, sealed, int64(f.topOff)); err != nil {
		return err
	}
	raw := len(sealed) - r.cipher.Overhead()
	if raw < 0 {
		return fault.New(fault.Corruption, "layer: open", "a top index of %d bytes", len(sealed))
	}
	b := make([]byte, raw)
	if err := r.decode(b, sealed, int64(f.topOff), topBlock, false); err != nil {
		return err
	}
	top, err := decodeTop(b, int64(f.indexEnd))
	if err != nil {
		return err
	}
	r.top, r.foot, r.dataEnd = top, *f, int64(f.indexEnd)
	if len(top) > 0 {
		r.dataEnd = top[0].off
	}
	return nil
}
