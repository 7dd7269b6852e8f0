package source

import (
	"encoding/binary"

	"github.com/understudy-dr/understudy/internal/wire"
)

/*
What outlives the agent is kept in the capture's pinned meta cells, and dies with the capture:

	0        layout version (2, 3); 0 in a new capture
	1        which slot is current
	2..24    slot 0
	25..47   slot 1
	48       in layout 3: ring offset below which all was acknowledged, although the ring is emptied further
	49       number of the epoch whose successor is being opened; 0: none is

A slot describes one epoch. Opening an epoch fills the other slot and then changes cell 1, so a killed agent leaves
the old epoch or the new one, never a mixture. Cells of the current slot that change within an epoch mean something
on their own. SIGKILL cannot reorder stores to shared memory, and a power failure takes the capture along.
*/
const (
	cellLayout = 0
	cellSlot   = 1
	cellSlots  = 2

	cellKept = cellSlots + 2*slotCells
	cellLeft = cellKept + 1

	layoutV3 = 3 // layout 2, while an agent's memory holds what the ring has no more
	layoutV2 = 2 // counts acknowledged frames; 1 did not
)

// The cells of a slot.
const (
	fieldEpoch     = iota
	fieldFirst     // its first position
	fieldProducer  // ring offset that first was made from
	fieldGap       // position up to which the epoch before it is whole; 0 when it must not be continued
	fieldDrops     // drop counter at opening
	fieldBase      // position = base + ring offset / 8
	fieldReason    // index into reasons
	fieldOpened    // unix ns: every write that completed before is at or below first
	fieldFresh     // 1: the journal was empty when the epoch was opened
	fieldAcked     // highest position of a bio that was acknowledged
	fieldTime      // time of the last frame acknowledged
	fieldFrames    // frames that the journal acknowledged, over all connections
	fieldOpenAcked // 1: EpochOpen was acknowledged
	fieldDone      // 1: BaselineDone was acknowledged
	fieldSettled   // 1: the writes in flight at opening have completed
	fieldZeros     // 1: zero blocks must be sent, something else may have been sent in their place
	fieldJournalLen
	fieldJournal
	journalCells = 6
	slotCells    = fieldJournal + journalCells
)

const maxJournalID = journalCells * 8

// The reasons to open an epoch, as the wire names them. Indexes are stored.
const (
	reasonInitial = iota
	reasonGap
	reasonTrackingLost
	reasonJournalChanged
	reasonRolledBack
	reasonRepair
	reasonVerify
	reasonDisks
)

var reasons = [...]string{"initial", "gap", "tracking-lost", "journal-changed", "rolled-back", "repair", "verify", "disks"}

// epoch is what is remembered of the current epoch. Number 0 is none.
type epoch struct {
	number, first, producer, gap, drops, base uint64
	reason                                    uint64
	opened                                    int64
	fresh                                     bool
	journal                                   string
	repairs                                   []uint64 // that it reads again; not kept in the cells, the server asks again
	doubt                                     *wire.Doubt

	acked, frames                   uint64
	time                            int64
	openAcked, done, settled, zeros bool
}

// position of a record or bio that ends at a ring offset.
func (e *epoch) position(ringEnd uint64) uint64 { return e.base + ringEnd/8 }

// offset is the inverse of position.
func (e *epoch) offset(position uint64) uint64 { return (position - e.base) * 8 }

func (e *epoch) why() string { return reasons[min(e.reason, uint64(len(reasons)-1))] }

// memory reads and writes the cells.
type memory struct {
	cells interface {
		Meta(cell int) uint64
		SetMeta(cell int, v uint64)
	}
}

func (m memory) slot() int { return int(m.cells.Meta(cellSlot) & 1) }

func cell(slot, field int) int { return cellSlots + slot*slotCells + field }

// known tells whether the slots are those of this layout.
func (m memory) known() bool {
	v := m.cells.Meta(cellLayout)
	return v == layoutV2 || v == layoutV3
}

// load returns the zero epoch for a new capture, and for a layout it does not know: then everything is debt.
func (m memory) load() epoch {
	if !m.known() {
		return epoch{}
	}
	slot := m.slot()
	get := func(f int) uint64 { return m.cells.Meta(cell(slot, f)) }
	e := epoch{
		number: get(fieldEpoch), first: get(fieldFirst), producer: get(fieldProducer), gap: get(fieldGap),
		drops: get(fieldDrops), base: get(fieldBase), reason: get(fieldReason), opened: int64(get(fieldOpened)),
		fresh: get(fieldFresh) == 1, acked: get(fieldAcked), frames: get(fieldFrames), time: int64(get(fieldTime)),
		openAcked: get(fieldOpenAcked) == 1, done: get(fieldDone) == 1, settled: get(fieldSettled) == 1,
		zeros: get(fieldZeros) == 1,
	}
	var id [maxJournalID]byte
	for i := range journalCells {
		binary.LittleEndian.PutUint64(id[8*i:], get(fieldJournal+i))
	}
	e.journal = string(id[:min(get(fieldJournalLen), maxJournalID)])
	return e
}

// commit makes e the current epoch, all of it at once.
func (m memory) commit(e *epoch) {
	slot, known := 0, m.known()
	if known {
		slot = 1 - m.slot()
	}
	set := func(f int, v uint64) { m.cells.SetMeta(cell(slot, f), v) }
	set(fieldEpoch, e.number)
	set(fieldFirst, e.first)
	set(fieldProducer, e.producer)
	set(fieldGap, e.gap)
	set(fieldDrops, e.drops)
	set(fieldBase, e.base)
	set(fieldReason, e.reason)
	set(fieldOpened, uint64(e.opened))
	set(fieldFresh, flag(e.fresh))
	set(fieldAcked, e.acked)
	set(fieldTime, uint64(e.time))
	set(fieldFrames, e.frames)
	set(fieldOpenAcked, flag(e.openAcked))
	set(fieldDone, flag(e.done))
	set(fieldSettled, flag(e.settled))
	set(fieldZeros, flag(e.zeros))
	var id [maxJournalID]byte
	set(fieldJournalLen, uint64(copy(id[:], e.journal)))
	for i := range journalCells {
		set(fieldJournal+i, binary.LittleEndian.Uint64(id[8*i:]))
	}
	m.cells.SetMeta(cellSlot, uint64(slot))
	if !known {
		m.cells.SetMeta(cellLayout, layoutV2)
	}
}

// mark says that the ring is emptied further than from, up to where all was acknowledged.
func (m memory) mark(from uint64) {
	m.cells.SetMeta(cellKept, from)
	if m.cells.Meta(cellLayout) != layoutV3 {
		m.cells.SetMeta(cellLayout, layoutV3)
	}
}

// unmark says that it is not.
func (m memory) unmark() {
	if m.cells.Meta(cellLayout) == layoutV3 {
		m.cells.SetMeta(cellLayout, layoutV2)
	}
}

// marked is what mark was last told.
func (m memory) marked() (from uint64, ok bool) {
	return m.cells.Meta(cellKept), m.cells.Meta(cellLayout) == layoutV3
}

// leave says that the debt is about to have what the epoch at hand cannot pay; 0 that its successor is there.
func (m memory) leave(epoch uint64) { m.cells.SetMeta(cellLeft, epoch) }

// left tells whether an agent was killed while it opened the successor of an epoch.
func (m memory) left(epoch uint64) bool { return epoch != 0 && m.cells.Meta(cellLeft) == epoch }

// put changes one cell of the current epoch.
func (m memory) put(field int, v uint64) { m.cells.SetMeta(cell(m.slot(), field), v) }

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
