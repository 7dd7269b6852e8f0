package sink

import (
	"errors"
	"io"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	queuedFrames = 32       // read from the connection, not yet appended
	batchBytes   = 16 << 20 // appended before a sync, at most
	batchFrames  = 4096     // and so many frames, questions counted
)

// arrival is a frame and the buffer that it lies in, or the error that ends the stream.
type arrival struct {
	f   wire.Frame
	buf []byte
	err error
}

// receive reads in one goroutine while this one appends, syncs and acknowledges: whatever arrives during a sync is
// one batch for the next.
func (se *session) receive() error {
	defer se.compare()()
	frames := make(chan arrival, queuedFrames)
	free := make(chan []byte, queuedFrames+1)
	read := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(read)
		se.read(frames, free, quit)
	}()
	err := se.commit(frames, free)
	if se.failed != nil {
		se.r.mu.Lock()
		se.r.seen.Err = se.failed
		se.r.mu.Unlock()
	}
	close(quit)
	_ = se.raw.SetReadDeadline(time.Unix(1, 0))
	<-read
	return err
}

func (se *session) read(frames chan<- arrival, free <-chan []byte, quit <-chan struct{}) {
	var prover wire.Prover
	for {
		var a arrival
		select {
		case a.buf = <-free:
		default:
		}
		_ = se.raw.SetReadDeadline(time.Now().Add(se.s.c.IdleTimeout))
		select { // whoever set a deadline to wake us may have done so before we set ours
		case <-se.ended:
			a.err = se.cause
		case <-quit:
			return
		default:
			if a.f, a.buf, a.err = se.conn.Receive(a.buf); a.err == nil {
				a.err = prover.Prove(&a.f) // what is acknowledged is what the source had
			}
		}
		select {
		case frames <- a:
		case <-quit:
			return
		}
		if a.err != nil {
			return
		}
	}
}

// commit is the loop of one session: a batch, a sync, an acknowledgement.
func (se *session) commit(frames <-chan arrival, free chan<- []byte) error {
	acked := uint64(0)
	se.poke()
	for {
		var a arrival
		select {
		case a = <-frames:
		case <-se.poked:
			if err := se.askForRepairs(); err != nil {
				return err
			}
			continue
		case <-se.ended:
			return se.cause
		}
		if err := se.await(acked); err != nil {
			se.failed = err
			return err
		}
		n, size, err := se.batch(a, frames, free)
		if n > 0 {
			if synced := se.acknowledge(acked+n, size); synced != nil {
				return errors.Join(synced, err)
			}
			acked += n
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// batch appends a and whatever else has arrived. n frames were appended even if there is an error.
func (se *session) batch(a arrival, frames <-chan arrival, free chan<- []byte) (n uint64, size int, err error) {
	for taken := 1; ; taken++ {
		if a.err != nil {
			if fault.Is(a.err, fault.Corruption) {
				se.failed = a.err
			}
			return n, size, a.err
		}
		if a.f.Type == wire.TypeBase || a.f.Type == wire.TypeAsk {
			if err := se.comparer.asked(&a.f); err != nil {
				return n, size, err
			}
		} else {
			if err := se.append(a.f); err != nil {
				se.failed = err
				return n, size, err
			}
			n++
			size += len(a.f.Bytes)
		}
		select {
		case free <- a.buf:
		default:
		}
		if size >= batchBytes || taken >= batchFrames {
			return n, size, nil
		}
		select {
		case a = <-frames:
		default:
			return n, size, nil
		}
	}
}

func (se *session) append(f wire.Frame) error {
	if !f.Type.Durable() {
		return fault.New(fault.Invalid, "sink: receive", "a frame of type %d after hello", f.Type)
	}
	if err := se.sameDisks(&f); err != nil {
		return err
	}
	if err := se.s.roomFor(se.r, int64(len(f.Bytes))+journal.RecordOverhead); err != nil {
		return err
	}
	if err := se.j.Append(f); err != nil {
		return err
	}
	if w, _ := se.r.inCare(); w != nil {
		w.taken(int64(len(f.Bytes)) + journal.RecordOverhead)
	}
	if f.Type != wire.TypeEpochOpen {
		return nil
	}
	return se.answered(&f)
}

// sameDisks holds an agent that knows of no change to the disks that it was welcomed with.
func (se *session) sameDisks(f *wire.Frame) error {
	if f.Type != wire.TypeEpochOpen || se.version >= wire.V4 {
		return nil
	}
	var open wire.EpochOpen
	if err := f.Unmarshal(&open); err != nil {
		return err
	}
	return match(se.j, se.version, append(open.Disks, open.Joining...))
}

// acknowledge syncs, then says so. frames counts from the beginning of the connection.
func (se *session) acknowledge(frames uint64, size int) error {
	done := se.s.care.brake.syncing()
	err := se.j.Sync()
	se.s.c.Synced(done())
	if err != nil {
		se.failed = err
		return err
	}
	if w, _ := se.r.inCare(); w != nil {
		w.synced()
		if w.u.Exposure().Sealed > 0 {
			se.s.care.poke(w)
		}
	}
	st := se.j.State()
	now := time.Now()
	se.r.mu.Lock()
	se.r.forgetRepairs(st.Epoch, st.BaselineDone)
	seen := &se.r.seen
	if seen.FirstByteAt.IsZero() {
		seen.FirstByteAt = now
	}
	seen.LastFrameAt, seen.Err = now, nil
	seen.BytesReceived += uint64(size)
	se.r.mu.Unlock()
	se.slowDown()
	return se.tell(frames)
}

// tell says how many frames of this connection are durable.
func (se *session) tell(frames uint64) error {
	st := se.j.State()
	now := time.Now()
	_ = se.raw.SetWriteDeadline(now.Add(se.s.c.IdleTimeout))
	return se.conn.Send(wire.Control(wire.TypeAck, st.Epoch, frames, st.Durable, now.UnixNano()))
}
