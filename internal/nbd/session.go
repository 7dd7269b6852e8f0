package nbd

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/understudy-dr/understudy/internal/fault"
)

const opServe = "nbd: serve"

// session is the transmission phase of one connection. One goroutine (run) reads requests; each request is
// served by a goroutine of its own, at most cap(slots) at once and with at most maxPayload bytes of data in
// memory. A client that sends faster finds that its requests are not being read.
type session struct {
	export     *Export
	writer     Writer // nil if read-only
	size       int64
	structured bool
	allocation bool

	in    io.Reader
	out   replier
	slots chan struct{}
	mem   *semaphore.Weighted
	hang  func(why error) // ends the session

	log      *slog.Logger
	failures atomic.Int64
}

func newSession(srv *Server, h *haggle) *session {
	return &session{
		export:     h.open,
		writer:     h.open.writer(),
		size:       h.open.Backend.Size(),
		structured: h.structured,
		allocation: h.allocation(),
		in:         bufio.NewReaderSize(h.nc, 64<<10),
		out:        replier{nc: h.nc, stall: or(srv.StallTimeout, defaultStall)},
		slots:      make(chan struct{}, or(srv.MaxInFlight, defaultInFlight)),
		mem:        semaphore.NewWeighted(maxPayload),
		log:        srv.log().With("export", h.open.Name, "peer", h.nc.RemoteAddr()),
	}
}

// run serves requests until the client leaves (nil), breaks the protocol, or ctx ends.
func (s *session) run(ctx context.Context) error {
	ctx, hang := context.WithCancelCause(ctx)
	s.hang = func(why error) {
		hang(why)
		s.out.nc.Close() // wakes the reader and every writer
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { s.hang(nil) }()

	for {
		var hdr [requestSize]byte
		if _, err := io.ReadFull(s.in, hdr[:]); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return orderly(opServe, err)
		}
		req, ok := decodeRequest(&hdr)
		if !ok {
			return violation(opServe, "request magic %#x", be.Uint32(hdr[:]))
		}
		if req.cmd == cmdDisc {
			serving.Wait()
			return nil
		}
		body, refused, err := s.admit(ctx, req)
		if err != nil {
			return err
		}
		serving.Go(func() {
			defer func() { <-s.slots }()
			if body != nil {
				defer s.mem.Release(int64(len(body)))
			}
			s.serve(ctx, req, body, refused)
		})
	}
}

// admit waits for room for one more request and reads its payload. A request that is refused has its
// payload skipped, so that the next one is found.
func (s *session) admit(ctx context.Context, req request) (body []byte, refused, err error) {
	payload := int64(0)
	if req.cmd == cmdWrite {
		payload = int64(req.length)
	}
	if payload > maxPayload {
		return nil, nil, violation(opServe, "write of %d bytes", payload)
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if refused = s.check(req); refused != nil || payload == 0 {
		if _, err := io.CopyN(io.Discard, s.in, payload); err != nil {
			return nil, nil, s.cut(ctx, err)
		}
		return nil, refused, nil
	}
	if err := s.mem.Acquire(ctx, payload); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	body = make([]byte, payload)
	if _, err := io.ReadFull(s.in, body); err != nil {
		return nil, nil, s.cut(ctx, err)
	}
	return body, nil, nil
}

// cut explains a stream that ended inside a request.
func (s *session) cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return disconnected(opServe, err)
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
