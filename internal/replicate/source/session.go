package source

import (
	"context"
	"math"
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// session is one connection. Its owner is Run's goroutine; a sender and a receiver work for it.
//
//	ring --> take --> place --> emit --> flush --+
//	disks --> readers --> baseline --------------+--> queue --> sender --> server
//	                                             |
//	              acknowledge <-- receiver <--- flight (sent, in order)
type session struct {
	s       *Source
	cap     Capture
	conn    *wire.Conn
	id      uint64
	version uint32 // of the protocol, as the server chose

	queue  chan outgoing
	moved  chan struct{} // the sender took a frame from the queue
	acks   chan wire.Header
	asked  chan wire.Repair
	told   chan wire.Digests
	failed chan failure

	flight      []sent // frames not yet acknowledged, in order
	ackedFrames uint64
	durable     uint64 // bios at or below it were on the server at Welcome
	stored      uint64 // frames that were
	announced   bool   // EpochOpen of the epoch at hand was sent on this connection or is on the server
	before      uint64 // the epoch to finish before announcing; 0: none
	beforeFirst uint64 // its first position

	read     uint64 // ring offset of the next record
	released uint64
	rec      capture.Record
	bios     assembler
	out      *bio    // being put into frames
	pieces   []piece // of it, from next on
	next     int
	builder  *wire.Builder
	building sent
	heldFrom time.Time // when builder got its first extent

	running  int64  // running maximum of times
	position uint64 // everything at or below it in this epoch was sent
	tainted  bool   // writes were dropped: this epoch ends at gap
	gap      uint64
	keep     uint64        // the ring is kept from here on: an epoch that ends without a drop may have to go on
	changing bool          // it ended because the next has other disks
	repairs  []wire.Repair // ranges for the next epoch to read

	cycle     uint64 // the idle generation may be cleared when the ring is released up to here; 0: no cycle
	cycled    time.Time
	spoke     time.Time // when the last frame with a watermark was queued
	abreastAt time.Time // when the link had last caught up with what is written
	base      baseline
	asking    asking

	verifying verifying
	shown     bool // of the epoch at hand something is recoverable on the server: it said so on this connection

	published time.Time
	lingering bool // asked to stop: what is in memory only goes first
}

func newSession(s *Source, conn *wire.Conn, w *wire.Welcome) *session {
	s.sessions++
	now := time.Now()
	x := &session{
		s: s, cap: s.cap, conn: conn, id: s.sessions, version: w.Version, durable: w.Durable, stored: w.Frames,
		queue: make(chan outgoing, queueFrames), moved: make(chan struct{}, 1), acks: make(chan wire.Header),
		asked: make(chan wire.Repair), told: make(chan wire.Digests), failed: make(chan failure, 2), read: s.cap.Consumer(), cycled: now, spoke: now, abreastAt: now,
	}
	x.released, x.keep = x.read, math.MaxUint64
	return x
}

// run replicates until the connection ends, or ctx and with it what of the backlog can be sent in time.
func (x *session) run(ctx context.Context) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	wait := x.work(working)
	defer func() {
		cancel()
		x.conn.Close()
		wait()
	}()
	poll := time.NewTicker(x.s.cfg.Poll)
	defer poll.Stop()
	stop, late := ctx.Done(), (<-chan time.Time)(nil)
	for {
		if err := x.step(); err != nil {
			return err
		}
		if x.lingering && !x.lingers() {
			return ctx.Err()
		}
		select {
		case <-stop:
			if !x.lingers() {
				return ctx.Err()
			}
			most := time.NewTimer(lingerAtMost)
			defer most.Stop()
			x.lingering, stop, late = true, nil, most.C
		case <-late:
			return ctx.Err()
		case err := <-x.failed:
			return x.lastWord(working, err)
		case h := <-x.acks:
			if err := x.acknowledge(&h); err != nil {
				return err
			}
		case r := <-x.asked:
			x.askedToRepair(r)
		case c := <-x.s.cuts:
			x.takeCut(c)
		case d := <-x.told:
			if err := x.answered(&d); err != nil {
				return err
			}
		case u := <-x.s.finder.found:
			x.s.takeOff(u)
		case c := <-x.s.readers.results:
			x.chunkRead(c)
		case <-x.moved:
		case <-poll.C:
		}
	}
}

// lingers tells whether stopping now would lose what only memory has.
func (x *session) lingers() bool { return x.s.cap.backlog.Holds() && !x.tainted }

// step does whatever can be done now.
func (x *session) step() error {
	now := time.Now()
	if err := x.stream(); err != nil {
		return err
	}
	if x.abreast() {
		x.abreastAt = now
	}
	if !x.tainted && !x.lingering {
		if err := x.s.spill(x); err != nil {
			return err
		}
	}
	x.beginRepair()
	x.correct(now)
	x.joined()
	if err := x.succeed(); err != nil {
		return err
	}
	if err := x.baseline(now); err != nil {
		return err
	}
	if err := x.everySecond(now); err != nil {
		return err
	}
	if err := x.verify(now); err != nil {
		return err
	}
	x.keepalive(now)
	if now.Sub(x.published) >= publishEvery {
		x.published = now
		x.s.publish(x.phase(), nil)
	}
	return nil
}

// room tells whether n more frames may be queued. Only the owner queues, so the room stays.
func (x *session) room(n int) bool { return cap(x.queue)-len(x.queue) >= n }

// send queues a frame; the caller has asked for room.
func (x *session) send(o outgoing, s sent) {
	x.flight = append(x.flight, s)
	x.queue <- o
}

// control queues a frame without extents.
func (x *session) control(t wire.Type, epoch, first, last uint64, time int64) {
	x.send(outgoing{message: wire.Control(t, epoch, first, last, time)},
		sent{typ: t, epoch: epoch, time: time, release: x.safe()})
}

// safe is the ring offset below which every record is sent, or needs no sending.
func (x *session) safe() uint64 {
	o := min(x.read, x.bios.oldest(), x.keep)
	if x.out != nil {
		o = min(o, x.out.start)
	}
	return o
}

// ringErr makes a failure of the capture final: a new connection would meet it again.
func ringErr(err error) error {
	if err == nil {
		return nil
	}
	return final{fault.Wrap("source: capture", err)}
}
