package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/wire"
)

func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return []uint64{seed}
	}
	first := uint64(time.Now().UnixNano())
	t.Logf("UNDERSTUDY_SEED=%d to %d", first, first+uint64(n)-1)
	list := make([]uint64, n)
	for i := range list {
		list[i] = first + uint64(i)
	}
	return list
}

// sharded runs a model for many seeds on both cores of a small machine: UNDERSTUDY_MODEL times as many at night.
func sharded(t *testing.T, n int, run func(*testing.T, uint64)) {
	if k, err := strconv.Atoi(os.Getenv("UNDERSTUDY_MODEL")); err == nil {
		n *= k
	}
	if testing.Short() {
		n /= 20
	}
	list := seeds(t, n)
	half := (len(list) + 1) / 2
	for i, shard := range [][]uint64{list[:half], list[half:]} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			var seed uint64
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("UNDERSTUDY_SEED=%d", seed)
				}
			})
			for _, seed = range shard {
				run(t, seed)
			}
		})
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

var simDisks = []wire.Disk{{Index: 0, Device: "/dev/sda", Bytes: 48 << 9}, {Index: 3, Device: "/dev/sdb", Bytes: 16 << 9}}

// instant is the true state of the disks after one write; the oracle.
type instant struct {
	epoch uint64 // that was current
	pos   uint64
	time  int64
	table []wire.Disk // of its epoch
	disks map[uint16][]byte
}

// record is what the ring holds: a captured write, or the opening of an epoch.
type record struct {
	open    bool
	epoch   uint64
	first   uint64 // of open
	table   table  // of open
	pos     uint64
	time    int64
	extents []wire.Extent
	data    [][]byte
}

type block struct {
	disk   uint16
	sector uint64
}

// source is a source server with an agent, after the replication note, but in a few lines: it captures every write,
// sometimes drops some, reads baselines, and after a lost connection sends again what the journal does not have. Its disks come, go and
// grow, see sim_disks_test.go.
type source struct {
	rng     *rand.Rand
	disks   map[uint16][]byte
	table   table
	was     map[uint16]int // how large a disk was that is gone
	pos     uint64
	time    int64
	history []instant

	epoch   uint64
	capture string
	first   uint64
	done    bool
	ring    []record // not known to be durable
	sent    int      // of ring
	debt    map[block]bool
	join    map[block]bool // debt of what joins
	reading map[block]bool // sent as baseline, not known to be durable
	late    []inFlight     // on their way
}

// inFlight is a frame of baseline that was read and not sent yet.
type inFlight struct {
	frame  []byte
	blocks []block
}

func newSource(rng *rand.Rand) *source {
	s := &source{rng: rng, disks: map[uint16][]byte{}, was: map[uint16]int{}, pos: 1000, time: 1e18}
	for _, d := range simDisks {
		s.disks[d.Index] = s.noise(int(d.Bytes))
	}
	s.boot(State{Disks: simDisks})
	return s
}

// noise is compressible.
func (s *source) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.rng.IntN(4))
	}
	return b
}

// boot loads the capture anew: everything is debt, whatever was not durable is forgotten. What is in the table and what joins is as the
// journal says.
func (s *source) boot(st State) {
	s.pos = max(s.pos, st.Highest) + 1
	s.capture = fmt.Sprintf("%032x", s.rng.Uint64())
	s.ring, s.sent = nil, 0
	s.follow(st.Disks)
	debt := map[block]bool{}
	for disk := range s.disks {
		s.owe(debt, disk, 0)
	}
	s.open(s.pos, debt)
}

// open begins an epoch that owes debt beside what is owed already.
func (s *source) open(first uint64, debt map[block]bool) {
	s.epoch++
	s.recall() // no reading is on its way when an epoch opens
	maps.Copy(debt, s.join)
	maps.Copy(debt, s.reading) // debt is cleared only when its reading is durable
	s.first, s.done, s.reading = first, false, map[block]bool{}
	s.debt, s.join = map[block]bool{}, map[block]bool{}
	for k := range debt {
		s.own(k)
	}
	s.ring = append(s.ring, record{open: true, epoch: s.epoch, first: first, table: s.table, time: s.time})
	s.snapshot()
}

func (s *source) snapshot() {
	h := instant{epoch: s.epoch, pos: s.pos, time: s.time, table: s.table.Disks, disks: map[uint16][]byte{}}
	for _, d := range s.table.Disks {
		h.disks[d.Index] = slices.Clone(s.disks[d.Index][:d.Bytes])
	}
	s.history = append(s.history, h)
}

// write makes one bio. A dropped one begins a new epoch, be the baseline complete or not: a baseline read has the
// position where its epoch began, so in the old one it would lose to a write captured before the drop.
func (s *source) write() {
	if s.rng.IntN(25) == 0 {
		s.change()
		return
	}
	drop := s.rng.IntN(40) == 0
	before := s.pos
	s.pos += uint64(1 + s.rng.IntN(5))
	s.time += int64(s.rng.IntN(3))
	r := record{epoch: s.epoch, pos: s.pos, time: s.time}
	all := s.plugged()
	disk := all[s.rng.IntN(len(all))]
	dropped := map[block]bool{}
	for n := 1 + s.rng.IntN(3); n > 0; n-- {
		e, data := s.extent(disk)
		r.extents, r.data = append(r.extents, e), append(r.data, data)
		for i := range e.Bytes / wire.SectorSize {
			dropped[block{disk.Index, e.Sector + i}] = true
		}
	}
	r.extents[len(r.extents)-1].Flags |= wire.EndOfBio
	if drop {
		s.time++ // the gap is later than what is before it
		maps.Copy(dropped, s.debt)
		s.open(before, dropped)
		return
	}
	s.ring = append(s.ring, r)
	s.snapshot()
}

func (s *source) extent(d wire.Disk) (wire.Extent, []byte) {
	total := d.Bytes / wire.SectorSize
	e := wire.Extent{Disk: d.Index, Kind: wire.KindData, Position: s.pos, Sector: s.rng.Uint64N(total), Time: s.time}
	e.Bytes = min(s.rng.Uint64N(6), total-e.Sector) * wire.SectorSize
	target := s.disks[d.Index][e.Sector*wire.SectorSize:][:e.Bytes]
	if k := s.rng.IntN(8); k < 2 {
		e.Kind = wire.KindZero + wire.Kind(k)
		clear(target)
		return e, nil
	}
	fill := byte(s.rng.IntN(256))
	for i := range target {
		target[i] = fill + byte(i/wire.SectorSize)
	}
	return e, slices.Clone(target)
}

// frames is what the agent sends next: some of the ring, a part of the baseline, its end, or a mark.
func (s *source) frames() [][]byte {
	switch k := s.rng.IntN(10); {
	case k < 5 && s.sent < len(s.ring):
		return s.sendRing()
	case k < 7 && s.opened() && len(s.debt) > 0:
		return s.sendBaseline(s.debt)
	case k < 7 && s.opened() && s.done && len(s.join) > 0:
		return s.sendBaseline(s.join)
	case k < 8 && s.opened() && len(s.late) > 0:
		return s.arrive()
	case s.opened() && len(s.debt)+len(s.late) == 0 && !s.done:
		s.done = true
		return [][]byte{wire.Control(wire.TypeBaselineDone, s.epoch, s.pos, s.pos, s.time)}
	case s.sent == len(s.ring):
		return [][]byte{wire.Control(wire.TypeMark, s.epoch, s.pos, s.pos, s.time)}
	}
	return nil
}

// opened tells whether the journal was told of the epoch. Captured writes of it may still wait in the ring.
func (s *source) opened() bool {
	return !slices.ContainsFunc(s.ring[s.sent:], func(r record) bool { return r.open })
}

// sendRing sends whole bios, though one may come in several frames.
func (s *source) sendRing() [][]byte {
	r := s.ring[s.sent]
	if r.open {
		s.sent++
		m, err := wire.Message(wire.TypeEpochOpen, r.epoch, r.first, r.first, r.time, wire.EpochOpen{Capture: s.capture, Disks: r.table.Disks, Joining: r.table.Joining})
		if err != nil {
			panic(err)
		}
		return [][]byte{m}
	}
	var out [][]byte
	var b wire.Builder
	b.Reset(wire.TypeData, r.epoch)
	for n := 1 + s.rng.IntN(4); n > 0 && s.sent < len(s.ring) && !s.ring[s.sent].open; n-- {
		r := s.ring[s.sent]
		s.sent++
		for i, e := range r.extents {
			if s.rng.IntN(6) == 0 && !b.Empty() {
				out = append(out, b.Finish(nil))
				b.Reset(wire.TypeData, r.epoch)
			}
			b.Add(e, r.data[i])
		}
	}
	return append(out, b.Finish(nil))
}

// sendBaseline reads some of what is owed. Now and then that takes its time to arrive, and what is captured meanwhile comes before it.
func (s *source) sendBaseline(debt map[block]bool) [][]byte {
	var b wire.Builder
	var r inFlight
	b.Reset(wire.TypeBaseline, s.epoch)
	for _, disk := range s.plugged() {
		for i := uint64(0); i < disk.Bytes/wire.SectorSize && b.Extents() < 12; i++ {
			k := block{disk.Index, i}
			if !debt[k] || s.rng.IntN(3) == 0 {
				continue
			}
			delete(debt, k)
			r.blocks = append(r.blocks, k)
			data := s.disks[k.disk][i*wire.SectorSize:][:wire.SectorSize]
			b.Add(wire.Extent{Disk: k.disk, Kind: wire.KindData, Position: s.first, Sector: i, Bytes: wire.SectorSize, Time: s.time}, data)
		}
	}
	b.Span(s.first, s.first, s.time)
	r.frame = b.Finish(nil)
	s.late = append(s.late, r)
	if s.rng.IntN(4) == 0 {
		return nil
	}
	return s.arrive()
}

// arrive sends what was read, in any order.
func (s *source) arrive() [][]byte {
	i := s.rng.IntN(len(s.late))
	r := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	for _, k := range r.blocks {
		s.reading[k] = true
	}
	return [][]byte{r.frame}
}

// acked is told that everything sent is durable.
func (s *source) acked() {
	s.ring, s.sent = slices.Clone(s.ring[s.sent:]), 0
	clear(s.reading)
}

// reconnect goes on from what the journal says it has.
func (s *source) reconnect(st State) {
	s.ring = slices.DeleteFunc(s.ring, func(r record) bool {
		return (r.open && r.epoch <= st.Epoch) || (!r.open && r.pos <= st.Durable)
	})
	s.sent = 0
	s.recall()
	for k := range s.reading {
		s.own(k)
	}
	clear(s.reading)
	if s.done = st.Epoch == s.epoch && st.BaselineDone; s.done {
		clear(s.debt) // all of it was sent before, so it is there
	}
}
