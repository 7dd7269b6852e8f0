package capture

import (
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Doubts are what a capture has found against itself.
type Doubts struct {
	RecursionMisses map[string]uint64    // runs of each program that the kernel skipped, since the capture was made
	Lost            uint64               // writes whose completion nobody could place, since the capture was made
	MissedSectors   map[uint16]uint64    // by disk: written by the kernel's count and never seen, since this process opened the capture
	Proven          map[uint16]time.Time // by disk: when the counts last agreed with nothing in flight; absent before
	Unaudited       map[uint16]string    // by disk: why the kernel's counts cannot be read
}

// doubts collects them: the mover does, anybody reads.
type doubts struct {
	mu  sync.Mutex
	now Doubts
}

func (d *doubts) change(f func(*Doubts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now.MissedSectors == nil {
		d.now = Doubts{map[string]uint64{}, 0, map[uint16]uint64{}, map[uint16]time.Time{}, map[uint16]string{}}
	}
	f(&d.now)
}

// Doubts may be asked for by any goroutine.
func (c *Capture) Doubts() Doubts { return c.doubts.copy() }

func (d *doubts) copy() Doubts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Doubts{maps.Clone(d.now.RecursionMisses), d.now.Lost, maps.Clone(d.now.MissedSectors), maps.Clone(d.now.Proven), maps.Clone(d.now.Unaudited)}
}

/*
audit compares, for one disk, the sectors of writes that were seen being queued with those that the kernel counts as
completed. What is completed was queued before, so the difference

	surplus = completed - queued, the first read before the second

is largest while nothing is on its way, however much is at other times, and then always the same. A larger one means
writes that nobody saw.

That nothing is on its way cannot be seen for sure: a write that is queued is not in flight yet while its thread waits
for a processor. So the largest of some looks that seemed quiet is believed, or one that a second did not change. Queued
writes that fail before they reach the driver make the surplus smaller for good; so it is learned anew every minute,
which may lower it only.
*/
type audit struct {
	known   bool
	surplus int64
	window  struct {
		began   time.Time
		looks   int // that seemed quiet
		largest int64
	}
	still sample // the last look that seemed quiet
	since time.Time
}

const (
	auditWindow = time.Minute
	auditLooks  = 10
	auditStill  = time.Second
)

// sample is read in the order of its fields.
type sample struct {
	inFlight  uint64
	completed uint64
	queued    uint64
	after     struct{ completed, inFlight uint64 }
}

func (s *sample) quiet() bool {
	return s.inFlight == 0 && s.after.inFlight == 0 && s.completed == s.after.completed
}

// judge says how many sectors were written unseen since the last judgement, and whether the counts agree exactly.
func (a *audit) judge(s sample, now time.Time) (missed uint64, proven bool) {
	surplus := int64(s.completed - s.queued)
	if a.known && surplus > a.surplus {
		missed = uint64(surplus - a.surplus)
		a.surplus = surplus
	}
	if s.quiet() {
		a.learn(s, surplus, now)
	}
	return missed, missed == 0 && a.known && s.quiet() && surplus == a.surplus
}

func (a *audit) learn(s sample, surplus int64, now time.Time) {
	w := &a.window
	if w.looks == 0 {
		w.began, w.largest = now, surplus
	}
	w.looks++
	w.largest = max(w.largest, surplus)
	if s != a.still {
		a.still, a.since = s, now
	}
	switch {
	case now.Sub(a.since) >= auditStill:
		a.surplus = surplus
	case w.looks >= auditLooks && (!a.known || now.Sub(w.began) >= auditWindow):
		a.surplus = w.largest
	default:
		return
	}
	a.known, w.looks = true, 0
}

// auditAll audits every disk. What it finds is a drop that makes the whole disk dirty: nobody knows which blocks.
func (c *Capture) auditAll() error {
	for _, d := range c.owner.Disks {
		s, err := c.sample(d)
		if err != nil {
			if fault.Is(err, fault.Unsupported) || fault.Is(err, fault.NotFound) {
				c.unaudited(d, err)
				continue
			}
			return err
		}
		a := c.audits[d.Index]
		if a == nil {
			if c.audits == nil {
				c.audits = map[uint16]*audit{}
			}
			a = &audit{}
			c.audits[d.Index] = a
		}
		missed, proven := a.judge(s, time.Now())
		if missed > 0 {
			c.distrust(d, missed)
		}
		c.doubts.change(func(n *Doubts) {
			delete(n.Unaudited, d.Index)
			if proven {
				n.Proven[d.Index] = time.Now()
			}
		})
	}
	return nil
}

func (c *Capture) sample(d ownedDisk) (s sample, err error) {
	read := func(f func(blockdev.Dev) (uint64, error), to *uint64) {
		if err == nil {
			*to, err = f(d.dev())
		}
	}
	read(blockdev.InFlightWrites, &s.inFlight)
	read(blockdev.WriteSectors, &s.completed)
	read(func(blockdev.Dev) (uint64, error) { return c.WrittenSectors(d.Index) }, &s.queued)
	read(blockdev.WriteSectors, &s.after.completed)
	read(blockdev.InFlightWrites, &s.after.inFlight)
	return s, err
}

func (c *Capture) distrust(d ownedDisk, missed uint64) {
	c.log.Error("the kernel counts writes that were not seen: the whole disk is compared again", "disk", d.Path, "sectors", missed,
		"hint", "if it comes again, the disk's driver hides writes: replicate with --capture-mode bitmap")
	c.doubts.change(func(n *Doubts) { n.MissedSectors[d.Index] += missed })
	c.dirtyWhole(d.Index)
	c.drop(1)
}

func (c *Capture) unaudited(d ownedDisk, err error) {
	c.doubts.change(func(n *Doubts) {
		if n.Unaudited[d.Index] == "" {
			c.log.Warn("the capture of a disk cannot be audited", slog.String("disk", d.Path), slog.Any("error", err))
		}
		n.Unaudited[d.Index] = err.Error()
	})
}
