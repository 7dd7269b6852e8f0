package source

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
)

const (
	testBlock  = 4096
	recordHead = 48 // the ring's header and the record's
	testCPUs   = 3
)

// host is a source server in memory: disks, and the capture of what is written to them. Its writes take time: a
// program puts the records of a bio into the ring one by one, the disk completes bios in any order.
type host struct {
	mu    sync.Mutex
	rng   *rand.Rand
	boot  time.Time
	disks [][]byte
	*fakeCapture
	history []*fakeCapture // of earlier boots

	programs map[uint32]*program // running, by CPU
	inflight []*write            // given to the disk, not completed
	writes   [8]uint64           // bytes of those that completed, by disk

	busy     bool   // writes come between the agent's calls too
	killIn   int    // the goroutine that makes the n-th call from now dies there; 0: none does
	readErrs int    // so many reads fail
	noDrain  bool   // BeginDrain does nothing
	events   bool   // no payloads: every event of a write is a drop
	readable bool   // every page can be copied
	forgets  bool   // some dropped writes find no room to be remembered, or complete unseen
	stuck    bool   // no dropped write that is remembered completes
	ringErr  error  // of the next look at the ring
	hook     func() // before every call of the agent
}

// write is one bio, as the oracle remembers it.
type write struct {
	disk          int
	op            capture.Op
	offset, bytes int
	data          []byte
	dropped       bool
	at            uint64 // ring: past its last record, or the producer when it was dropped
	stamp         time.Time
	completed     time.Time // zero while in flight
}

// program is a BPF program at work on a bio.
type program struct {
	w     *write
	parts []int // bytes of each record
	next  int
	sent  int
	last  *record // reserved, not committed
}

type record struct {
	capture.Record
	busy, discarded bool
}

func newHost(rng *rand.Rand, ring uint64, sizes ...int) *host {
	h := &host{rng: rng, programs: map[uint32]*program{}, boot: time.Now()}
	for _, n := range sizes {
		d := make([]byte, n)
		for i := 0; i < n; i += testBlock {
			if rng.IntN(3) > 0 {
				fill(rng, d[i:min(i+testBlock, n)])
			}
		}
		h.disks = append(h.disks, d)
	}
	h.load(ring)
	return h
}

func fill(rng *rand.Rand, b []byte) {
	v := byte(1 + rng.IntN(255))
	for i := range b {
		b[i] = v + byte(i>>9)
	}
}

// load makes a capture, as after a boot.
func (h *host) load(ring uint64) {
	c := &fakeCapture{host: h, size: ring, outstanding: map[*write]bool{}, wanted: 1, openings: map[journalEpoch]opening{}}
	for i := range c.id {
		c.id[i] = byte(h.rng.IntN(256))
	}
	for _, d := range h.disks {
		n := (len(d) + testBlock - 1) / testBlock
		for g := range c.gen {
			c.gen[g] = append(c.gen[g], make(bitset, n))
		}
		c.debt, c.late = append(c.debt, make(bitset, n)), append(c.late, make(bitset, n))
		c.before = append(c.before, append([]byte(nil), d...))
	}
	h.fakeCapture = c
}

// reboot loses what was in flight, or not, and the capture. Nobody may be using it.
func (h *host) reboot(ring uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.programs {
		h.inflight = append(h.inflight, p.w)
	}
	for _, w := range h.inflight {
		if h.rng.IntN(2) == 0 {
			h.apply(w, h.disks)
		}
	}
	h.inflight, h.programs = nil, map[uint32]*program{}
	h.history = append(h.history, h.fakeCapture)
	h.load(ring)
}

// apply does to disks what a write does.
func (h *host) apply(w *write, disks [][]byte) {
	b := disks[w.disk][w.offset : w.offset+w.bytes]
	if w.op == capture.Write {
		copy(b, w.data)
	} else {
		clear(b)
	}
}

// overlaps tells whether a range is being written: who writes it again meanwhile can expect nothing.
func (h *host) overlaps(disk, offset, bytes int) bool {
	hit := func(w *write) bool {
		return w.disk == disk && offset < w.offset+w.bytes && w.offset < offset+bytes
	}
	for _, w := range h.inflight {
		if hit(w) {
			return true
		}
	}
	for _, p := range h.programs {
		if hit(p.w) {
			return true
		}
	}
	return false
}

// submit begins a random bio on a CPU that is free.
func (h *host) submit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begin()
}

func (h *host) begin() {
	cpu := uint32(h.rng.IntN(testCPUs))
	if h.programs[cpu] != nil {
		return
	}
	disk := h.rng.IntN(len(h.disks))
	sectors := len(h.disks[disk]) / 512
	n := 1 + h.rng.IntN(min(24, sectors))
	w := &write{disk: disk, op: capture.Write, offset: h.rng.IntN(sectors-n+1) * 512, bytes: n * 512, stamp: time.Now()}
	if h.rng.IntN(2) == 0 { // favour few blocks, so that they are written often
		w.offset = min(h.rng.IntN(4)*2048, (sectors-n)*512)
	}
	switch h.rng.IntN(16) {
	case 0:
		w.op = capture.Discard
	case 1:
		w.op = capture.WriteZeroes
	case 2:
		w.op, w.bytes = capture.Flush, 0
	case 3:
		w.data = make([]byte, w.bytes) // zeroes
	case 4, 5: // what was there at boot, which the journal may hold
		w.data = append([]byte(nil), h.before[w.disk][w.offset:w.offset+w.bytes]...)
	default:
		w.data = make([]byte, w.bytes)
		fill(h.rng, w.data)
	}
	if h.overlaps(w.disk, w.offset, w.bytes) {
		return
	}
	if h.events {
		h.event(w)
		w.at = h.producer
		h.log = append(h.log, w)
		h.inflight = append(h.inflight, w)
		return
	}
	p := &program{w: w}
	if w.op != capture.Write {
		p.parts = []int{0}
	}
	for left := len(w.data); left > 0; {
		n := min(left, []int{512, 4096, 8192}[h.rng.IntN(3)])
		p.parts = append(p.parts, n)
		left -= n
	}
	c := h.fakeCapture
	h.mark(c.gen[c.current], w)
	h.programs[cpu] = p
	if h.rng.IntN(3) > 0 {
		h.finish(cpu)
	}
}

func (h *host) mark(bits []bitset, w *write) {
	if w.bytes == 0 {
		return
	}
	for b := w.offset / testBlock; b <= (w.offset+w.bytes-1)/testBlock; b++ {
		bits[w.disk][b] = true
	}
}

func (h *host) finish(cpu uint32) {
	for h.programs[cpu] != nil {
		h.run(cpu)
	}
}

// run takes a program one step further.
func (h *host) run(cpu uint32) {
	c, p := h.fakeCapture, h.programs[cpu]
	if p.last != nil {
		p.last.busy, p.last = false, nil
	}
	if p.next == len(p.parts) {
		delete(h.programs, cpu)
		h.inflight = append(h.inflight, p.w)
		return
	}
	n := p.parts[p.next]
	need := uint64(recordHead+n+7) &^ 7
	unreadable := h.rng.IntN(400) == 0 && !h.readable
	if c.producer+need-c.consumer > c.size || unreadable {
		if unreadable && c.producer+need-c.consumer <= c.size {
			c.records = append(c.records, &record{discarded: true, Record: capture.Record{Start: c.producer, End: c.producer + need}})
			c.producer += need
		}
		h.drop(p.w)
		delete(h.programs, cpu)
		h.inflight = append(h.inflight, p.w)
		return
	}
	h.reserve(cpu, p, n, need)
	if p.next == len(p.parts) {
		p.w.at = c.producer
		c.log = append(c.log, p.w)
	}
}

func (h *host) reserve(cpu uint32, p *program, n int, need uint64) {
	c, w := h.fakeCapture, p.w
	r := &record{busy: true, Record: capture.Record{
		Disk: uint16(w.disk), Op: w.op, CPU: cpu, Sector: uint64(w.offset+p.sent) / 512, Bytes: uint64(n),
		Time: uint64(w.stamp.Sub(h.boot)), Drops: c.drops, Start: c.producer, End: c.producer + need,
	}}
	switch w.op {
	case capture.Write:
		r.Data = append([]byte(nil), w.data[p.sent:p.sent+n]...)
	case capture.Flush:
	default:
		r.Bytes = uint64(w.bytes)
	}
	if p.next == 0 {
		r.Flags |= capture.First
	}
	p.sent += n
	if p.next++; p.next == len(p.parts) {
		r.Flags |= capture.Last
	}
	c.records, c.producer, p.last = append(c.records, r), r.End, r
}

func (h *host) drop(w *write) {
	c := h.fakeCapture
	w.dropped, w.at = true, c.producer
	c.log = append(c.log, w)
	if h.forgets && h.rng.IntN(8) == 0 {
		c.wanted++ // no room to remember it
	} else {
		c.outstanding[w] = true
	}
	c.drops++
}

// advance lets something happen by itself: a program goes on, or a bio completes.
func (h *host) advance() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.goOn()
}

func (h *host) goOn() {
	if cpu := uint32(h.rng.IntN(testCPUs)); h.programs[cpu] != nil && h.rng.IntN(2) == 0 {
		h.run(cpu)
		return
	}
	if len(h.inflight) > 0 {
		if i := h.rng.IntN(len(h.inflight)); !h.stuck || !h.outstanding[h.inflight[i]] {
			h.complete(i)
		}
	}
}

func (h *host) complete(i int) {
	c, w := h.fakeCapture, h.inflight[i]
	h.inflight = append(h.inflight[:i], h.inflight[i+1:]...)
	h.apply(w, h.disks)
	h.writes[w.disk] += uint64(w.bytes)
	w.completed = time.Now()
	if h.events {
		h.event(w)
		return
	}
	if c.outstanding[w] && h.forgets && h.rng.IntN(16) == 0 {
		return // its completion goes unseen
	}
	if c.outstanding[w] || c.wanted != c.ended {
		h.mark(c.late, w)
	}
	delete(c.outstanding, w)
}

// event is what a capture without payloads sees of a write that is queued or completes.
func (h *host) event(w *write) {
	if w.bytes > 0 {
		c := h.fakeCapture
		h.mark(c.gen[c.current], w)
		c.drops++
		c.producer = 16 * c.drops
	}
}

// completeOthers completes what is not stuck.
func (h *host) completeOthers() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.inflight) - 1; i >= 0; i-- {
		if !h.outstanding[h.inflight[i]] {
			h.complete(i)
		}
	}
}

// settleAll completes everything.
func (h *host) settleAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stuck = false
	h.finishPrograms()
	for len(h.inflight) > 0 {
		h.complete(0)
	}
}

func (h *host) finishPrograms() {
	for cpu := range uint32(testCPUs) {
		h.finish(cpu)
	}
}

func (h *host) inFlightWrites(disk uint16) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := uint64(0)
	for _, w := range h.inflight {
		if w.disk == int(disk) {
			n++
		}
	}
	return n, nil
}

// written fails now and then where reads do.
func (h *host) written(disk uint16) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErrs > 0 {
		return 0, errMedium
	}
	return h.writes[disk], nil
}

func (h *host) clock() (uint64, time.Time) {
	now := time.Now()
	return uint64(now.Sub(h.boot)), now
}

// diskReader reads a disk as it is now.
type diskReader struct {
	h *host
	n int
}

var errMedium = errors.New("medium error")

func (d diskReader) ReadAt(p []byte, off int64) (int, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.readErrs > 0 {
		d.h.readErrs--
		return 0, errMedium
	}
	return copy(p, d.h.disks[d.n][off:]), nil
}
