package source

import (
	"time"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/wire"
)

// everySecond flips the generations and does what needs a flip: it begins to retire the idle generation, finds lists
// of records that will never be whole, looks whether the baseline is complete and marks the time.
func (x *session) everySecond(now time.Time) error {
	if x.cycle != 0 || !x.announced || now.Sub(x.cycled) < cycleEvery {
		return nil // one at a time: the idle generation waits for its acknowledgements
	}
	x.cycled = now
	wall := x.s.clock.now()
	producer := x.cap.Producer()
	if err := x.flip(producer); err != nil {
		return err
	}
	if !x.tainted && x.cap.Drops() == x.s.ep.drops {
		x.cycle = x.cap.Producer()
	}
	x.finish(producer, wall)
	if err := x.stream(); err != nil {
		return err
	}
	x.mark(now, producer, wall)
	x.passed()
	return nil
}

// flip flips the generations. producer was read before. After the grace period every record below it is committed or
// discarded, and the programs that reserved it have finished.
func (x *session) flip(producer uint64) error {
	if err := x.cap.Flip(); err != nil {
		return ringErr(err)
	}
	var r capture.Record
	ok, err := x.cap.Next(x.read, &r)
	if err != nil {
		return ringErr(err)
	}
	if !ok {
		x.read = max(x.read, producer) // only discarded records are left below it
	}
	x.bios.finished(producer, x.cap.Producer())
	return nil
}

// mark tells the server how far time has come when no write does. wall was read before producer and the flip: every
// write that had completed by then is at or below producer, or counted as dropped by now.
func (x *session) mark(now time.Time, producer uint64, wall int64) {
	if now.Sub(x.spoke) < cycleEvery || !x.quietUpTo(producer) || !x.room(2) {
		return
	}
	x.running = max(x.running, wall)
	x.sendMark(now)
	if x.s.ep.done {
		x.completed()
	}
}

func (x *session) completed() {
	if x.s.cfg.Pacer != nil {
		x.s.cfg.Pacer.Completed()
	}
}

func (x *session) quietUpTo(producer uint64) bool {
	return x.announced && !x.tainted && x.out == nil && (x.builder == nil || x.builder.Empty()) &&
		x.read >= producer && x.cap.Drops() == x.s.ep.drops
}

// keepalive makes the server answer when there has been nothing to say. It claims no new time.
func (x *session) keepalive(now time.Time) {
	if x.announced && x.out == nil && len(x.queue) == 0 && now.Sub(x.spoke) >= 2*cycleEvery && x.flush() && x.room(2) {
		x.sendMark(now)
	}
}

func (x *session) sendMark(now time.Time) {
	x.spoke = now
	x.control(wire.TypeMark, x.s.ep.number, x.position, x.position, x.running)
}
