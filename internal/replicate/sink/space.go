package sink

import (
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
)

const (
	// behindDrag is what an acknowledgement is held back while maintenance is behind.
	behindDrag = 100 * time.Millisecond

	quotaSoft = 10 // a tenth of a quota slows down
)

// waits are how long a connection waits. Agents take a server that is silent for 15 s for dead.
type waits struct {
	drag time.Duration // at most, for an acknowledgement while room is short
	full time.Duration // for maintenance that is behind, before it is refused
	tell time.Duration // between two signs of life
	rest time.Duration // for a question about a base, before its files are let go of
}

var defaultWaits = waits{drag: 5 * time.Second, full: 20 * time.Second, tell: 5 * time.Second, rest: time.Minute}

// Room is the file system of the staging area, in bytes.
type Room struct {
	Dir           string
	Free, Total   int64
	Reserve, Slow int64 // nothing is taken in with less free than Reserve, and more slowly with less than Slow
}

// Room tells how much of it there is.
func (s *Server) Room() (Room, error) {
	space, err := s.fs.Free(s.c.Dir)
	if err != nil {
		return Room{}, vfs.Fault("sink: free space", err)
	}
	r := Room{Dir: s.c.Dir, Free: space.Free, Total: space.Total, Reserve: s.c.ReserveBytes, Slow: s.c.SlowBytes}
	if r.Reserve <= 0 {
		r.Reserve = min(max(r.Total/100, leastReserve), mostReserve)
	}
	if r.Slow <= 0 {
		r.Slow = r.Reserve + min(r.Total/20, 15*r.Reserve)
	}
	return r, nil
}

func (r Room) soft() int64 { return r.Slow - r.Reserve }

// The bounds of a reserve that nobody has set.
const (
	leastReserve = 64 << 20
	mostReserve  = 1 << 30
)

// room keeps the reserve free: whatever else lives on that file system must still be able to write.
func (s *Server) room(bytes int64) error {
	have, err := s.Room()
	if err != nil {
		return err
	}
	if have.Free-bytes < have.Reserve {
		return fault.New(fault.OutOfSpace, "sink: staging area "+s.c.Dir, "%d bytes are free, %d are kept in reserve", have.Free, have.Reserve).
			WithHint("free or add disk space; replication goes on by itself")
	}
	return nil
}

// roomFor is room on the disk and in the source server's quota.
func (s *Server) roomFor(r *replica, bytes int64) error {
	if err := s.room(bytes); err != nil {
		return err
	}
	return r.inQuota(bytes)
}

func (r *replica) inQuota(bytes int64) error {
	w, quota := r.inCare()
	if w == nil || quota == 0 || w.size()+bytes <= quota {
		return nil
	}
	return fault.New(fault.OutOfSpace, "sink: quota of source server "+r.id, "%d bytes are stored, %d may be", w.size(), quota).
		WithHint("raise it with 'understudy quota set', or shorten the window with 'understudy window set'; replication goes on by itself")
}

// drag is how long to hold an acknowledgement back: nothing while there is room, and the more the less there is, so that
// agents come slower before they have to be refused.
func (s *Server) drag(r *replica) time.Duration {
	d := time.Duration(0)
	if have, err := s.Room(); err == nil {
		d = dragOf(have.Free-have.Reserve, have.soft(), s.waits.drag)
	}
	w, quota := r.inCare()
	if w == nil {
		return d
	}
	if quota > 0 {
		d = max(d, dragOf(quota-w.size(), quota/quotaSoft, s.waits.drag))
	}
	if w.u.Pressure() != journal.Relaxed {
		d = max(d, behindDrag)
	}
	return d
}

// dragOf grows with the square of how much of the soft stretch above a limit is gone.
func dragOf(left, soft int64, longest time.Duration) time.Duration {
	if left >= soft || soft <= 0 {
		return 0
	}
	gone := 1 - float64(max(left, 0))/float64(soft)
	return time.Duration(gone * gone * float64(longest))
}

// short tells maintenance that what little can be reclaimed is worth it.
func (s *Server) short(w *ward) bool {
	r := s.known(w.id)
	return r != nil && s.drag(r) > s.waits.drag/50
}

// SetQuota limits what a source server's journal may store; 0 is no limit. It holds for as long as this process runs.
func (s *Server) SetQuota(serverID string, bytes int64) {
	r, err := s.replica(serverID)
	if err != nil {
		return // such a name has no journal
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quota = max(bytes, 0)
}

func (r *replica) inCare() (*ward, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ward, r.quota
}

func (s *Server) ward(serverID string) (*ward, int64) {
	r := s.known(serverID)
	if r == nil {
		return nil, 0
	}
	return r.inCare()
}

// relieve takes back the word that there is no room once there is some again, so that replication need not wait for
// the agent's next attempt to be called well. The margin keeps it from swinging.
func (s *Server) relieve(w *ward) {
	r := s.known(w.id)
	if r == nil {
		return
	}
	r.mu.Lock()
	full := fault.Is(r.seen.Err, fault.OutOfSpace)
	r.mu.Unlock()
	if !full || w.u.Pressure() == journal.Full {
		return
	}
	_, quota := r.inCare()
	if have, err := s.Room(); err != nil || s.room(have.soft()/8) != nil || r.inQuota(quota/quotaSoft/8) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if fault.Is(r.seen.Err, fault.OutOfSpace) {
		r.seen.Err = nil
	}
}

// await holds a connection while maintenance is so far behind that nothing can be taken in. The agent is told now and
// then that somebody is there. It is refused after a while, for then something is wrong.
func (se *session) await(acked uint64) error {
	w, _ := se.r.inCare()
	if w == nil || w.u.Pressure() != journal.Full {
		return nil
	}
	limit := time.NewTimer(se.s.waits.full)
	defer limit.Stop()
	tick := time.NewTicker(se.s.waits.tell / 20)
	defer tick.Stop()
	told := time.Now()
	for w.u.Pressure() == journal.Full {
		se.s.care.poke(w)
		select {
		case <-se.ended:
			return se.cause
		case <-limit.C:
			return se.behind(w)
		case now := <-tick.C:
			if now.Sub(told) >= se.s.waits.tell {
				told = now
				if err := se.tell(acked); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (se *session) behind(w *ward) error {
	w.mu.Lock()
	cause := w.err
	w.mu.Unlock()
	err := fault.New(fault.OutOfSpace, "sink: staging area "+se.s.c.Dir, "what has arrived is not being put away fast enough")
	if cause != nil {
		err = fault.New(fault.OutOfSpace, "sink: staging area "+se.s.c.Dir, "what has arrived cannot be put away: %w", cause)
	}
	return err.WithHint("'understudy usage " + se.r.id + "' shows what maintenance says; replication goes on by itself")
}

// slowDown holds the acknowledgement of a batch back.
func (se *session) slowDown() {
	d := se.s.drag(se.r)
	if d == 0 {
		return
	}
	if w, _ := se.r.inCare(); w != nil {
		se.s.care.poke(w)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-se.ended:
	}
}
