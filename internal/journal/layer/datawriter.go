package layer

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
)

// The two streams that the data of an index block are parted into.
const (
	newest  = 0 // of each span the first version
	older   = 1 // the others, and what lies together with them
	streams = 2
)

// stream is data on their way into blocks.
type stream struct {
	raw    []byte
	cuts   []int       // where cells of raw end
	places []madeBlock // for this index block
	held   []byte      // blocks that wait for those of the other stream, not sealed yet
}

// madeBlock is a data block.
type madeBlock struct {
	raw        int
	stored     int // in the file; as long as it is held, without what sealing adds
	compressed bool
}

// dataWriter cuts data into blocks and writes them sealed: of each index block the newest versions as they come, and the older ones
// behind them.
type dataWriter struct {
	w       io.Writer
	cipher  Cipher
	encoder *zstd.Encoder
	journal [16]byte
	number  uint64
	off     int64 // in the file
	streams [streams]stream
	packed  []byte
	sealed  []byte
	aad     []byte
	first   int64 // where the blocks of this index block begin
	total   int64 // raw bytes written
}

// pending is how many bytes of this index block are not in the file yet.
func (d *dataWriter) pending() int {
	n := len(d.streams[older].held)
	for i := range d.streams {
		n += len(d.streams[i].raw)
	}
	return n
}

func (d *dataWriter) write(b []byte) error {
	if _, err := d.w.Write(b); err != nil {
		if fault.KindOf(err) == fault.Unknown {
			return fault.New(fault.Transient, "layer: write", "%w", err)
		}
		return fault.Wrap("layer: write", err)
	}
	d.off += int64(len(b))
	return nil
}

// writeSealed writes one block and returns its length in the file.
func (d *dataWriter) writeSealed(b []byte, kind blockKind) (int, error) {
	d.aad = appendAAD(d.aad[:0], &d.journal, d.number, d.off, kind)
	d.sealed = d.cipher.Seal(d.sealed[:0], b, d.aad)
	return len(d.sealed), d.write(d.sealed)
}

// add takes the content of one cell, or of a part of it; blocks are cut between them.
func (d *dataWriter) add(to int, cell []byte) error {
	s := &d.streams[to]
	if len(s.raw)+len(cell) > maxBlock {
		if err := d.flush(to); err != nil {
			return err
		}
	}
	s.raw = append(s.raw, cell...)
	s.cuts = append(s.cuts, len(s.raw))
	return nil
}

// room ends the block if n bytes that belong together would be torn, unless it is small.
func (d *dataWriter) room(in, n int) error {
	if have := len(d.streams[in].raw); n <= maxBlock && have > maxBlock/2 && have+n > maxBlock {
		return d.flush(in)
	}
	return nil
}

func (d *dataWriter) flush(which int) error {
	s := &d.streams[which]
	if len(s.raw) == 0 {
		return nil
	}
	packed, ok := compress(d.encoder, d.packed, s.raw)
	d.packed = packed
	if ok {
		if err := d.block(which, d.packed, len(s.raw), true); err != nil {
			return err
		}
	} else if err := d.pieces(which); err != nil {
		return err
	}
	d.total += int64(len(s.raw))
	s.raw, s.cuts = s.raw[:0], s.cuts[:0]
	return nil
}

// pieces makes smaller blocks of what does not compress, for nobody should decrypt more than is wanted.
func (d *dataWriter) pieces(which int) error {
	start, s := 0, &d.streams[which]
	for i, cut := range s.cuts {
		if i+1 < len(s.cuts) && s.cuts[i+1]-start <= pieceBlock {
			continue
		}
		if err := d.block(which, s.raw[start:cut], cut-start, false); err != nil {
			return err
		}
		start = cut
	}
	return nil
}

// block writes a block of the newest versions, and holds one of older ones: where it will lie is authenticated with it, and not
// known yet.
func (d *dataWriter) block(which int, b []byte, raw int, compressed bool) error {
	s := &d.streams[which]
	p := madeBlock{raw: raw, stored: len(b), compressed: compressed}
	if which == older {
		s.held = append(s.held, b...)
		s.places = append(s.places, p)
		return nil
	}
	d.begin()
	n, err := d.writeSealed(b, dataBlock)
	p.stored = n
	s.places = append(s.places, p)
	return err
}

// begin notes where the blocks of an index block begin.
func (d *dataWriter) begin() {
	if len(d.streams[newest].places) == 0 {
		d.first = d.off
	}
}

// finish writes what is left of the data of an index block.
func (d *dataWriter) finish() error {
	for i := range d.streams {
		if err := d.flush(i); err != nil {
			return err
		}
	}
	d.begin()
	s := &d.streams[older]
	b := s.held
	for i := range s.places {
		p := &s.places[i]
		n, err := d.writeSealed(b[:p.stored], dataBlock)
		if err != nil {
			return err
		}
		b, p.stored = b[p.stored:], n
	}
	s.held = s.held[:0]
	return nil
}

// table encodes the blocks written since the last table.
func (d *dataWriter) table(b []byte) []byte {
	n := len(d.streams[newest].places)
	b = binary.AppendUvarint(b, uint64(d.first))
	b = binary.AppendUvarint(b, uint64(n+len(d.streams[older].places)))
	b = binary.AppendUvarint(b, uint64(n))
	for i := range d.streams {
		for _, p := range d.streams[i].places {
			v := uint64(p.raw) / SectorSize << 1
			if p.compressed {
				v |= 1
			}
			b = binary.AppendUvarint(b, v)
			if p.compressed {
				b = binary.AppendUvarint(b, uint64(p.stored))
			}
		}
		d.streams[i].places = d.streams[i].places[:0]
	}
	return b
}
