package usedblocks

import "bytes"

/*
The log of XFS, read as recovery does, as far as needed to know which blocks its checkpoints change. Records follow each other
around the log, each with headers of one sector and a body, of whose every sector the first word is kept in the headers: the
cycle stands there, by which a sector that was written is told from what was there before.
*/
const (
	xlogMagic   = 0xfeedbabe
	xlogSector  = 512
	xlogPerHead = 32 << 10 // bytes of body whose words a header keeps
	xlogMaxBody = 1 << 20
)

// xlogAt is a log sequence number: the cycle, and the sector within the log.
type xlogAt uint64

func (a xlogAt) cycle() uint32 { return uint32(a >> 32) }
func (a xlogAt) sector() int64 { return int64(uint32(a)) }

// forward is n sectors on.
func (x *xfs) forward(a xlogAt, n int64) xlogAt {
	cycle, sector := a.cycle(), a.sector()+n
	if sector >= x.logBlocks {
		cycle, sector = cycle+1, sector-x.logBlocks
	}
	return xlogAt(cycle)<<32 | xlogAt(sector)
}

// xlogRecord is the first header of a record.
type xlogRecord struct {
	lsn, tail xlogAt
	length    int64 // of the body
	heads     int64 // sectors before it
	ops       uint32
	words     []byte // of the body's first sectors
}

func (r *xlogRecord) sectors() int64 { return r.heads + (r.length+xlogSector-1)/xlogSector }

// record parses a header that lies at a sector of the log.
func (x *xfs) record(b []byte, at int64) (xlogRecord, bool) {
	r := xlogRecord{lsn: xlogAt(be.Uint64(b[16:])), tail: xlogAt(be.Uint64(b[24:])), length: int64(be.Uint32(b[12:])), heads: 1, ops: be.Uint32(b[40:])}
	if be.Uint32(b) != xlogMagic || !bytes.Equal(b[304:320], x.super[32:48]) || r.lsn.sector() != at || r.lsn.cycle() != be.Uint32(b[4:]) ||
		r.length > xlogMaxBody || r.tail > r.lsn || r.tail.sector() >= x.logBlocks {
		return r, false
	}
	if be.Uint32(b[8:]) > 1 { // version 2
		r.heads = max(1, (int64(be.Uint32(b[320:]))+xlogPerHead-1)/xlogPerHead)
	}
	r.words = bytes.Clone(b[44:300])
	return r, r.length <= r.heads*xlogPerHead && r.sectors() < x.logBlocks
}

// newest finds the record with the greatest number.
func (x *xfs) newest() (xlogRecord, error) {
	var found xlogRecord
	buf := make([]byte, maxRead)
	for at := int64(0); at < x.logBlocks; at += int64(len(buf)) / xlogSector {
		b := buf[:min(int64(len(buf)), (x.logBlocks-at)*xlogSector)]
		if err := x.v.read(b, x.logStart+at*xlogSector); err != nil {
			return found, err
		}
		for i := at; len(b) > 0; i, b = i+1, b[xlogSector:] {
			if r, ok := x.record(b[:xlogSector], i); ok && r.lsn > found.lsn {
				found = r
			}
		}
	}
	if found.lsn == 0 {
		return found, errDoubt("its log has no record")
	}
	return found, nil
}

// sectors reads n sectors of the log, around its end.
func (x *xfs) sectors(at xlogAt, n int64) ([]byte, error) {
	b := make([]byte, n*xlogSector)
	first := min(n, x.logBlocks-at.sector())
	if err := x.v.read(b[:first*xlogSector], x.logStart+at.sector()*xlogSector); err != nil {
		return nil, err
	}
	return b, x.v.read(b[first*xlogSector:], x.logStart)
}

// What there is in place of a record.
type xlogFound int

const (
	xlogWhole xlogFound = iota
	xlogEnd             // it was not written yet, or not all of it
	xlogLost            // it is overwritten already
)

// at reads the record at a place, with its body.
func (x *xfs) recordAt(at xlogAt) (r xlogRecord, body []byte, found xlogFound, err error) {
	b, err := x.sectors(at, 1)
	if err != nil {
		return r, nil, xlogEnd, err
	}
	r, ok := x.record(b, at.sector())
	if !ok || r.lsn != at {
		cycle := be.Uint32(b)
		if cycle == xlogMagic {
			cycle = be.Uint32(b[4:])
		}
		if cycle > at.cycle() {
			return r, nil, xlogLost, nil
		}
		return r, nil, xlogEnd, nil
	}
	if b, err = x.sectors(at, r.sectors()); err != nil {
		return r, nil, xlogEnd, err
	}
	for i := int64(1); i < r.heads; i++ {
		r.words = append(r.words, b[i*xlogSector+4:i*xlogSector+260]...)
	}
	for i := int64(1); i < r.sectors(); i++ {
		sector := b[i*xlogSector:]
		switch cycle := be.Uint32(sector); {
		case cycle < x.forward(at, i).cycle():
			return r, nil, xlogEnd, nil
		case cycle > x.forward(at, i).cycle():
			return r, nil, xlogLost, nil
		}
		if body := i - r.heads; body >= 0 {
			copy(sector[:4], r.words[4*body:])
		}
	}
	return r, b[r.heads*xlogSector:][:r.length], xlogWhole, nil
}
