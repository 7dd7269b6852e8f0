package layer

import (
	"context"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
)

// WriterOptions name the file to be and say how it is sealed.
type WriterOptions struct {
	Journal [16]byte
	Number  uint64
	Salt    Salt // stored in the header, so that who opens the file can derive its key
	Cipher  Cipher
	Level   zstd.EncoderLevel // zero: zstd.SpeedDefault
}

// Info is what a catalogue keeps of a layer.
type Info struct {
	Number  uint64  `json:"number"`
	Salt    Salt    `json:"salt"`
	First   Key     `json:"first"` // of the first span
	Last    Key     `json:"last"`  // behind the last span, on its disk
	Oldest  Version `json:"oldest"`
	Newest  Version `json:"newest"`
	Bytes   int64   `json:"bytes"` // of the file
	Raw     int64   `json:"raw"`   // of all data
	Spans   uint64  `json:"spans"`
	Entries uint64  `json:"entries"`
	Lost    []Range `json:"lost,omitempty"` // all that the layer has lost, found now or before
}

// Writer makes one layer file of spans in the order of their places. Spans that follow each other with the same versions become
// one, up to a size that is good to read.
type Writer struct {
	o       WriterOptions
	data    dataWriter
	index   indexWriter
	now     pending // joined so far
	stage   pending // what may join it
	one     []pendingEntry
	cell    []byte
	last    Key // behind the last span taken
	started bool
	err     error
}

func bug(format string, args ...any) error {
	return fault.New(fault.Bug, "layer: write", format, args...)
}

// NewWriter writes the header. Syncing and closing w is up to the caller, as is removing the file when anything fails.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) {
	if o.Cipher == nil || o.Cipher.Overhead() > maxOverhead {
		return nil, bug("a cipher is needed, of at most %d bytes overhead", maxOverhead)
	}
	if o.Level == 0 {
		o.Level = zstd.SpeedDefault
	}
	encoder, err := takeEncoder(o.Level)
	if err != nil {
		return nil, err
	}
	l := &Writer{o: o, data: dataWriter{w: w, cipher: o.Cipher, encoder: encoder, journal: o.Journal, number: o.Number}}
	l.index.data, l.index.limit = &l.data, indexBytes
	h := Header{Version: newestVersion, Journal: o.Journal, Number: o.Number, Salt: o.Salt}
	return l, l.data.write(h.encode())
}

// Add takes a span behind all that were added. Its data is loaded now; what is damaged is written as lost, cell by cell.
func (w *Writer) Add(ctx context.Context, s Span) error {
	if w.err == nil {
		w.err = w.add(ctx, &s)
	}
	return w.err
}

func (w *Writer) add(ctx context.Context, s *Span) error {
	if err := w.check(s); err != nil {
		return err
	}
	if w.started && s.Disk != w.last.Disk {
		if err := w.flush(); err != nil {
			return err
		}
		if err := w.index.cut(); err != nil {
			return err
		}
	}
	w.started, w.last = true, Key{s.Disk, s.Sector + s.Sectors}
	summed := 0
	for i := range s.Entries {
		if s.Entries[i].Kind == Data || s.Entries[i].summed() {
			summed++
		}
	}
	for at := s.Sector; at < s.Sector+s.Sectors; {
		end := min(s.Sector+s.Sectors, gridEnd(at, summed))
		if err := w.chunk(ctx, s, at, end-at, summed); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (w *Writer) check(s *Span) error {
	if len(s.Entries) == 0 || s.Sectors == 0 || s.Sectors > maxSector || s.Sector > maxSector-s.Sectors ||
		w.started && (Key{s.Disk, s.Sector}).Compare(w.last) < 0 {
		return bug("span of disk %d, %d + %d with %d entries behind disk %d, %d", s.Disk, s.Sector, s.Sectors, len(s.Entries), w.last.Disk, w.last.Sector)
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		if i > 0 && !e.Version.Less(s.Entries[i-1].Version) || e.sector != s.Sector || e.length != s.Sectors || e.disk != s.Disk {
			return bug("entries of disk %d, %d + %d are out of order or of another span", s.Disk, s.Sector, s.Sectors)
		}
	}
	return nil
}

// Spans are cut at multiples of a size that depends on how many of their versions have content, so that all content of a span fits
// one block, where versions compress against each other; and at multiples, so that merging does not move the cuts about.
const (
	widestSpan  = 1 << 20 / SectorSize
	sideBySide  = maxBlock / cellBytes // versions of one cell in a block
	blockSector = maxBlock / SectorSize
)

func grid(summed int) uint64 {
	switch summed {
	case 0:
		return maxSector
	case 1:
		return widestSpan
	}
	g := uint64(blockSector)
	for ; summed > 1 && g > CellSectors; summed = (summed + 1) / 2 {
		g /= 2
	}
	return g
}

func gridEnd(sector uint64, summed int) uint64 {
	g := grid(summed)
	return sector/g*g + g
}

// chunk writes what lies in one cell of the grid.
func (w *Writer) chunk(ctx context.Context, s *Span, sector, sectors uint64, summed int) error {
	if summed > sideBySide {
		return w.deep(ctx, s, sector, sectors)
	}
	if err := w.stage.load(ctx, s, sector, sectors); err != nil {
		if !fault.Is(err, fault.Corruption) {
			return err
		}
		for at := sector; at < sector+sectors; { // which cells?
			end := min(sector+sectors, at&^(CellSectors-1)+CellSectors)
			if err := w.chunk(ctx, s, at, end-at, summed); err != nil {
				return err
			}
			at = end
		}
		return nil
	}
	if w.now.joins(&w.stage, summed) {
		w.now.join(&w.stage)
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.now, w.stage = w.stage, w.now
	return nil
}

// flush writes the span joined so far.
func (w *Writer) flush() error {
	p := &w.now
	if p.sectors == 0 {
		return nil
	}
	together := p.together()
	var raw [streams]int
	for i := range p.entries {
		raw[streamOf(i, together)] += len(p.entries[i].data)
	}
	for which, n := range raw {
		if err := w.data.room(which, n); err != nil {
			return err
		}
	}
	s := Span{Disk: p.disk, Sector: p.sector, Sectors: p.sectors}
	err := w.records(&s, len(p.entries), together, func(i, n int) []pendingEntry { return p.entries[i : i+n] }, nil)
	p.sectors = 0
	return err
}

// records writes the n entries of a span record by record: an index block, and its data, may end behind any. batch gives the memory of the next
// few; load, if any, fetches the content of one, which is written before that of the next is fetched.
func (w *Writer) records(s *Span, n int, together bool, batch func(i, n int) []pendingEntry, load func(i int, e *pendingEntry) error) error {
	for i := 0; i < n; i += maxRecord {
		record := batch(i, min(maxRecord, n-i))
		for k := range record {
			if load != nil {
				if err := load(i+k, &record[k]); err != nil {
					return err
				}
			}
			if err := w.content(streamOf(i+k, together), s.Disk, s.Sector, s.Sectors, &record[k]); err != nil {
				return err
			}
		}
		if err := w.index.record(s.Disk, s.Sector, s.Sectors, record, i > 0, i+len(record) < n, together); err != nil {
			return err
		}
	}
	return nil
}

// streamOf is where the data of the i-th entry of a span go.
func streamOf(i int, together bool) int {
	if i == 0 && !together {
		return newest
	}
	return older
}

// content adds the data of one entry, and the sums that cutting or joining left open.
func (w *Writer) content(which int, disk uint16, sector, sectors uint64, e *pendingEntry) error {
	for i := 0; e.kind == Data && i < len(e.sums); i++ {
		from, to := part(sector, sectors, i)
		cell := e.data[(from-sector)*SectorSize : (to-sector)*SectorSize]
		if e.sums[i] == 0 {
			e.sums[i] = Sum(disk, from, cell)
		}
		if err := w.data.add(which, cell); err != nil {
			return err
		}
	}
	return nil
}

// deep writes a chunk with so many versions that they are not held at once. It is no more than one cell, and is joined with nothing.
func (w *Writer) deep(ctx context.Context, s *Span, sector, sectors uint64) error {
	if err := w.flush(); err != nil {
		return err
	}
	w.cell = grow(w.cell, int(sectors)*SectorSize)
	if cap(w.one) < maxRecord {
		w.one = make([]pendingEntry, maxRecord)
	}
	part := Span{Disk: s.Disk, Sector: sector, Sectors: sectors}
	return w.records(&part, len(s.Entries), false, func(_, n int) []pendingEntry { return w.one[:n] }, func(i int, e *pendingEntry) error {
		w.stage.part = s.Entries[i].cut(sector, sectors)
		e.data = w.cell
		return e.load(ctx, &w.stage.part, true)
	})
}

// Size is about how long the file would be if it were finished now.
func (w *Writer) Size() int64 {
	n := w.data.off + int64(w.data.pending()+len(w.index.blocks)+len(w.index.rec.bytes)) + headerSize + footerSize
	for i := range w.now.entries {
		if w.now.sectors > 0 {
			n += int64(len(w.now.entries[i].data))
		}
	}
	return n
}

// Finish writes the rest of the file.
func (w *Writer) Finish() (Info, error) {
	if w.err == nil {
		w.err = w.flush()
	}
	if w.err == nil {
		w.err = w.index.cut()
	}
	if w.err != nil {
		return Info{}, w.err
	}
	if err := w.index.write(); err != nil {
		w.err = err
		return Info{}, err
	}
	encoders[w.o.Level].Put(w.data.encoder)
	w.err = bug("finished")
	return w.info(), nil
}

func (w *Writer) info() Info {
	x := &w.index
	i := Info{Number: w.o.Number, Salt: w.o.Salt, Bytes: w.data.off, Raw: w.data.total, Spans: x.spans, Entries: x.entries, Lost: x.lost}
	for k := range x.top {
		t := &x.top[k]
		if k == 0 {
			i.First, i.Oldest, i.Newest = Key{t.disk, t.first}, t.oldest, t.newest
		}
		i.Last = Key{t.disk, t.end}
		if t.oldest.Less(i.Oldest) {
			i.Oldest = t.oldest
		}
		if i.Newest.Less(t.newest) {
			i.Newest = t.newest
		}
	}
	return i
}
