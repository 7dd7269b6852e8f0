package nbd

import (
	"context"
	"math"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pieceSize is how much of a read is in memory at once when its reply may be split.
const pieceSize = 1 << 20

// minReadHole is the shortest hole that a read is split for.
const minReadHole = 4096

// maxStatusSpans bounds one reply to BLOCK_STATUS; the client asks on from where it ends.
const maxStatusSpans = 1 << 16

// flagsOf are the flags each command may carry. FUA is accepted everywhere: clients are known to set it on
// reads.
var flagsOf = map[uint16]uint16{
	cmdRead:        cmdFlagFUA | cmdFlagDF,
	cmdWrite:       cmdFlagFUA,
	cmdFlush:       cmdFlagFUA,
	cmdTrim:        cmdFlagFUA,
	cmdCache:       cmdFlagFUA,
	cmdWriteZeroes: cmdFlagFUA | cmdFlagNoHole,
	cmdBlockStatus: cmdFlagFUA | cmdFlagReqOne,
}

func refused(e Errno, why string) error {
	return fault.New(e.kind(), opServe, "%s: %w", why, e)
}

// check is what can be said against req without asking the backend.
func (s *session) check(req request) error {
	allowed, known := flagsOf[req.cmd]
	switch {
	case !known:
		return refused(EINVAL, "unknown command")
	case req.flags&^allowed != 0, req.flags&cmdFlagDF != 0 && !s.structured:
		return refused(EINVAL, "flag not allowed here")
	case s.changes(req.cmd) && s.writer == nil:
		return refused(EPERM, "the export is read-only")
	case req.cmd == cmdBlockStatus && !s.allocation:
		return refused(EINVAL, "no metadata context was selected")
	case req.cmd == cmdBlockStatus && req.length == 0:
		return refused(EINVAL, "status of nothing")
	case req.cmd == cmdRead && req.length > maxPayload:
		return refused(EINVAL, "read is longer than the maximum payload")
	case req.cmd == cmdFlush:
		return nil
	case req.off > uint64(s.size) || uint64(req.length) > uint64(s.size)-req.off:
		if req.cmd == cmdWrite || req.cmd == cmdWriteZeroes {
			return refused(ENOSPC, "past the end of the export")
		}
		return refused(EINVAL, "past the end of the export")
	}
	return nil
}

func (s *session) changes(cmd uint16) bool {
	return cmd == cmdWrite || cmd == cmdTrim || cmd == cmdWriteZeroes
}

// serve carries out one request and replies to it.
func (s *session) serve(ctx context.Context, req request, body []byte, refused error) {
	err := refused
	if err == nil {
		switch {
		case req.cmd == cmdBlockStatus:
			err = s.status(ctx, req)
		case req.cmd == cmdRead && s.structured:
			err = s.readChunks(ctx, req)
		case req.cmd == cmdRead:
			err = s.readSimple(ctx, req)
		default:
			if err = s.apply(ctx, req, body); err == nil {
				s.acknowledge(req.cookie)
			}
		}
	}
	if err != nil {
		s.refuse(ctx, req, err)
	}
}

// apply carries out the commands that are answered with nothing but success.
func (s *session) apply(ctx context.Context, req request, body []byte) error {
	off, length := int64(req.off), int64(req.length)
	if req.cmd == cmdFlush {
		if s.writer == nil {
			return nil
		}
		return s.writer.Flush(ctx)
	}
	if length == 0 {
		return nil
	}
	if req.cmd == cmdCache {
		if c, ok := s.export.Backend.(Cacher); ok {
			return c.Cache(ctx, off, length)
		}
		return nil
	}
	var err error
	switch req.cmd {
	case cmdWrite:
		err = s.writer.WriteAt(ctx, body, off)
	case cmdTrim:
		err = s.writer.Trim(ctx, off, length)
	case cmdWriteZeroes:
		err = s.writer.Zero(ctx, off, length, req.flags&cmdFlagNoHole == 0)
	}
	if err == nil && req.flags&cmdFlagFUA != 0 {
		err = s.writer.Flush(ctx)
	}
	return err
}

func (s *session) status(ctx context.Context, req request) error {
	limit := maxStatusSpans
	if req.flags&cmdFlagReqOne != 0 {
		limit = 1
	}
	spans, err := spansOf(ctx, s.export.Backend, int64(req.off), int64(req.length), 1, limit)
	if err != nil {
		return err
	}
	s.send(statusChunk(req.cookie, spans))
	return nil
}

// readSimple cannot take back a success once its header is out, so it has all the data first.
func (s *session) readSimple(ctx context.Context, req request) error {
	return s.withData(ctx, span{off: int64(req.off), length: int64(req.length)}, func(f frame) {
		s.send(f.simple(req.cookie))
	})
}

func (s *session) readChunks(ctx context.Context, req request) error {
	whole := span{off: int64(req.off), length: int64(req.length)}
	switch {
	case whole.length == 0:
		s.send(newChunk(req.cookie, chunkNone, true, 0))
		return nil
	case req.flags&cmdFlagDF != 0:
		return s.readChunk(ctx, req.cookie, whole, true)
	case s.sparse != nil:
		return s.readSparse(ctx, req.cookie, whole)
	}
	spans, err := spansOf(ctx, s.export.Backend, whole.off, whole.length, minReadHole, math.MaxInt)
	if err != nil {
		return err
	}
	parts := pieces(spans, pieceSize)
	for i, p := range parts {
		if err := s.readChunk(ctx, req.cookie, p, i == len(parts)-1); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

func (s *session) readChunk(ctx context.Context, cookie uint64, p span, last bool) error {
	if p.hole {
		s.send(holeChunk(cookie, p, last))
		return nil
	}
	return s.withData(ctx, p, func(f frame) { s.send(f.chunk(cookie, p.off, last)) })
}

// withData reads p and hands it to send, within the session's memory.
func (s *session) withData(ctx context.Context, p span, send func(frame)) error {
	if err := s.mem.Acquire(ctx, p.length); err != nil {
		return err
	}
	defer s.mem.Release(p.length)
	f := takeFrame(p.length)
	defer f.free()
	if p.length > 0 {
		if err := s.export.Backend.ReadAt(ctx, f.frame.data(), p.off); err != nil {
			return err
		}
	}
	send(f.frame)
	return nil
}
