package layer

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
)

// dataWriter cuts data into blocks and writes them sealed. Data of an index block begins with a block of its own.
type dataWriter struct {
	w       io.Writer
	cipher  Cipher
	encoder *zstd.Encoder
	journal [16]byte
	number  uint64
	off     int64 // in the file
	raw     []byte
	cuts    []int // where cells of raw end
	packed  []byte
	sealed  []byte
	aad     []byte
	first   int64       // where the blocks of this index block begin
	places  []dataPlace // they; raw is the length
	total   int64       // raw bytes written
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
func (d *dataWriter) add(cell []byte) error {
	if len(d.raw)+len(cell) > maxBlock {
		if err := d.flush(); err != nil {
			return err
		}
	}
	d.raw = append(d.raw, cell...)
	d.cuts = append(d.cuts, len(d.raw))
	return nil
}

// room ends the block if n bytes that belong together would be torn, unless it is small.
func (d *dataWriter) room(n int) error {
	if len(d.raw) > maxBlock/2 && len(d.raw)+n > maxBlock {
		return d.flush()
	}
	return nil
}

func (d *dataWriter) flush() error {
	if len(d.raw) == 0 {
		return nil
	}
	packed, ok := compress(d.encoder, d.packed, d.raw)
	d.packed = packed
	if ok {
		if err := d.block(d.packed, len(d.raw), true); err != nil {
			return err
		}
	} else if err := d.pieces(); err != nil {
		return err
	}
	d.total += int64(len(d.raw))
	d.raw, d.cuts = d.raw[:0], d.cuts[:0]
	return nil
}

// pieces writes what does not compress in smaller blocks, for nobody should decrypt more than is wanted.
func (d *dataWriter) pieces() error {
	start := 0
	for i, cut := range d.cuts {
		if i+1 < len(d.cuts) && d.cuts[i+1]-start <= pieceBlock {
			continue
		}
		if err := d.block(d.raw[start:cut], cut-start, false); err != nil {
			return err
		}
		start = cut
	}
	return nil
}

func (d *dataWriter) block(b []byte, raw int, compressed bool) error {
	if len(d.places) == 0 {
		d.first = d.off
	}
	n, err := d.writeSealed(b, dataBlock)
	d.places = append(d.places, dataPlace{raw: uint32(raw), stored: uint32(n), compressed: compressed})
	return err
}

// table encodes the blocks written since the last table.
func (d *dataWriter) table(b []byte) []byte {
	if len(d.places) == 0 {
		d.first = d.off
	}
	b = binary.AppendUvarint(b, uint64(d.first))
	b = binary.AppendUvarint(b, uint64(len(d.places)))
	for _, p := range d.places {
		v := uint64(p.raw) / SectorSize << 1
		if p.compressed {
			v |= 1
		}
		b = binary.AppendUvarint(b, v)
		if p.compressed {
			b = binary.AppendUvarint(b, uint64(p.stored))
		}
	}
	d.places = d.places[:0]
	return b
}
