package source

import (
	"errors"
	"runtime"

	"github.com/understudy-dr/understudy/internal/capture"
)

type bitset []bool

// fakeCapture keeps the promises of internal/capture.
type fakeCapture struct {
	host               *host
	id                 [16]byte
	size               uint64
	records            []*record
	producer, consumer uint64
	drops              uint64
	gen                [2][]bitset
	current            int
	debt, late         []bitset
	outstanding        map[*write]bool
	wanted, ended      uint64 // draining
	asked              int    // calls of BeginDrain
	seen               uint64
	meta               [capture.MetaCells]uint64

	before   [][]byte // the disks when the capture was made
	log      []*write // every bio since, by position; dropped ones where they were dropped
	openings map[journalEpoch]opening
}

type journalEpoch struct {
	journal string
	epoch   uint64
}

// opening is what the test notes when an epoch is committed.
type opening struct {
	base uint64
	seq  int // length of log then
}

// enter locks for a call of the agent. Between two calls the host may write, and the agent may be killed.
func (c *fakeCapture) enter() func() {
	h := c.host
	h.mu.Lock()
	c.meanwhile(60)
	if h.hook != nil {
		h.hook()
	}
	if h.killIn > 0 {
		if h.killIn--; h.killIn == 0 {
			h.mu.Unlock()
			runtime.Goexit()
		}
	}
	return h.mu.Unlock
}

// enterRare is enter for calls that are made now and then, and whose order matters: the host likes to write around
// them.
func (c *fakeCapture) enterRare() func() {
	leave := c.enter()
	c.meanwhile(3)
	return func() {
		c.meanwhile(3)
		leave()
	}
}

// meanwhile lets the host write, one time in n.
func (c *fakeCapture) meanwhile(n int) {
	h := c.host
	if h.busy && c == h.fakeCapture && h.rng.IntN(n) == 0 {
		for range 1 + h.rng.IntN(4) {
			h.begin()
			h.goOn()
		}
	}
}

func (c *fakeCapture) ID() [16]byte { return c.id }

func (c *fakeCapture) Next(offset uint64, r *capture.Record) (bool, error) {
	defer c.enter()()
	if c.host.ringErr != nil {
		return false, c.host.ringErr
	}
	if offset < c.consumer {
		return false, errors.New("offset below the consumer position")
	}
	for _, rec := range c.records {
		if rec.Start < offset || rec.discarded {
			continue
		}
		if rec.busy {
			return false, nil
		}
		*r = rec.Record
		return true, nil
	}
	return false, nil
}

func (c *fakeCapture) Producer() uint64 {
	defer c.enter()()
	return c.producer
}

func (c *fakeCapture) Consumer() uint64 {
	defer c.enter()()
	return c.consumer
}

// Release spoils what it gives back, as the kernel would.
func (c *fakeCapture) Release(offset uint64) {
	defer c.enter()()
	for len(c.records) > 0 && c.records[0].End <= offset {
		r := c.records[0]
		if r.busy {
			panic("released a record that is being written")
		}
		for i := range r.Data {
			r.Data[i] = 0xdb
		}
		c.records = c.records[1:]
	}
	c.consumer = max(c.consumer, offset)
}

func (c *fakeCapture) RingBytes() int { return int(c.size) }

func (c *fakeCapture) Drops() uint64 {
	defer c.enter()()
	return c.drops
}

func (c *fakeCapture) Flip() error {
	defer c.enterRare()()
	c.current = 1 - c.current
	c.host.finishPrograms()
	return nil
}

func (c *fakeCapture) ClearIdle() {
	defer c.enterRare()()
	c.clearIdle()
}

func (c *fakeCapture) clearIdle() {
	for _, b := range c.gen[1-c.current] {
		clear(b)
	}
}

func (c *fakeCapture) DirtyToDebt() {
	defer c.enterRare()()
	for d := range c.debt {
		for i := range c.debt[d] {
			c.debt[d][i] = c.debt[d][i] || c.gen[0][d][i] || c.gen[1][d][i]
		}
	}
	c.clearIdle()
}

func (c *fakeCapture) LateToDebt() bool {
	defer c.enterRare()()
	any := false
	for d := range c.late {
		for i, set := range c.late[d] {
			if set {
				c.debt[d][i], c.late[d][i], any = true, false, true
			}
		}
	}
	return any
}

func (c *fakeCapture) OutstandingDropped() uint64 {
	defer c.enterRare()()
	return uint64(len(c.outstanding))
}

func (c *fakeCapture) LateDropped() (uint64, error) {
	defer c.enterRare()()
	for w := range c.outstanding {
		c.host.mark(c.late, w)
	}
	return uint64(len(c.outstanding)), nil
}

func (c *fakeCapture) BeginDrain() {
	defer c.enterRare()()
	c.asked++
	if !c.host.noDrain {
		c.wanted++
	}
}

func (c *fakeCapture) Draining() bool {
	defer c.enterRare()()
	c.seen = c.wanted
	return c.seen != c.ended
}

func (c *fakeCapture) EndDrain() {
	defer c.enterRare()()
	c.ended = c.seen
}

func (c *fakeCapture) Meta(cell int) uint64 { return c.meta[cell] }

func (c *fakeCapture) SetMeta(cell int, v uint64) {
	defer c.enter()()
	first := c.meta[cellLayout] == 0
	c.meta[cell] = v
	if cell == cellLayout && first || cell == cellSlot {
		e := memory{cells: c}.load()
		c.openings[journalEpoch{e.journal, e.number}] = opening{base: e.base, seq: len(c.log)}
	}
}

func (c *fakeCapture) Debt(disk uint16) Bitmap { return fakeBitmap{c, int(disk)} }

type fakeBitmap struct {
	c    *fakeCapture
	disk int
}

func (b fakeBitmap) BlockSize() uint64 { return testBlock }
func (b fakeBitmap) Blocks() uint64    { return uint64(len(b.c.debt[b.disk])) }

func (b fakeBitmap) NextSet(from uint64) (start, end uint64, ok bool) {
	defer b.c.enter()()
	bits := b.c.debt[b.disk]
	n := uint64(len(bits))
	for start = from; start < n && !bits[start]; start++ {
	}
	for end = start; end < n && bits[end]; end++ {
	}
	return start, end, start < n
}

func (b fakeBitmap) Set(start, end uint64)   { b.put(start, end, true) }
func (b fakeBitmap) Clear(start, end uint64) { b.put(start, end, false) }

func (b fakeBitmap) put(start, end uint64, v bool) {
	defer b.c.enter()()
	for i := start; i < end; i++ {
		b.c.debt[b.disk][i] = v
	}
}

func (b fakeBitmap) Count() uint64 {
	defer b.c.enter()()
	n := uint64(0)
	for _, set := range b.c.debt[b.disk] {
		if set {
			n++
		}
	}
	return n
}
