package layer

import (
	"encoding/binary"
	"slices"
)

// indexWriter makes index blocks. They stay in memory until all data are written.
type indexWriter struct {
	data    *dataWriter
	limit   int // bytes of records in a block; fewer in tests
	rec     recordWriter
	now     topEntry // of the block that is being made
	more    bool     // its last record's span goes on
	raw     []byte
	packed  []byte
	top     []topEntry
	blocks  []byte // as they will be sealed, one behind the other
	lengths []int
	spans   uint64
	entries uint64
	lost    []Range
}

// record encodes one record; the data of its entries was added just before, those of the first entry to the newest ones' stream, unless
// they lie together or it goes on with a span.
func (x *indexWriter) record(disk uint16, sector, sectors uint64, entries []pendingEntry, same, more, together bool) error {
	if len(x.rec.bytes) > 0 && disk != x.now.disk {
		return bug("records of two disks in one index block") // their data would be in one, too
	}
	if x.rec.empty || len(x.rec.bytes) == 0 {
		x.rec = recordWriter{bytes: x.rec.bytes[:0], base: entries[0].version, empty: true}
		x.now = topEntry{disk: disk, first: sector, oldest: entries[0].version, newest: entries[0].version, continued: same}
	}
	x.rec.begin(sector, sectors, len(entries), same, more, together)
	var before *Version
	for i := range entries {
		e := &entries[i]
		x.rec.entry(e, before)
		if e.kind == Lost {
			x.noteLost(lostRange(Key{disk, sector}, sectors, e, before))
		}
		before = &e.version
		if e.version.Less(x.now.oldest) {
			x.now.oldest = e.version
		}
		if x.now.newest.Less(e.version) {
			x.now.newest = e.version
		}
	}
	x.now.end, x.more = sector+sectors, more
	x.entries += uint64(len(entries))
	if !same {
		x.spans++
	}
	if len(x.rec.bytes) >= x.limit || len(x.data.streams[older].held) >= maxHeld {
		return x.cut()
	}
	return nil
}

// cut ends the index block.
func (x *indexWriter) cut() error {
	if len(x.rec.bytes) == 0 {
		return nil
	}
	if err := x.data.finish(); err != nil {
		return err
	}
	x.raw = binary.AppendUvarint(x.raw[:0], x.rec.base.Epoch)
	x.raw = binary.AppendUvarint(x.raw, x.rec.base.Position)
	x.raw = x.data.table(x.raw)
	x.raw = append(x.raw, x.rec.bytes...)
	x.now.raw = uint32(len(x.raw))
	if err := x.check(); err != nil {
		return err
	}
	stored := x.raw
	if x.packed, x.now.compressed = compress(x.data.encoder, x.packed, x.raw); x.now.compressed {
		stored = x.packed
	}
	x.blocks = append(x.blocks, stored...)
	x.lengths = append(x.lengths, len(stored))
	x.top = append(x.top, x.now)
	x.rec = recordWriter{bytes: x.rec.bytes[:0], empty: true}
	return nil
}

// check reads the block as a reader will. What this layer was made from is deleted once it is written, so a block that contradicts
// itself must never come to be.
func (x *indexWriter) check() error {
	nb := neighbours{goesOn: x.more}
	if x.now.continued {
		nb.chainEnd = x.top[len(x.top)-1].end
	}
	if x.now.raw > maxIndexRaw {
		return bug("an index block of %d bytes", x.now.raw)
	}
	if _, err := parseIndex(x.raw, newestVersion, &x.now, nb, x.data.cipher.Overhead(), x.data.off); err != nil {
		return bug("the index block of disk %d, sectors %d to %d does not read back: %v", x.now.disk, x.now.first, x.now.end, err)
	}
	return nil
}

// maxLost bounds the list of damage in the catalogue; beyond it, ranges are told more coarsely.
const maxLost = 4096

// lostRange is the damage that a lost entry tells of; newer is the entry before it.
func lostRange(k Key, sectors uint64, e *pendingEntry, newer *Version) Range {
	r := Range{Disk: k.Disk, Sector: k.Sector, Sectors: sectors, Version: e.version}
	if e.open && newer != nil {
		r.Version, r.Since = *newer, e.version
	}
	return r
}

// noteLost adds to the last range of the same version if it goes on there.
func (x *indexWriter) noteLost(r Range) {
	for i := range slices.Backward(x.lost[max(0, len(x.lost)-maxRecord):]) {
		l := &x.lost[max(0, len(x.lost)-maxRecord)+i]
		if l.Disk == r.Disk && l.Version == r.Version && l.Since == r.Since && l.Sector+l.Sectors == r.Sector {
			l.Sectors += r.Sectors
			return
		}
	}
	if len(x.lost) < maxLost {
		x.lost = append(x.lost, r)
		return
	}
	l := &x.lost[len(x.lost)-1]
	if l.Disk == r.Disk {
		l.Sectors = max(l.Sectors, r.Sector+r.Sectors-l.Sector)
	}
	if l.Version.Less(r.Version) {
		l.Version = r.Version
	}
}

// write seals what was made: index blocks, then the top index and the footer, twice.
func (x *indexWriter) write() error {
	b, d := x.blocks, x.data
	var table []byte
	for i, n := range x.lengths {
		t := &x.top[i]
		t.off = d.off
		stored, err := d.writeSealed(b[:n], indexBlk)
		if err != nil {
			return err
		}
		t.stored = uint32(stored)
		table, b = t.append(table), b[n:]
	}
	f := footer{number: d.number, indexEnd: uint64(d.off), spans: x.spans, entries: x.entries}
	for range 2 {
		f.topOff = uint64(d.off)
		n, err := d.writeSealed(table, topBlock)
		if err != nil {
			return err
		}
		f.topLen = uint64(n)
		if err := d.write(f.encode()); err != nil {
			return err
		}
	}
	return nil
}
