package nbd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/understudy-dr/understudy/internal/fault"
)

const opServe = "nbd: serve"

// session is the transmission phase of one connection. Its workers take turns: one reads a request, hands the turn on and carries
// the request out. There are as many as there were requests at once, up to a limit, with at most maxPayload bytes of data in
// memory. A client that sends faster finds that its requests are not being read.
type session struct {
	export     *Export
	writer     Writer       // nil if read-only
	sparse     SparseReader // nil if it is none
	size       int64
	structured bool
	allocation bool

	in   io.Reader // for who has the turn
	out  replier
	mem  *semaphore.Weighted
	hang func(why error) // ends the session

	workers sync.WaitGroup
	most    int           // workers
	have    int           // workers begun; for who has the turn
	waiting atomic.Int64  // for the turn
	turn    chan struct{} // holds the turn while nobody does
	over    chan struct{} // closed when there will be no turn any more
	ended   error         // why; set before over is closed

	log      *slog.Logger
	failures atomic.Int64
}

func newSession(srv *Server, h *haggle) *session {
	s := &session{
		export:     h.open,
		writer:     h.open.writer(),
		size:       h.open.Backend.Size(),
		structured: h.structured,
		allocation: h.allocation(),
		in:         bufio.NewReaderSize(h.nc, 64<<10),
		out:        replier{nc: h.nc, stall: or(srv.StallTimeout, defaultStall)},
		mem:        semaphore.NewWeighted(maxPayload),
		most:       or(srv.MaxInFlight, defaultInFlight),
		turn:       make(chan struct{}, 1),
		over:       make(chan struct{}),
		log:        srv.log().With("export", h.open.Name, "peer", h.nc.RemoteAddr()),
	}
	s.sparse, _ = h.open.Backend.(SparseReader)
	return s
}

// run serves requests until the client leaves (nil), breaks the protocol, or ctx ends.
func (s *session) run(ctx context.Context) error {
	ctx, hang := context.WithCancelCause(ctx)
	s.hang = func(why error) {
		hang(why)
		s.out.nc.Close() // wakes the reader and every writer
	}
	defer s.hang(nil)
	s.pass(ctx)
	s.workers.Wait()
	return s.ended
}

// pass lets another worker read.
func (s *session) pass(ctx context.Context) {
	if s.waiting.Load() == 0 && s.have < s.most {
		s.have++
		s.workers.Go(func() { s.work(ctx) })
	}
	s.turn <- struct{}{}
}

// work serves one request after the other.
func (s *session) work(ctx context.Context) {
	for s.wait() {
		req, body, refused, err := s.next(ctx)
		if err != nil {
			s.end(ctx, err)
			return
		}
		s.pass(ctx)
		s.serve(ctx, req, body, refused)
		if body != nil {
			s.mem.Release(int64(len(body)))
		}
	}
}

// wait takes the turn; it is false when there is none any more.
func (s *session) wait() bool {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case <-s.turn:
		return true
	case <-s.over:
		return false
	}
}

// How clients leave in an orderly way: by saying goodbye, and what they asked for before is answered; or by hanging up.
var (
	errLeft   = errors.New("the client left")
	errHungUp = errors.New("the client hung up")
)

// end is for the last who had the turn.
func (s *session) end(ctx context.Context, why error) {
	switch {
	case errors.Is(why, errLeft):
	case ctx.Err() != nil:
		s.ended = context.Cause(ctx)
	case errors.Is(why, errHungUp):
		s.hang(nil)
	default:
		s.ended = why
		s.hang(nil)
	}
	close(s.over)
}

// next reads a request and its payload. One that is refused has its payload skipped, so that the next one is found.
func (s *session) next(ctx context.Context) (req request, body []byte, refused, err error) {
	var hdr [requestSize]byte
	if _, err := io.ReadFull(s.in, hdr[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return req, nil, nil, errHungUp
		}
		return req, nil, nil, disconnected(opServe, err)
	}
	req, ok := decodeRequest(&hdr)
	if !ok {
		return req, nil, nil, violation(opServe, "request magic %#x", be.Uint32(hdr[:]))
	}
	if req.cmd == cmdDisc {
		return req, nil, nil, errLeft
	}
	refused = s.check(req)
	if req.cmd != cmdWrite {
		return req, nil, refused, nil
	}
	body, err = s.payload(ctx, req, refused != nil)
	return req, body, refused, err
}

// payload reads what is to be written, once there is room for it.
func (s *session) payload(ctx context.Context, req request, skip bool) ([]byte, error) {
	n := int64(req.length)
	if n > maxPayload {
		return nil, violation(opServe, "write of %d bytes", n)
	}
	if skip || n == 0 {
		if _, err := io.CopyN(io.Discard, s.in, n); err != nil {
			return nil, disconnected(opServe, err)
		}
		return nil, nil
	}
	if err := s.mem.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(s.in, body); err != nil {
		s.mem.Release(n)
		return nil, disconnected(opServe, err)
	}
	return body, nil
}

// refuse tells the client that req failed, unless what failed is the connection.
func (s *session) refuse(ctx context.Context, req request, err error) {
	if ctx.Err() != nil {
		return
	}
	if dropsClient(err) {
		s.hang(fault.Wrap(opServe, err))
		return
	}
	e := errnoOf(err)
	// A failing disk is read again and again: the 1st, 2nd, 4th, 8th... failure is logged.
	if n := s.failures.Add(1); e == EIO && n&(n-1) == 0 {
		s.log.Warn("nbd: request failed", "err", err, "offset", req.off, "length", req.length, "failures", n)
	}
	if s.structured {
		s.send(errorChunk(req.cookie, e, err.Error()))
		return
	}
	var b [simpleSize]byte
	putSimple(b[:], req.cookie, e)
	s.send(b[:])
}

func (s *session) acknowledge(cookie uint64) {
	var b [simpleSize]byte
	putSimple(b[:], cookie, 0)
	s.send(b[:])
}

// send hangs up if the client does not take b. It reports whether it did.
func (s *session) send(b []byte) bool {
	err := s.out.send(b)
	if err == nil {
		return true
	}
	s.hang(disconnected(opServe, err))
	return false
}
