package capture

// Op is what a record does to its disk.
type Op uint8

// The operations; their values are the kernel's REQ_OP_*, Flush is an empty write with a preflush.
const (
	Write       Op = 1
	Flush       Op = 2
	Discard     Op = 3
	SecureErase Op = 5
	WriteZeroes Op = 9
)

// Flags qualify a record.
type Flags uint16

// First and Last bound the records of one bio: all of one bio come from one CPU, and no other bio of that CPU comes
// between them, so a reader reassembles by CPU. A First while a list is open means that the open bio was dropped.
const (
	First    Flags = 1 << iota // first record of its bio
	Last                       // last record of its bio
	FUA                        // the bio asks for forced unit access
	Preflush                   // the bio asks for a flush before it
)

// Record is one record of the ring.
type Record struct {
	Disk   uint16
	Op     Op
	Flags  Flags
	CPU    uint32
	Sector uint64 // 512-byte units of the whole disk
	Bytes  uint64 // length of Data, or of the range of a Discard, SecureErase or WriteZeroes; 0 for Flush
	Time   uint64 // CLOCK_MONOTONIC nanoseconds, read before the ring was reserved
	Drops  uint64 // the drop counter, read after the ring was reserved
	Data   []byte // of a Write only; aliases the ring, valid until Release passes Start or Close

	Start, End uint64 // ring offsets of this record and of the one after it
}

// Next reads the record at a ring offset, passing over discarded ones. It says false when none is committed
// there yet: the producer has not passed it or is still writing it.
func (c *Capture) Next(offset uint64, r *Record) (bool, error) { return false, nil }

// Producer is the ring offset that the next record will get.
func (c *Capture) Producer() uint64 { return 0 }

// Consumer is the ring offset up to which the ring has been released.
func (c *Capture) Consumer() uint64 { return 0 }

// Release gives the ring's bytes before offset back to the kernel. Nothing else moves the consumer position.
func (c *Capture) Release(offset uint64) {}

// RingBytes is the ring's capacity.
func (c *Capture) RingBytes() int { return 0 }

// Drops counts the bios whose data could not be put in the ring since the capture was made.
func (c *Capture) Drops() uint64 { return 0 }
