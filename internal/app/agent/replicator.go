package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/priority"
	"github.com/understudy-dr/understudy/internal/replicate/cut"
	"github.com/understudy-dr/understudy/internal/replicate/source"
	"github.com/understudy-dr/understudy/internal/wire"
)

// replicator holds capture and source while they run. The capture itself lives in the kernel and goes on without.
type replicator struct {
	cfg   Config
	id    *identity
	disks *inventory
	log   *slog.Logger

	address string
	indexes map[string]uint16 // by device name and identity, as the service assigned them
	mode    *choice
	capture capture.Engine
	cutter  *cut.Cutter // nil with payloads
	source  *source.Source
	live    atomic.Pointer[live]
	cancel  context.CancelFunc
	done    chan error // Run's result; nil channel while nothing runs
	failure error      // why it last stopped or could not start

	kept   time.Time // when the proofs were written down
	unkept error     // why they last could not be
}

// live is what runs, for goroutines other than the session's.
type live struct {
	source *source.Source
	cutter *cut.Cutter
}

// start makes replication run to this address with these disks; if it does already, nothing changes.
func (r *replicator) start(ctx context.Context, address string, assigned []*agentpb.AssignedDisk) error {
	indexes := map[string]uint16{}
	for _, d := range assigned {
		indexes[d.DeviceName+"\n"+d.Identity] = uint16(d.Index)
	}
	if r.source != nil && r.address == address && maps.Equal(r.indexes, indexes) {
		return nil
	}
	r.stop()
	captured, disks, devs, err := r.join(assigned)
	if err != nil {
		return err
	}
	c, err := r.mode.start(capture.Options{PinDir: pinDir(r.id.ServerID), RingBytes: r.cfg.RingBytes, Owner: r.id.ServerID, Disks: captured, Log: r.log})
	if err != nil {
		return err
	}
	dial, err := r.dialer(address)
	var cutter *cut.Cutter
	if err == nil {
		config := source.Config{Disks: disks, Agent: buildinfo.Version, Dial: dial, Clock: readClocks,
			InFlightWrites: func(index uint16) (uint64, error) { return blockdev.InFlightWrites(devs[index]) },
			Written:        func(index uint16) (uint64, error) { return writtenBytes(devs[index]) }, Verify: r.verify(), Log: r.log, Yield: r.yield,
			BacklogBytes: r.cfg.BacklogBytes}
		cutter, err = r.pace(&config, c)
		if err == nil {
			r.source, err = source.New(config)
		}
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	r.live.Store(&live{r.source, cutter})
	own, cancel := context.WithCancel(ctx)
	r.capture, r.cutter, r.address, r.indexes, r.cancel, r.failure, r.done = c, cutter, address, indexes, cancel, nil, make(chan error, 1)
	go func(s *source.Source, done chan<- error) {
		var holds sync.WaitGroup
		if cutter != nil {
			holds.Go(func() { cutter.Run(own) })
		}
		err := s.Run(own)
		cancel()
		holds.Wait()
		done <- err
		close(done) // so that stop may wait for it again
	}(r.source, r.done)
	return nil
}

func writtenBytes(disk blockdev.Dev) (uint64, error) {
	n, err := blockdev.WriteSectors(disk)
	return n << 9, err
}

// yield lets what compresses give way to the programs of this machine.
func (r *replicator) yield() {
	if err := priority.Lower(); err != nil {
		r.log.Warn("compressing takes as much of the processors as anybody", "error", err)
	}
}

// join matches what the service assigned with the disks at hand. What either has not heard of waits for the next handshake.
func (r *replicator) join(assigned []*agentpb.AssignedDisk) ([]capture.Disk, []source.Disk, map[uint16]blockdev.Dev, error) {
	var captured []capture.Disk
	var disks []source.Disk
	devs := map[uint16]blockdev.Dev{}
	set := r.disks.now()
	for _, a := range assigned {
		d, ok, err := set.find(a)
		if err != nil {
			return nil, nil, nil, err
		}
		if !ok {
			continue
		}
		index := uint16(a.Index)
		devs[index] = d.dev
		captured = append(captured, capture.Disk{Index: index, Path: d.path, Major: d.dev.Major, Minor: d.dev.Minor, Bytes: d.bytes})
		disks = append(disks, source.Disk{Index: index, Device: d.path, Bytes: d.bytes, Reader: d.device})
	}
	if len(disks) == 0 {
		return nil, nil, nil, fault.New(fault.Transient, "agent: disks", "the service has not heard of the disks at hand")
	}
	return captured, disks, devs, nil
}

// dialer connects to the data port and proves who we are.
func (r *replicator) dialer(address string) (func(context.Context) (net.Conn, error), error) {
	c, err := pki.ClientTLS(r.id.ca, r.id.certificate, r.id.key)
	if err != nil {
		return nil, err
	}
	c.NextProtos = []string{wire.ALPN}
	if c.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return nil, fault.New(fault.Invalid, "agent: address of the replication server", "%w", err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := dialTLS(ctx, address, c)
		if err != nil {
			return nil, fault.New(fault.Transient, "agent: connect to the replication server at "+address, "%w", err).
				WithHint("is its data port open from here?")
		}
		return conn, nil
	}, nil
}

func dialTLS(ctx context.Context, address string, c *tls.Config) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(wire.Gather(raw), c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// ended delivers the result of a source that stopped by itself.
func (r *replicator) ended() <-chan error { return r.done }

// trouble is what keeps replication from running, or from ever being complete.
func (r *replicator) trouble() error {
	if r.failure != nil {
		return r.failure
	}
	return r.disks.failing()
}

// stop ends the source; the capture goes on in the kernel.
func (r *replicator) stop() {
	if r.source == nil {
		return
	}
	r.cancel()
	if err := <-r.done; err != nil {
		r.log.Warn("replication ended", "error", err)
	}
	r.keepProofs(time.Now(), true)
	if err := r.capture.Close(); err != nil {
		r.log.Warn("the capture could not be unmapped", "error", err)
	}
	r.live.Store(nil)
	r.source, r.capture, r.cutter, r.done = nil, nil, nil, nil
}

// remove ends the source and the capture.
func (r *replicator) remove() error {
	r.stop()
	return capture.Remove(pinDir(r.id.ServerID))
}

// maxMbps is more than any link has, and still counts in bytes per second.
const maxMbps = 1e9

func (r *replicator) throttle(mbps int64) { r.source.SetBandwidth(min(mbps, maxMbps) * (1e6 / 8)) }

// readClocks reads both clocks; the wall clock is read between two readings of the other so that being descheduled
// shows.
func readClocks() (mono uint64, wall time.Time) {
	for range 5 {
		before := monotonic()
		wall = time.Now()
		after := monotonic()
		mono = before + (after-before)/2
		if after-before < uint64(50*time.Microsecond) {
			break
		}
	}
	return mono, wall
}

func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot fail for this clock
	}
	return uint64(ts.Nano())
}
