package source

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// serve connects and replicates over one connection until it ends. progress tells whether the server acknowledged anything.
func (s *Source) serve(ctx context.Context) (progress bool, err error) {
	conn, w, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	x := newSession(s, conn, &w)
	if err := x.begin(&w); err != nil {
		return false, err
	}
	err = x.run(ctx)
	return x.ackedFrames > 0, err
}

// connect dials and says hello, which may take long, and tends what waits meanwhile.
func (s *Source) connect(ctx context.Context) (*wire.Conn, wire.Welcome, error) {
	var w wire.Welcome
	hello, err := s.hello()
	if err != nil {
		return nil, w, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var conn *wire.Conn
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, failed = s.dial(ctx); failed == nil {
			w, failed = s.greet(ctx, conn, hello)
		}
	}()
	served := false
	defer func() {
		cancel()
		<-done
		if conn != nil && !served {
			conn.Close()
		}
	}()
	if err := s.tend(done); err != nil {
		return nil, w, err
	}
	served = failed == nil
	return conn, w, failed
}

func (s *Source) dial(ctx context.Context) (*wire.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DeadAfter)
	defer cancel()
	raw, err := s.cfg.Dial(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	return wire.NewConn(raw), nil
}

// hello is the first frame of a connection.
func (s *Source) hello() ([]byte, error) {
	return wire.Message(wire.TypeHello, 0, 0, 0, 0, wire.Hello{
		Versions: wire.Versions, Agent: s.cfg.Agent, Capture: s.id, Epoch: s.ep.number, Acked: s.ep.acked,
		Journal: s.ep.journal, Disks: s.wireDisks(),
	})
}

// greet says hello on a new connection and hears the answer.
func (s *Source) greet(ctx context.Context, conn *wire.Conn, hello []byte) (w wire.Welcome, err error) {
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	defer unhook()
	if err := conn.SetDeadline(time.Now().Add(s.cfg.DeadAfter)); err != nil {
		return w, fault.New(fault.Transient, "source: hello", "%w", err)
	}
	if err := conn.Send(hello); err != nil {
		return w, err
	}
	f, _, err := conn.Receive(nil)
	if err != nil {
		return w, ended(err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return w, fault.New(fault.Transient, "source: hello", "%w", err)
	}
	return welcome(&f)
}

func welcome(f *wire.Frame) (w wire.Welcome, err error) {
	switch f.Type {
	case wire.TypeWelcome:
		if err := f.Unmarshal(&w); err != nil {
			return w, err
		}
	case wire.TypeRefuse:
		return w, refused(f)
	default:
		return w, fault.New(fault.Corruption, "source: hello", "answered by a frame of type %d", f.Type)
	}
	if !slices.Contains(wire.Versions, w.Version) {
		return w, final{fault.New(fault.Unsupported, "source: hello", "the server chose protocol version %d", w.Version).
			WithHint("upgrade the agent")}
	}
	if w.Journal == "" || len(w.Journal) > maxJournalID {
		return w, final{fault.New(fault.Unsupported, "source: hello", "journal id of %d bytes", len(w.Journal))}
	}
	return w, nil
}

func refused(f *wire.Frame) error {
	var r wire.Refusal
	if err := f.Unmarshal(&r); err != nil {
		return err
	}
	return refusal(r.Err())
}

// refusal makes final what trying again cannot change.
func refusal(err error) error {
	switch fault.KindOf(err) {
	case fault.Fenced, fault.Denied, fault.Unsupported:
		return final{err}
	}
	return err
}

// ended says in our words that the peer has hung up.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Transient, "source", "the server closed the connection")
	}
	return err
}

// begin takes up the work where the Welcome says.
func (x *session) begin(w *wire.Welcome) error {
	s := x.s
	changed, gone := s.settleDisks(w)
	v := reconcile(&s.ep, s.id, s.ep.position(s.cap.Producer()), w)
	if !v.resume {
		if v.reason == reasonRolledBack {
			s.log.Error("the server lost acknowledged data: everything is read again",
				"acknowledged", s.ep.acked, "durable", w.Durable, "journal", w.Journal, "epoch", w.Epoch)
		}
		if err := x.openAll(v.reason, w); err != nil {
			return err
		}
	}
	x.announced = v.announced
	x.running = s.ep.time
	x.position = w.Durable
	if v.resume && w.Epoch+1 == s.ep.number && s.ep.gap != 0 && !gone { // else it lacks writes of a disk that it shows
		x.before, x.beforeFirst = w.Epoch, w.First // what is left of it comes first
	}
	if v.announced {
		x.running = max(x.running, s.ep.opened)
		x.position = max(x.position, s.ep.first)
		x.remember(fieldOpenAcked)
		if w.BaselineDone {
			x.remember(fieldDone)
			if x.cap.Drops() == s.ep.drops && !s.cap.lost.any() {
				// What the ring has let go of was acknowledged. Without this a flush that came last would be forgotten,
				// and BaselineDone may have named its position: no mark would reach that.
				x.position = max(x.position, s.ep.position(x.read))
			}
			x.doubt()
		}
	}
	if v.resume && v.announced && changed {
		x.changing = true
		x.endEpoch(x.read)
		s.log.Info("the epoch ends because the disks have changed", "epoch", s.ep.number, "last", x.gap)
	}
	x.leave()
	x.mourn() // last: nothing else ends the epoch as early
	s.log.Info("connected", "journal", w.Journal, "session", w.Session, "epoch", s.ep.number, "durable", w.Durable,
		"resume", v.resume)
	return nil
}

// remember sets a flag of the epoch at hand.
func (x *session) remember(field int) {
	e := &x.s.ep
	switch field {
	case fieldOpenAcked:
		e.openAcked = true
	case fieldDone:
		e.done = true
	case fieldSettled:
		e.settled = true
	case fieldZeros:
		e.zeros = true
	}
	x.s.memory.put(field, 1)
}
