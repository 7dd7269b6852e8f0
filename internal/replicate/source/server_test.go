package source

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// server speaks the real protocol over pipes and keeps its journal in memory. It refuses what a journal would refuse.
type server struct {
	mu      sync.Mutex
	rng     *rand.Rand
	journal *journal
	session uint64
	conn    net.Conn
	version uint32
	ask     chan struct{} // a repair may be due
	group   sync.WaitGroup

	stored int // bytes of frames that came for the journal
	asks   int // bytes of questions and answers

	refuse   fault.Kind    // of new connections; Unknown: none
	down     bool          // nobody answers
	slow     bool          // every frame takes long
	syncs    time.Duration // so long at least
	ignorant bool          // does not know that the latest state is asked for
	faults   bool          // links break by themselves
	cutMark  bool          // the link breaks when the next mark comes that follows a BaselineDone
	problems []error       // broken rules
}

var errCut = errors.New("cut")

func newServer(rng *rand.Rand) *server {
	return &server{rng: rng, journal: newJournal(rng), version: wire.V3, ask: make(chan struct{}, 1)}
}

func (s *server) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, fault.New(fault.Transient, "test: dial", "nobody answers")
	}
	if s.conn != nil {
		s.conn.Close() // a later session fences the earlier
	}
	near, far := net.Pipe()
	s.conn = far
	s.session++
	s.group.Go(func() { s.serve(wire.NewConn(far)) })
	return near, nil
}

func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

// crash loses what was not synced. Some of it may be on disk all the same.
func (s *server) crash() {
	s.mu.Lock()
	down := s.down
	s.down = true
	s.mu.Unlock()
	s.cut()
	s.group.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	j := s.journal
	keep := j.durable + s.rng.IntN(len(j.frames)-j.durable+1)
	j.frames, j.durable = j.frames[:keep], keep
}

func (s *server) chance(n int) bool {
	return s.faults && s.rng.IntN(n) == 0
}

func (s *server) serve(conn *wire.Conn) {
	defer conn.Close()
	f, _, err := conn.Receive(nil)
	if err != nil || f.Type != wire.TypeHello {
		return
	}
	var hello wire.Hello
	if f.Unmarshal(&hello) != nil {
		return
	}
	s.mu.Lock()
	refuse := s.refuse
	if s.conn != conn.Conn {
		refuse = fault.Transient
	}
	j := s.journal
	start := len(j.frames)
	j.durable = start // what a Welcome tells is synced before
	w := j.welcome()
	w.Session, w.Version = s.session, s.version
	if w.Version < wire.V4 {
		w.Disks, w.Joining = nil, nil
	}
	s.mu.Unlock()
	if refuse != fault.Unknown {
		conn.SendRefusal(fault.New(refuse, "test", "refused"))
		return
	}
	m, err := wire.Message(wire.TypeWelcome, 0, 0, 0, 0, w)
	if err != nil || conn.Send(m) != nil {
		return
	}
	received := make(chan struct{}, 1)
	done := make(chan struct{})
	var acker sync.WaitGroup
	acker.Go(func() { s.acknowledge(conn, j, start, received, done) })
	acker.Go(func() { s.askForRepairs(conn, j, done) })
	c := &comparing{s: s, conn: conn, j: j, done: done, sizes: hello.Disks}
	for s.receive(conn, c) == nil {
		select {
		case received <- struct{}{}:
		default:
		}
	}
	conn.Close()
	close(done)
	acker.Wait()
	c.group.Wait()
}

func (s *server) receive(conn *wire.Conn, c *comparing) error {
	f, _, err := conn.Receive(nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	slow := s.slow
	broken := s.chance(60)
	s.mu.Unlock()
	if broken {
		return errCut
	}
	if slow {
		pause(200 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != conn.Conn {
		return errCut // fenced
	}
	if s.cutMark && f.Type == wire.TypeMark && s.journal.welcome().BaselineDone {
		s.cutMark = false
		return errCut
	}
	if f.Type == wire.TypeBase || f.Type == wire.TypeAsk {
		err := c.asked(&f)
		if err != nil {
			s.problems = append(s.problems, err)
		}
		return err
	}
	s.stored += len(f.Bytes)
	if err := s.journal.add(&f, s.version); err != nil {
		s.problems = append(s.problems, err)
		return err
	}
	return nil
}

// acknowledge syncs what has come, every now and then.
func (s *server) acknowledge(conn *wire.Conn, j *journal, start int, received, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-received:
		}
		s.mu.Lock()
		wait := s.syncs + time.Duration(s.rng.IntN(15))*time.Millisecond
		s.mu.Unlock()
		pause(wait)
		s.mu.Lock()
		if s.conn != conn.Conn {
			s.mu.Unlock()
			return
		}
		j.durable = len(j.frames)
		n, durable := uint64(len(j.frames)-start), j.welcome().Durable
		lost := s.chance(80)
		s.mu.Unlock()
		if lost || conn.Send(wire.Control(wire.TypeAck, 0, n, durable, 0)) != nil {
			conn.Close()
			return
		}
	}
}

// repair asks for ranges; what came before the epoch that answers counts as damaged there.
func (s *server) repair(ranges ...wire.Range) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := wire.Repair{ID: s.rng.Uint64(), Ranges: ranges}
	s.journal.repairs = append(s.journal.repairs, r)
	s.poke()
	return r.ID
}

func (s *server) poke() {
	select {
	case s.ask <- struct{}{}:
	default:
	}
}

// askForRepairs says on one connection what was not answered on another.
func (s *server) askForRepairs(conn *wire.Conn, j *journal, done <-chan struct{}) {
	said := map[uint64]bool{}
	for s.version >= wire.V2 {
		s.mu.Lock()
		if s.conn != conn.Conn {
			s.mu.Unlock()
			s.poke() // it may have been meant for the later connection
			return
		}
		var due []wire.Repair
		for _, r := range j.repairs {
			if _, answered := j.answered(r.ID); !said[r.ID] && !answered {
				due = append(due, r)
			}
		}
		s.mu.Unlock()
		for _, r := range due {
			said[r.ID] = true
			m, err := wire.Message(wire.TypeRepair, 0, 0, 0, 0, r)
			if err != nil || conn.Send(m) != nil {
				conn.Close()
				return
			}
		}
		select {
		case <-done:
			return
		case <-s.ask:
		}
	}
}

func pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}
