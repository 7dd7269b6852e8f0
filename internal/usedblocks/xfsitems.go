package usedblocks

import (
	"bytes"
	"maps"
)

/*
What the checkpoints of the log change. A checkpoint is a transaction of the log: a header, then items, each of some regions of
which the first says what it is, then a commit. Its parts may lie in several records, between those of others, and a region may
go on in the next record. Blocks in place carry the number of the record in which the last checkpoint began that they hold.
*/
const (
	xlogTransaction = 0x69 // the client whose operations these are
	xlogStart       = 0x1
	xlogCommit      = 0x2
	xlogGoesOn      = 0x4 // in the next record
	xlogWentOn      = 0x8 // from the last

	xlogHeader  = 0x5452414e // "TRAN"
	xlogBuffer  = 0x123c
	xlogBTree   = 4 // kinds of buffers
	xlogGroup   = 5
	xlogMaxSeen = 1 << 20 // blocks that are kept in mind
)

// xfsChanged is what the log tells of one block.
type xfsChanged struct {
	before xlogAt // where the last checkpoint began that had changed it when the file system was first looked at; 0: it is in place
	after  xlogAt // and the first that has since; 0: none
}

// xfsLog is the log since a file system was first looked at.
type xfsLog struct {
	x       *xfs
	before  map[int64]xlogAt // by sector of the disk
	open    map[uint32]*xlogCheckpoint
	from    xlogAt // the first record that was not there at the first look
	changed map[int64]xfsChanged
	last    xlogAt // the last record there was
}

// xlogCheckpoint is one that is being read.
type xlogCheckpoint struct {
	start  xlogAt
	begun  bool   // its header was read
	left   int    // regions of the item at hand
	region []byte // of the one that goes on, as far as it matters
	blocks []int64
}

// look reads what the log holds that may not be in place.
func (x *xfs) look() (*xfsLog, error) {
	newest, err := x.newest()
	if err != nil {
		return nil, err
	}
	// For a moment, while a checkpoint is taken over and nothing else waits to be written back, Linux calls the record of its commit
	// the tail, and where it began lies before. The tail that this very record tells is older. Where that is overwritten already, much
	// waits, and the tail is where a checkpoint begins.
	if b, err := x.sectors(newest.tail, 1); err == nil {
		if r, ok := x.record(b, newest.tail.sector()); ok && r.lsn == newest.tail && r.tail < r.lsn {
			if l, err := x.lookFrom(r.tail, newest.lsn); err == nil {
				return l, nil
			}
		}
	}
	return x.lookFrom(newest.tail, newest.lsn)
}

// lookFrom reads the log from a record to at least the newest.
func (x *xfs) lookFrom(tail, newest xlogAt) (l *xfsLog, err error) {
	l = &xfsLog{x: x, before: map[int64]xlogAt{}, open: map[uint32]*xlogCheckpoint{}, from: tail}
	l.from, err = l.read(l.open, func(block int64, start xlogAt) bool {
		l.before[block] = max(l.before[block], start)
		return len(l.before) <= xlogMaxSeen
	})
	if err == nil && l.last < newest {
		err = errDoubt("its log is written just now")
	}
	return l, err
}

// again reads what has been logged since the first look.
func (l *xfsLog) again() error {
	l.changed = make(map[int64]xfsChanged, len(l.before))
	for block, start := range l.before {
		l.changed[block] = xfsChanged{before: start}
	}
	open := maps.Clone(l.open)
	for id, c := range open {
		fresh := *c
		fresh.region, fresh.blocks = bytes.Clone(c.region), append([]int64(nil), c.blocks...)
		open[id] = &fresh
	}
	_, err := l.read(open, func(block int64, start xlogAt) bool {
		c := l.changed[block]
		if c.after == 0 || start < c.after {
			c.after = start
		}
		l.changed[block] = c
		return len(l.changed) <= xlogMaxSeen
	})
	return err
}

// read follows the records from where it is to the end.
func (l *xfsLog) read(open map[uint32]*xlogCheckpoint, changes func(block int64, start xlogAt) bool) (end xlogAt, err error) {
	for end = l.from; ; {
		r, body, found, err := l.x.recordAt(end)
		switch {
		case err != nil:
			return end, err
		case found == xlogLost:
			return end, errDoubt("its log went around meanwhile")
		case found == xlogEnd:
			return end, nil
		}
		if err := l.operations(&r, body, open, changes); err != nil {
			return end, err
		}
		l.last, end = r.lsn, l.x.forward(r.lsn, r.sectors())
	}
}

func (l *xfsLog) operations(r *xlogRecord, b []byte, open map[uint32]*xlogCheckpoint, changes func(int64, xlogAt) bool) error {
	for range r.ops {
		if len(b) < 12 {
			return errDoubt("a record of its log ends early")
		}
		id, n, client, flags := be.Uint32(b), int(be.Uint32(b[4:])), b[8], b[9]
		if b = b[12:]; n < 0 || n > len(b) {
			return errDoubt("a record of its log ends early")
		}
		region := b[:n]
		b = b[n:]
		if client != xlogTransaction {
			continue
		}
		c := open[id]
		switch {
		case flags&xlogStart != 0:
			open[id] = &xlogCheckpoint{start: r.lsn}
		case c == nil: // it began before the tail, so all that it changed is in place, or in a later one
		case flags&xlogCommit != 0:
			delete(open, id)
			for _, block := range c.blocks {
				if !changes(block, c.start) {
					return errDoubt("its log changes too many blocks")
				}
			}
		case n > 0 || flags&(xlogGoesOn|xlogWentOn) != 0:
			if err := c.take(region, flags); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes a region, or a part of one.
func (c *xlogCheckpoint) take(b []byte, flags byte) error {
	whole := flags&xlogGoesOn == 0
	if flags&xlogWentOn != 0 || !whole {
		if c.left == 0 || !c.begun { // only what says what an item is matters
			c.region = append(c.region, b...)
		}
		if !whole {
			return nil
		}
		b, c.region = c.region, nil
	}
	switch {
	case !c.begun:
		c.begun = true
		if len(b) < 4 || le.Uint32(b) != xlogHeader {
			return errDoubt("a transaction of its log has no header")
		}
		return nil
	case c.left > 0:
		c.left--
		return nil
	case len(b) < 4 || le.Uint16(b[2:]) == 0:
		return errDoubt("an item of its log has no regions")
	}
	c.left = int(le.Uint16(b[2:])) - 1
	if le.Uint16(b) == xlogBuffer {
		if len(b) < 16 {
			return errDoubt("a buffer of its log lies nowhere")
		}
		if kind := le.Uint16(b[4:]) >> 11; kind == xlogBTree || kind == xlogGroup {
			c.blocks = append(c.blocks, int64(le.Uint64(b[8:])))
		}
	}
	return nil
}
