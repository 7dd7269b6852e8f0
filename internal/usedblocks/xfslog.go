package usedblocks

import (
	"bytes"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

/*
The log of XFS. A record tells, as its tail, the oldest record whose changes are not all in place. So the changes of
everything up to record R are in place when a later record has a tail past R; when the last record ends a mount; or when
all records from the tail on change nothing but the superblock, which is what an idle file system writes.
*/
const (
	xlogMagic   = 0xfeedbabe
	xlogUnmount = 0x20
	xlogMaxIdle = 64 << 10 // bytes of records that are looked into
)

// xlogRecord is one header: place in the log, and what it tells.
type xlogRecord struct {
	lsn, tail uint64
	length    int64 // of the body
	ops       uint32
	head      [512]byte
}

// settled waits until what was logged up to now is in place.
func (x *xfs) settled(s *search) error {
	from, err := x.newest()
	if err != nil {
		return err
	}
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	for last := from; ; {
		if last.tail > from.lsn || x.unmounted(&last) || x.idle(&last) {
			return nil
		}
		if time.Now().After(s.deadline) {
			return errDoubt("its log was not written back in time")
		}
		select {
		case <-s.ctx.Done():
			return fault.New(fault.Transient, "usedblocks", "%w", s.ctx.Err())
		case <-tick.C:
		}
		if last, err = x.newest(); err != nil {
			return err
		}
	}
}

// newest finds the record with the greatest number.
func (x *xfs) newest() (xlogRecord, error) {
	var found xlogRecord
	buf := make([]byte, maxRead)
	for at := int64(0); at < x.logBlocks; at += int64(len(buf)) / 512 {
		b := buf[:min(int64(len(buf)), (x.logBlocks-at)*512)]
		if err := x.v.read(b, x.logStart+at*512); err != nil {
			return found, err
		}
		for i := at; len(b) > 0; i, b = i+1, b[512:] {
			if r, ok := x.record(b[:512], i); ok && r.lsn > found.lsn {
				found = r
			}
		}
	}
	if found.lsn == 0 {
		return found, errDoubt("its log has no record")
	}
	return found, nil
}

// record parses a header that lies at a block of the log.
func (x *xfs) record(b []byte, at int64) (xlogRecord, bool) {
	r := xlogRecord{lsn: be.Uint64(b[16:]), tail: be.Uint64(b[24:]), length: int64(be.Uint32(b[12:])), ops: be.Uint32(b[40:])}
	if be.Uint32(b) != xlogMagic || !bytes.Equal(b[304:320], x.super[32:48]) || int64(uint32(r.lsn)) != at ||
		uint32(r.lsn>>32) != be.Uint32(b[4:]) || r.length > 1<<20 {
		return r, false
	}
	r.head = [512]byte(b)
	return r, true
}

// body reads what follows a header of one sector, with the words that the cycle number stands in for.
func (x *xfs) body(r *xlogRecord) ([]byte, bool) {
	at := int64(uint32(r.lsn))
	size := (r.length + 511) &^ 511
	if size > 32<<10 || at+1+size/512 > x.logBlocks { // larger ones keep their words elsewhere
		return nil, false
	}
	if be.Uint32(r.head[8:]) > 1 { // version 2: the header may be several sectors
		if n := (int64(be.Uint32(r.head[320:])) + 32767) / 32768; n > 1 {
			at += n - 1
		}
	}
	b := make([]byte, size)
	if at+1+size/512 > x.logBlocks || x.v.read(b, x.logStart+(at+1)*512) != nil {
		return nil, false
	}
	for i := int64(0); i < size/512; i++ {
		if be.Uint32(b[i*512:]) != uint32(r.lsn>>32) {
			return nil, false // not written yet
		}
		copy(b[i*512:], r.head[44+4*i:48+4*i])
	}
	return b[:r.length], true
}

// unmounted tells whether a record ends a mount.
func (x *xfs) unmounted(r *xlogRecord) bool {
	b, ok := x.body(r)
	return ok && r.ops == 1 && len(b) >= 12 && b[9]&xlogUnmount != 0
}

// idle tells whether the records from the tail of the last one on change only the superblock.
func (x *xfs) idle(last *xlogRecord) bool {
	if last.tail>>32 != last.lsn>>32 || last.tail > last.lsn || (last.lsn-last.tail)*512 > xlogMaxIdle {
		return false
	}
	b := make([]byte, 512)
	for lsn := last.tail; ; {
		if x.v.read(b, x.logStart+int64(uint32(lsn))*512) != nil {
			return false
		}
		r, ok := x.record(b, int64(uint32(lsn)))
		body, whole := []byte(nil), false
		if ok {
			body, whole = x.body(&r)
		}
		if !ok || !whole || r.lsn != lsn || !onlySuper(body, r.ops) {
			return false
		}
		if lsn == last.lsn {
			return true
		}
		heads := max(1, (uint64(be.Uint32(r.head[320:]))+32767)/32768)
		if lsn += heads + uint64(r.length+511)/512; lsn > last.lsn {
			return false
		}
	}
}

// onlySuper tells whether all that a record logs is the superblock's buffer.
func onlySuper(b []byte, ops uint32) bool {
	skip := 0 // regions of the item at hand
	for range ops {
		if len(b) < 12 {
			return false
		}
		n, flags := int(be.Uint32(b[4:])), b[9]
		b = b[12:]
		if n > len(b) || flags&^0x3 != 0 { // start and commit; nothing that goes on in another record
			return false
		}
		region := b[:n]
		b = b[n:]
		switch {
		case n == 0:
		case skip > 0:
			skip--
		case n >= 4 && le.Uint32(region) == 0x5452414e: // the transaction's header
		case n >= 24 && le.Uint16(region) == 0x123c && le.Uint64(region[8:]) == 0:
			skip = int(le.Uint16(region[2:])) - 1
		default:
			return false
		}
	}
	return true
}
