package capture

import "encoding/binary"

// Op is what a record does to its disk.
type Op uint8

// The operations; their values are the kernel's REQ_OP_*. Flush is an empty write that asks for a flush.
const (
	Write       Op = 1
	Flush       Op = 2
	Discard     Op = 3
	SecureErase Op = 5
	WriteZeroes Op = 9
)

// Flags qualify a record.
type Flags uint8

// First and Last bound the records of one bio: all of one bio come from one CPU, and no other bio of that CPU comes
// between them, so a reader reassembles by CPU. A First while a list is open means that the open bio was dropped.
const (
	First    Flags = 1 << iota // first record of its bio
	Last                       // last record of its bio
	FUA                        // the bio asks for forced unit access; on its first record
	Preflush                   // the bio asks for a flush before it; on its first record
)

// Record is one record of the ring.
type Record struct {
	Disk   uint16
	Op     Op
	Flags  Flags
	CPU    uint32
	Sector uint64 // 512-byte units of the whole disk
	Bytes  uint64 // length of Data, or of the range of a Discard, SecureErase or WriteZeroes; 0 for Flush
	Time   uint64 // CLOCK_MONOTONIC nanoseconds, read before the ring was reserved; one value for all of a bio
	Drops  uint64 // the drop counter, read after the ring was reserved
	Data   []byte // of a Write only; aliases the ring, valid until Release passes Start or Close

	Start, End uint64 // ring offsets of this record and of the one after it
}

// A record of the ring, after the ring's own 8-byte header (little endian; struct record of bpf/layout.h):
//
//	0        8        16       24       32     36     38   39     40
//	+--------+--------+--------+--------+------+------+----+------+----------------
//	| sector | bytes  | time   | drops  | cpu  | disk | op | flag | data (a write's)
//	+--------+--------+--------+--------+------+------+----+------+----------------
//
// The ring may have reserved more for data than bytes says.
const recordHead = 40

// decode reads a record from the ring's bytes; false if they cannot be one.
func (r *Record) decode(b []byte) bool {
	if len(b) < recordHead {
		return false
	}
	r.Sector = binary.LittleEndian.Uint64(b[0:])
	r.Bytes = binary.LittleEndian.Uint64(b[8:])
	r.Time = binary.LittleEndian.Uint64(b[16:])
	r.Drops = binary.LittleEndian.Uint64(b[24:])
	r.CPU = binary.LittleEndian.Uint32(b[32:])
	r.Disk = binary.LittleEndian.Uint16(b[36:])
	r.Op = Op(b[38])
	r.Flags = Flags(b[39])
	r.Data = nil
	switch r.Op {
	case Write:
		data := b[recordHead:]
		if r.Bytes > uint64(len(data)) || r.Bytes == 0 {
			return false
		}
		r.Data = data[:r.Bytes:r.Bytes]
	case Flush, Discard, SecureErase, WriteZeroes:
	default:
		return false
	}
	return true
}
