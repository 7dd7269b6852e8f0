package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

// session is one connection of an agent.
//
//	handshake -> hello -> taken (fences the one before) -> welcomed -> receiving -> ended
type session struct {
	s    *Server
	conn *wire.Conn
	raw  net.Conn
	r    *replica
	j    *journal.Journal

	failed   error // why data could not be taken in; a link that broke is no such reason
	number   uint64
	version  uint32
	poked    chan struct{} // there may be repairs to ask for
	comparer *comparer
	welcomed bool // guarded by r.mu
	once     sync.Once
	cause    error         // why end was called; read after ended
	ended    chan struct{} // closed by end
	done     chan struct{} // closed when it no longer touches the journal
}

// handle owns one connection from accept to close.
func (s *Server) handle(ctx context.Context, raw net.Conn) {
	t := tls.Server(raw, s.tls)
	se := &session{s: s, raw: raw, conn: wire.NewConn(t), ended: make(chan struct{}), done: make(chan struct{}), poked: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, func() { se.end(errStopping) })
	defer stop()
	err := se.run(ctx, t)
	if err != nil {
		se.refuse(err)
	}
	_ = t.Close() // the peer may be gone already
	se.report(err)
}

// end makes the session stop, with cause as the refusal. It may be called often and by anyone.
func (se *session) end(cause error) {
	se.once.Do(func() {
		se.cause = cause
		close(se.ended)
		_ = se.raw.SetReadDeadline(time.Unix(1, 0)) // wakes whoever reads
	})
}

// because replaces an error that end provoked by the reason for end.
func (se *session) because(err error) error {
	select {
	case <-se.ended:
		return se.cause
	default:
		return err
	}
}

func (se *session) run(ctx context.Context, t *tls.Conn) error {
	_ = se.raw.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := t.HandshakeContext(ctx); err != nil {
		return errHandshake{err}
	}
	state := t.ConnectionState()
	id, err := se.s.c.Identify(&state)
	if err != nil {
		return err
	}
	hello, err := se.hello()
	if err != nil {
		return se.because(err)
	}
	version, err := wire.Choose(hello.Versions)
	if err != nil {
		return err
	}
	if err := se.take(id, version, hello); err != nil {
		return se.because(err)
	}
	defer se.leave()
	se.version = version
	if err := se.welcome(version, hello); err != nil {
		return se.because(err)
	}
	return se.because(se.receive())
}

// errHandshake marks a peer that is no agent of ours, or none at all: there is nobody to refuse.
type errHandshake struct{ error }

func (se *session) hello() (wire.Hello, error) {
	var h wire.Hello
	f, _, err := se.conn.Receive(nil)
	if err != nil {
		return h, err
	}
	if f.Type != wire.TypeHello {
		return h, fault.New(fault.Invalid, "sink: hello", "the first frame has type %d", f.Type)
	}
	return h, f.Unmarshal(&h)
}

// take makes this the one session of its source server. The one before is fenced and has let go of the journal when
// take returns.
func (se *session) take(id string, version uint32, hello wire.Hello) error {
	r := se.s.known(id)
	if r == nil {
		return errNotAdmitted(id)
	}
	r.mu.Lock()
	j, before := r.j, r.current
	switch {
	case !r.admitted:
		r.mu.Unlock()
		return errNotAdmitted(id)
	case j == nil:
		r.mu.Unlock()
		return errDetached(id)
	}
	if err := match(j, version, hello.Disks); err != nil {
		r.mu.Unlock()
		return err
	}
	r.sessions++
	se.r, se.j, se.number = r, j, r.sessions
	r.current = se
	r.mu.Unlock()
	if before != nil {
		before.end(fault.New(fault.Fenced, "sink", "session %d of source server %s has taken over", se.number, id).
			WithHint("see that only one agent runs with this identity"))
		<-before.done
	}
	return nil
}

// leave lets go of the journal.
func (se *session) leave() {
	se.r.mu.Lock()
	if se.r.current == se {
		se.r.current = nil
	}
	se.r.mu.Unlock()
	close(se.done)
}

// welcome tells the agent what is durable. What an earlier session appended without a sync is made durable first, so
// that the answer is the whole truth.
func (se *session) welcome(version uint32, hello wire.Hello) error {
	if err := se.j.Sync(); err != nil {
		return err
	}
	st := se.j.State()
	w := wire.Welcome{
		Version: version, Session: se.number, Journal: st.ID, Capture: st.CaptureID, Epoch: st.Epoch, First: st.First,
		BaselineDone: st.BaselineDone, Durable: st.Durable, Highest: st.Highest, Frames: st.Frames,
	}
	if version >= wire.V4 {
		w.Disks, w.Joining = st.Disks, st.Joining
	}
	m, err := wire.Message(wire.TypeWelcome, 0, 0, 0, 0, w)
	if err != nil {
		return err
	}
	_ = se.raw.SetWriteDeadline(time.Now().Add(se.s.c.IdleTimeout))
	if err := se.conn.Send(m); err != nil {
		return err
	}
	se.r.mu.Lock()
	defer se.r.mu.Unlock()
	se.welcomed = true
	se.r.seen.ConnectedAt = time.Now()
	se.s.log.Info("sink: agent welcomed", "server", se.r.id, "session", se.number, "agent", hello.Agent, "epoch", st.Epoch, "durable", st.Durable)
	return nil
}

// refuse tells the peer why, and waits until it has read so: closing with unread data in flight would take the
// message away from it.
func (se *session) refuse(err error) {
	if _, ok := errors.AsType[errHandshake](err); ok {
		return
	}
	_ = se.raw.SetDeadline(time.Now().Add(lingerTimeout))
	se.conn.SendRefusal(err)
	if t, ok := se.conn.Conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if tcp, ok := se.raw.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, se.raw)
}

// report logs the end of a connection once, and keeps what concerns the operator.
func (se *session) report(err error) {
	log := se.s.log.With("peer", se.raw.RemoteAddr().String())
	if se.r == nil {
		if err != nil {
			log.Debug("sink: connection refused", "err", err)
		}
		return
	}
	log.Info("sink: agent gone", "server", se.r.id, "session", se.number, "err", err)
}
