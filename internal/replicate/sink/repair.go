package sink

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Range is a run of sectors of one disk of a source server.
type Range = wire.Range

// maxAsked bounds the ranges of one source server that wait for an agent.
const maxAsked = 16 * wire.MaxRepair

// request is a Repair on its way. It is forgotten once the baseline that reads its ranges is complete.
type request struct {
	wire.Repair
	session uint64 // that asked last
	epoch   uint64 // that answered; 0: none yet
}

// Repair asks the agent of a source server to read ranges again, whose stored content is damaged: at once if one is
// connected, else as soon as one is, and on every connection until the agent has opened an epoch that owes them. Ranges
// that are being repaired are not asked for twice, so it may be called again whenever damage is seen.
//
// Requests are kept in memory only: who knows of the damage calls again when the journal was attached anew. An agent that
// speaks protocol 1 cannot be asked; the requests wait until it is upgraded.
func (s *Server) Repair(serverID string, ranges []Range) error {
	r := s.known(serverID)
	if r == nil || r.journal() == nil {
		return fault.New(fault.NotFound, "sink: repair", "no journal of source server %s is attached", serverID)
	}
	for _, g := range ranges {
		if g.Sectors == 0 || g.Sector+g.Sectors < g.Sector {
			return fault.New(fault.Invalid, "sink: repair", "%d sectors at %d of disk %d", g.Sectors, g.Sector, g.Disk)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := slices.DeleteFunc(slices.Clone(ranges), r.underway())
	if n := r.asked() + len(fresh); n > maxAsked {
		return fault.New(fault.Transient, "sink: repair", "%d ranges of source server %s wait to be repaired", n, serverID).
			WithHint("see that its agent is connected")
	}
	for part := range slices.Chunk(fresh, wire.MaxRepair) {
		r.requests = append(r.requests, &request{Repair: wire.Repair{ID: rand.Uint64(), Ranges: part}})
	}
	if r.current != nil && len(fresh) > 0 {
		r.current.poke()
	}
	return nil
}

// asked counts the ranges under way; r.mu is held.
func (r *replica) asked() (n int) {
	for _, q := range r.requests {
		n += len(q.Ranges)
	}
	return n
}

// underway tells of a range whether it lies in one that is under way; r.mu is held by the caller, not later.
func (r *replica) underway() func(Range) bool {
	var all []Range
	for _, q := range r.requests {
		all = append(all, q.Ranges...)
	}
	byPlace := func(a, b Range) int { return cmp.Or(cmp.Compare(a.Disk, b.Disk), cmp.Compare(a.Sector, b.Sector)) }
	slices.SortFunc(all, byPlace)
	reach := make([]uint64, len(all)) // the furthest end of a range of the same disk that begins here or before
	for i, g := range all {
		reach[i] = g.Sector + g.Sectors
		if i > 0 && all[i-1].Disk == g.Disk {
			reach[i] = max(reach[i], reach[i-1])
		}
	}
	return func(g Range) bool {
		next, _ := slices.BinarySearchFunc(all, g, func(o, g Range) int { return cmp.Or(byPlace(o, g), -1) })
		return next > 0 && all[next-1].Disk == g.Disk && g.Sector+g.Sectors <= reach[next-1]
	}
}

// poke makes the session look whether there is something to ask.
func (se *session) poke() {
	select {
	case se.poked <- struct{}{}:
	default:
	}
}

// askForRepairs sends what this connection has not asked for and no epoch has answered.
func (se *session) askForRepairs() error {
	se.r.mu.Lock()
	var due []*request
	for _, q := range se.r.requests {
		if q.epoch == 0 && q.session != se.number {
			q.session = se.number
			due = append(due, q)
		}
	}
	se.r.mu.Unlock()
	for _, q := range due {
		if se.version < wire.V2 {
			se.s.log.Warn("sink: the agent is too old to be asked for damaged content; upgrade it", "server", se.r.id, "ranges", len(q.Ranges))
			continue
		}
		m, err := wire.Message(wire.TypeRepair, 0, 0, 0, 0, q.Repair)
		if err != nil {
			return err
		}
		_ = se.raw.SetWriteDeadline(time.Now().Add(se.s.c.IdleTimeout))
		if err := se.conn.Send(m); err != nil {
			return err
		}
		se.s.log.Info("sink: asked the agent for damaged content", "server", se.r.id, "repair", q.ID, "ranges", len(q.Ranges))
	}
	return nil
}

// answered notes which requests an epoch that was appended reads again.
func (se *session) answered(f *wire.Frame) error {
	var open wire.EpochOpen
	if err := f.Unmarshal(&open); err != nil {
		return err
	}
	se.r.mu.Lock()
	defer se.r.mu.Unlock()
	if d := open.Doubt; d != nil {
		since := "never"
		if d.Since != 0 {
			since = time.Unix(0, d.Since).UTC().Format(time.RFC3339)
		}
		se.s.log.Error("sink: the journal differed from the disks: earlier points may be wrong there", "server", se.r.id, "epoch", f.Epoch,
			"bytes", d.Bytes, "absent", d.Absent, "proven", since, "ranges", d.Ranges)
	}
	for _, q := range se.r.requests {
		if q.epoch == 0 && slices.Contains(open.Repairs, q.ID) {
			q.epoch = f.Epoch
		}
	}
	return nil
}

// forgetRepairs drops the requests whose ranges were read: the baseline of their epoch is complete, or that of a later one.
// An epoch that ends before owes its ranges to the next. r.mu is held.
func (r *replica) forgetRepairs(epoch uint64, complete bool) {
	r.requests = slices.DeleteFunc(r.requests, func(q *request) bool {
		return q.epoch != 0 && epoch >= q.epoch && complete
	})
}
