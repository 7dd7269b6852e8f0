package sink

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// StagingDisk is a disk of a source server that staging is made for.
type StagingDisk struct {
	Index  uint16
	Device string
	Bytes  uint64
}

// ReplicaStatus is what the replication server sees of one source server. Zero times mean never.
type ReplicaStatus struct {
	Attached         bool // the journal is open
	Connected        bool // an agent was welcomed and is still there
	ConnectedAt      time.Time
	FirstByteAt      time.Time // the first durable frame since the journal was attached
	LastFrameAt      time.Time // the last durable frame
	JournalID        string
	Durable          uint64
	Watermark        time.Time // everything submitted up to it is durable
	Epoch            uint64
	BaselineComplete bool   // of the newest epoch
	Recoverable      bool   // the newest epoch has a recoverable position
	BytesReceived    uint64 // made durable since this process began
	Err              error  // why data could not be taken in; nil once some was
	// Doubt is what a verify pass of the agent found last and points may suffer from; its Epoch is 0 when there is nothing.
	Doubt journal.Doubt
}

// replica is one source server here. op serializes what opens and closes its journal; mu guards the fields and is
// held briefly.
type replica struct {
	id string
	op sync.Mutex

	mu       sync.Mutex
	admitted bool
	j        *journal.Journal
	current  *session
	sessions uint64
	requests []*request    // damaged content that an agent is asked for
	seen     ReplicaStatus // the fields that the journal does not know
	ward     *ward         // j in the caretaker's hands
	quota    int64         // of what j may store; 0 is no limit
}

// Admit lets a source server connect. It is idempotent.
func (s *Server) Admit(_ context.Context, serverID string) error {
	r, err := s.replica(serverID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admitted = true
	return nil
}

// Revoke ends its connection and refuses it from then on. It is idempotent.
func (s *Server) Revoke(_ context.Context, serverID string) error {
	r := s.known(serverID)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.admitted = false
	r.mu.Unlock()
	r.disconnect(errNotAdmitted(serverID))
	return nil
}

func errNotAdmitted(serverID string) error {
	return fault.New(fault.Denied, "sink: hello", "source server %s is not admitted", serverID).
		WithHint("start its replication first")
}

// disconnect ends the current connection, if any, and waits until nothing of it touches the journal.
func (r *replica) disconnect(cause error) {
	r.mu.Lock()
	se := r.current
	r.mu.Unlock()
	if se != nil {
		se.end(cause)
		<-se.done
	}
}

// minRoom is what staging wants free beyond the reserve, if its disks are not smaller. Nobody can know how much of a
// disk is in use before reading it.
const minRoom = 1 << 30

// CreateStaging makes its journal, if there is room. An existing one is reused, unless a disk has shrunk: that is a Conflict.
func (s *Server) CreateStaging(ctx context.Context, serverID string, disks []StagingDisk) (reused bool, err error) {
	r, err := s.replica(serverID)
	if err != nil {
		return false, err
	}
	list := make([]wire.Disk, len(disks))
	total := uint64(0)
	for i, d := range disks {
		list[i] = wire.Disk(d)
		total += d.Bytes
	}
	r.op.Lock()
	defer r.op.Unlock()
	reused, err = s.reuse(ctx, r, list)
	if reused || err != nil {
		return reused, err
	}
	if err := s.fs.MkdirAll(s.c.Dir); err != nil {
		return false, vfs.Fault("sink: create staging", err)
	}
	if err := s.room(int64(min(total, minRoom))); err != nil {
		return false, err
	}
	j, err := journal.Create(ctx, s.fs, s.dir(serverID), list, s.journalOptions(serverID))
	if err != nil {
		return false, err
	}
	return false, j.Close()
}

// reuse looks for a journal that can go on with these disks.
func (s *Server) reuse(ctx context.Context, r *replica, disks []wire.Disk) (bool, error) {
	if j := r.journal(); j != nil {
		return true, match(j, wire.V4, disks)
	}
	j, err := s.open(ctx, r.id)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = errors.Join(match(j, wire.V4, disks), j.Close())
	return err == nil, err
}

func (s *Server) open(ctx context.Context, serverID string) (*journal.Journal, error) {
	o := s.journalOptions(serverID)
	j, err := journal.Open(ctx, s.fs, s.dir(serverID), o)
	if o.Remote && fault.Is(err, fault.NotFound) { // this server lost its disk, or the journal was another's
		if lost := journal.Restore(ctx, s.fs, s.dir(serverID), o); lost != nil {
			return nil, lost
		}
		s.log.Warn("sink: journal restored from object storage; what had not reached it will be sent again", "server", serverID)
		j, err = journal.Open(ctx, s.fs, s.dir(serverID), o)
	}
	if fault.Is(err, fault.Corruption) && fault.HintOf(err) == "" {
		return nil, fault.New(fault.Corruption, "sink: staging", "%w", err).
			WithHint("stop the server and see 'understudy journal verify " + s.dir(serverID) + "'; nothing was changed")
	}
	return j, err
}

// match tells whether a journal can go on with these disks, and what to do when it cannot. Agents before V4 cannot say that
// disks have changed.
func match(j *journal.Journal, version uint32, disks []wire.Disk) error {
	if version >= wire.V4 {
		return fault.Wrap("sink: staging", j.TakesDisks(disks))
	}
	if err := j.MatchDisks(disks); err != nil {
		return fault.New(fault.KindOf(err), "sink: staging", "%w", err).
			WithHint("run the agent with the disks it had before, or stop replication and start it again, which deletes what was replicated and copies all disks anew")
	}
	return nil
}

// journalOptions of one server. In object storage each has a prefix of its own.
func (s *Server) journalOptions(serverID string) journal.Options {
	o := s.c.Journal
	if s.c.Blobs != nil {
		o.Blobs, o.Remote = blob.Sub(s.c.Blobs, serverID), true
	}
	return o
}

// AttachStaging opens its journal, so that the agent is welcomed.
func (s *Server) AttachStaging(ctx context.Context, serverID string) (reused bool, err error) {
	r, err := s.replica(serverID)
	if err != nil {
		return false, err
	}
	r.op.Lock()
	defer r.op.Unlock()
	if r.journal() != nil {
		return true, nil
	}
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return false, errStopping
	}
	j, err := s.open(ctx, serverID)
	if err != nil {
		return false, err
	}
	s.refresh(ctx, serverID, j)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.j, r.ward, r.seen = j, newWard(serverID, s.upkeepOf(j)), ReplicaStatus{BytesReceived: r.seen.BytesReceived}
	return false, nil
}

// DetachStaging ends its connection and closes its journal. It is idempotent.
func (s *Server) DetachStaging(_ context.Context, serverID string) error {
	r := s.known(serverID)
	if r == nil {
		return nil
	}
	return r.detach(errDetached(serverID))
}

func errDetached(serverID string) error {
	return fault.New(fault.Transient, "sink: hello", "the journal of source server %s is not attached", serverID)
}

func (r *replica) detach(cause error) error {
	r.op.Lock()
	defer r.op.Unlock()
	r.mu.Lock()
	j := r.j
	r.j, r.ward, r.requests = nil, nil, nil // nobody is welcomed from here on
	r.mu.Unlock()
	if j == nil {
		return nil
	}
	r.disconnect(cause)
	return j.Close()
}

// DestroyStaging detaches and deletes its journal. It is idempotent.
func (s *Server) DestroyStaging(ctx context.Context, serverID string) error {
	r, err := s.replica(serverID)
	if err != nil {
		return err
	}
	if err := r.detach(errDetached(serverID)); err != nil {
		s.log.Warn("sink: journal closed with an error before it is deleted", "server", serverID, "err", err)
	}
	r.op.Lock()
	defer r.op.Unlock()
	if o := s.journalOptions(serverID); o.Remote {
		if err := journal.Purge(ctx, o.Blobs); err != nil {
			return err
		}
	}
	return journal.Remove(s.fs, s.dir(serverID))
}

func (r *replica) journal() *journal.Journal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.j
}

// Journal is the attached journal of a source server.
func (s *Server) Journal(serverID string) (*journal.Journal, error) {
	if r := s.known(serverID); r != nil {
		if j := r.journal(); j != nil {
			return j, nil
		}
	}
	return nil, fault.New(fault.NotFound, "sink", "no journal of source server %s is attached", serverID)
}

// Status of one source server; the zero value when it is unknown here.
func (s *Server) Status(serverID string) ReplicaStatus {
	r := s.known(serverID)
	if r == nil {
		return ReplicaStatus{}
	}
	r.mu.Lock()
	st, j := r.seen, r.j
	st.Connected = r.current != nil && r.current.welcomed
	r.mu.Unlock()
	if j == nil {
		return st
	}
	js := j.State()
	st.Attached, st.JournalID = true, js.ID
	st.Durable, st.Watermark, st.Epoch, st.BaselineComplete = js.Durable, js.Watermark, js.Epoch, js.BaselineDone
	if p, err := j.Latest(); err == nil {
		st.Recoverable = p.Epoch == js.Epoch
	}
	if all := j.Doubts(); len(all) > 0 {
		st.Doubt = all[len(all)-1]
	}
	return st
}

// RecoverablePosition is the newest recoverable state at or before an instant.
func (s *Server) RecoverablePosition(serverID string, at time.Time) (pos uint64, t time.Time, err error) {
	j, err := s.Journal(serverID)
	if err != nil {
		return 0, time.Time{}, err
	}
	p, err := j.Before(at)
	return p.Position, p.Time, err
}
