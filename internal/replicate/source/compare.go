package source

import (
	"crypto/rand"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
Where an epoch owes everything and the journal holds something, a block is sent only if it differs from what the journal
holds there. The server tells by digests; docs/design/2026-11-23-rescan.md says why leaving out is as good as sending.

	collect --> Ask(coarse) and read --> both there --> the same: paid
	                                                \-> Ask(fine) --> read again, frame what differs --> ready
*/
type stage uint8

const (
	sendAll stage = iota // nothing is compared
	coarse               // one digest a span, or a MiB of it
	fine                 // one a cell
)

// compare is how far the comparison of one chunk is.
type compare struct {
	stage  stage
	id     uint64 // of the Ask that is under way
	piece  uint64 // sectors
	tools  *sync.Pool
	d      *wire.Digester // of tools, while a reader is at work
	ours   []byte         // digests of what was read, in coarse
	theirs []byte         // nil until they come
	read   bool           // ours is complete
}

// asking is what one connection asked.
type asking struct {
	key     []byte
	tools   *sync.Pool // of *wire.Digester
	based   bool       // Base was sent for the pass at hand
	last    uint64
	waiting map[uint64]*chunk // for digests
	differ  []*chunk          // fine digests are there, to be read again
	unasked []*chunk          // differ, no room yet to ask for fine digests
}

// compares tells whether the epoch at hand leaves out what the journal holds. What a gap owes was written, so it differs;
// what a repair or a verify pass owes is wanted whatever it is; of what joins the journal has nothing, or something long ago.
func (x *session) compares() bool {
	e := &x.s.ep
	return x.version >= wire.V3 && !e.fresh && !e.done && e.reason != reasonGap && e.reason != reasonRepair && e.reason != reasonVerify &&
		e.reason != reasonDisks
}

// mayAsk: the base must know the epoch, and the queue has room for a Base and an Ask beside a captured write.
func (x *session) mayAsk() bool {
	a := &x.asking
	return x.s.ep.openAcked && len(a.unasked) == 0 && len(a.waiting) < wire.MaxAsks && x.room(3)
}

// ask asks for the coarse digests of a chunk that is about to be read. The first of a pass has the server take its base:
// everything of earlier passes is acknowledged by then.
func (x *session) ask(c *chunk) error {
	a := &x.asking
	if !a.based {
		if err := x.sendBase(false); err != nil {
			return err
		}
	}
	c.compare = compare{stage: coarse, piece: wire.MaxPiece / wire.SectorSize, tools: a.tools}
	return x.sendAsk(c)
}

// sendBase has the server take the state that the epoch stands on, or its latest.
func (x *session) sendBase(latest bool) error {
	a := &x.asking
	if a.key == nil {
		key := make([]byte, wire.KeySize)
		_, _ = rand.Read(key) // never fails
		a.key = key
		a.tools = &sync.Pool{New: func() any {
			d, _ := wire.NewDigester(key) // fails for a key of another length only
			return d
		}}
	}
	frame, err := wire.Message(wire.TypeBase, x.s.ep.number, 0, 0, 0, wire.Base{Key: a.key, Latest: latest})
	if err != nil {
		return final{err}
	}
	a.based, a.waiting = true, map[uint64]*chunk{}
	x.queue <- outgoing{message: frame} // not stored, so not acknowledged
	return nil
}

func (x *session) sendAsk(c *chunk) error {
	a, p := &x.asking, &c.compare
	a.last++
	p.id, p.theirs = a.last, nil
	q := wire.Ask{ID: p.id, Piece: p.piece}
	for _, s := range c.wanted {
		from, to := c.extent(s)
		q.Ranges = append(q.Ranges, wire.Range{Disk: c.disk.Index, Sector: from / wire.SectorSize, Sectors: (to - from) / wire.SectorSize})
	}
	frame, err := wire.Message(wire.TypeAsk, x.s.ep.number, 0, 0, 0, q)
	if err != nil {
		return final{err}
	}
	a.waiting[p.id] = c
	x.queue <- outgoing{message: frame}
	return nil
}

// answered takes digests. Nobody waits for those of a chunk that could not be read, or of an epoch that has ended.
func (x *session) answered(d *wire.Digests) error {
	c := x.asking.waiting[d.ID]
	if c == nil {
		return nil
	}
	delete(x.asking.waiting, d.ID)
	if want := c.pieces() * wire.DigestSize; len(d.Digests) != want {
		return fault.New(fault.Corruption, "source: compare", "%d bytes of digests, %d were asked for", len(d.Digests), want)
	}
	c.compare.theirs = d.Digests
	if c.stretch != nil {
		x.answeredLook(c, d)
		return nil
	}
	if c.compare.stage == fine {
		x.asking.differ = append(x.asking.differ, c)
		return nil
	}
	x.decide(c)
	return nil
}

// pieces is how many digests its question has.
func (c *chunk) pieces() (n int) {
	for _, s := range c.wanted {
		n += c.piecesOf(s)
	}
	return n
}

func (c *chunk) piecesOf(s span) int {
	from, to := c.extent(s)
	return int(((to-from)/wire.SectorSize + c.compare.piece - 1) / c.compare.piece)
}

// decide compares once both sides' coarse digests are there.
func (x *session) decide(c *chunk) {
	p := &c.compare
	if !p.read || p.theirs == nil {
		return
	}
	var differ []span
	at := 0
	for _, s := range c.wanted {
		same := true
		for range c.piecesOf(s) {
			same = same && wire.Same(p.ours[at:at+wire.DigestSize], p.theirs[at:at+wire.DigestSize])
			at += wire.DigestSize
		}
		if same {
			from, to := c.extent(s)
			c.same += to - from
		} else {
			differ = append(differ, s)
		}
	}
	if len(differ) == 0 {
		x.chunkDone(c)
		return
	}
	c.wanted = differ
	p.stage, p.piece = fine, wire.CellSectors
	x.asking.unasked = append(x.asking.unasked, c)
}

// nextDiffering asks about what differs as far as there is room, and returns a chunk that may be read again.
func (x *session) nextDiffering() *chunk {
	a := &x.asking
	for len(a.unasked) > 0 && len(a.waiting) < wire.MaxAsks && x.room(2) {
		c := a.unasked[0]
		a.unasked = a.unasked[1:]
		if x.sendAsk(c) != nil {
			x.forget(c) // too large to be said: cannot be
		}
	}
	if len(a.differ) == 0 {
		return nil
	}
	c := a.differ[0]
	a.differ = a.differ[1:]
	c.held = c.bytes
	return c
}

// digest adds the digests of a span that was read.
func (p *compare) digest(disk uint16, data []byte, from uint64) {
	p.ours = p.digester().Append(p.ours, disk, from/wire.SectorSize, p.piece, data)
}

// frame frames those pieces of a span whose digests differ.
func (p *compare) frame(w *framer, data []byte, from uint64) {
	p.ours = p.ours[:0]
	p.digest(w.chunk.disk.Index, data, from)
	for size := int(p.piece) * wire.SectorSize; len(data) > 0; {
		n, same := 0, p.nextSame()
		for n < len(data) && same == p.nextSame() {
			n = min(n+size, len(data))
			p.ours, p.theirs = p.ours[wire.DigestSize:], p.theirs[wire.DigestSize:]
		}
		if same {
			w.chunk.same += uint64(n)
		} else {
			w.add(data[:n], from)
		}
		data, from = data[n:], from+uint64(n)
	}
}

// nextSame tells whether the next piece is the same on both sides.
func (p *compare) nextSame() bool {
	return len(p.ours) > 0 && wire.Same(p.ours[:wire.DigestSize], p.theirs[:wire.DigestSize])
}

// digester is one for the reader at work on the chunk.
func (p *compare) digester() *wire.Digester {
	if p.d == nil {
		p.d = p.tools.Get().(*wire.Digester)
	}
	return p.d
}

// putBack lets another chunk have the digester.
func (p *compare) putBack() {
	if p.d != nil {
		p.tools.Put(p.d)
		p.d = nil
	}
}
