package source

import (
	"context"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// outgoing is a frame to send: a builder still to be compressed and summed, what a reader has made of one, or a message.
type outgoing struct {
	builder *wire.Builder
	made    *encoded
	message []byte
}

var builders = sync.Pool{New: func() any { return new(wire.Builder) }}

// work starts the sender and the receiver; the returned function waits for them. The connection must be closed first.
func (x *session) work(ctx context.Context) (wait func()) {
	var group sync.WaitGroup
	run := func(sending bool, f func(context.Context) error) {
		group.Go(func() {
			if err := f(ctx); err != nil {
				x.failed <- failure{err, sending} // has room for both
			}
		})
	}
	run(true, x.sender)
	run(false, x.receiver)
	return group.Wait
}

// failure ends a session.
type failure struct {
	err     error
	sending bool
}

// lastWord is why the connection ended. A server that refuses says why and hangs up, so when sending fails the reason
// may still be on its way in: without it two agents with one identity would fence each other for ever.
func (x *session) lastWord(ctx context.Context, f failure) error {
	if !f.sending {
		return f.err
	}
	for {
		select {
		case <-ctx.Done():
			return f.err
		case <-x.acks:
		case <-x.asked:
		case <-x.told:
		case r := <-x.failed: // the receiver's read deadline bounds the wait
			if permanent(r.err) {
				return r.err
			}
			return f.err
		}
	}
}

// sender compresses, sums, throttles and sends, so that the owner never waits for the link.
func (x *session) sender(ctx context.Context) error {
	x.s.cfg.Yield()
	var buf []byte
	for {
		var o outgoing
		select {
		case <-ctx.Done():
			return nil
		case o = <-x.queue:
		}
		began := time.Now()
		frame := o.message
		switch {
		case o.builder != nil:
			x.s.meter.raw.Add(uint64(o.builder.RawBytes()))
			buf = encode(o.builder, buf[:0], x.version)
			builders.Put(o.builder)
			frame = buf
		case o.made != nil:
			x.s.meter.raw.Add(uint64(o.made.raw))
			frame = o.made.frame
		}
		select {
		case x.moved <- struct{}{}:
		default:
		}
		if err := x.write(ctx, frame); err != nil {
			return err
		}
		x.s.meter.busy.Add(int64(time.Since(began)))
		if o.made != nil {
			encodings.Put(o.made)
		}
	}
}

// encode compresses and sums a frame for a peer that speaks this version, appended to dst.
func encode(b *wire.Builder, dst []byte, version uint32) []byte {
	if version < wire.V2 {
		b.DropSums()
	}
	return b.Finish(dst)
}

func (x *session) write(ctx context.Context, frame []byte) error {
	for left := len(frame); left > 0; left -= burst {
		if err := x.s.limiter.WaitN(ctx, min(left, burst)); err != nil {
			return nil // the session is ending
		}
	}
	if err := x.conn.SetWriteDeadline(time.Now().Add(2 * x.s.cfg.DeadAfter)); err != nil {
		return fault.New(fault.Transient, "source: send", "%w", err)
	}
	if err := x.conn.Send(frame); err != nil {
		return err
	}
	x.s.meter.wire.Add(uint64(len(frame)))
	return nil
}

// receiver hands acknowledgements to the owner. A server that says nothing is taken for dead: it acknowledges at
// least a mark every second.
func (x *session) receiver(ctx context.Context) error {
	var buf []byte
	for {
		if err := x.conn.SetReadDeadline(time.Now().Add(x.s.cfg.DeadAfter)); err != nil {
			return fault.New(fault.Transient, "source: receive", "%w", err)
		}
		f, b, err := x.conn.Receive(buf)
		if err != nil {
			return ended(err)
		}
		buf = b
		switch f.Type {
		case wire.TypeAck:
			select {
			case x.acks <- f.Header:
			case <-ctx.Done():
				return nil
			}
		case wire.TypeRepair:
			r, err := repairOf(&f)
			if err != nil {
				return err
			}
			select {
			case x.asked <- r:
			case <-ctx.Done():
				return nil
			}
		case wire.TypeDigests:
			var d wire.Digests
			if err := f.Unmarshal(&d); err != nil {
				return err
			}
			select {
			case x.told <- d:
			case <-ctx.Done():
				return nil
			}
		case wire.TypeRefuse:
			return refused(&f)
		default:
			return fault.New(fault.Corruption, "source: receive", "frame of type %d", f.Type)
		}
	}
}
