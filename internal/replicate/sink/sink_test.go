package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

func TestReplicate(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	w := p.welcomed()
	require.Equal(t, wire.V4, w.Version)
	require.Zero(t, w.Epoch)
	p.send(openEpoch(t, 1, 100), baselineDone(1, 100), data(1, 110, 0, 1), data(1, 120, 8, 2))
	require.EqualValues(t, 120, p.acked(4))

	st := h.s.Status(server)
	require.True(t, st.Attached && st.Connected && st.BaselineComplete && st.Recoverable)
	require.EqualValues(t, 120, st.Durable)
	require.Equal(t, w.Journal, st.JournalID)
	require.NotZero(t, st.BytesReceived)
	require.False(t, st.FirstByteAt.IsZero() || st.ConnectedAt.IsZero() || st.LastFrameAt.IsZero())
	pos, at, err := h.s.RecoverablePosition(server, time.Unix(0, 115))
	require.NoError(t, err)
	require.EqualValues(t, 110, pos)
	require.Equal(t, time.Unix(0, 115).UTC(), at)

	// The server restarts: everything acknowledged is still there.
	require.NoError(t, h.stop())
	h.start()
	h.admit()
	p = h.dial(server)
	p.hello(nil)
	again := p.welcomed()
	require.Equal(t, w.Journal, again.Journal)
	require.EqualValues(t, 120, again.Durable)
	require.EqualValues(t, 1, again.Epoch)
	require.True(t, again.BaselineDone)
	require.Equal(t, "cafe", again.Capture)
	p.send(data(1, 130, 0, 3))
	require.EqualValues(t, 130, p.acked(1))
}

func TestRefusals(t *testing.T) {
	h := newHouse(t)
	require.NoError(t, h.s.Admit(t.Context(), "detached"))
	for _, c := range []struct {
		name, as string
		hello    func(*wire.Hello)
		kind     fault.Kind
	}{
		{"unknown identity", "stranger", nil, fault.Denied},
		{"not admitted", "somebody-else", nil, fault.Denied},
		{"not attached", "detached", nil, fault.Transient},
		{"newer protocol", server, func(m *wire.Hello) { m.Versions = []uint32{77} }, fault.Unsupported},
		{"other disk size", server, func(m *wire.Hello) { m.Disks = []wire.Disk{{Bytes: 512}} }, fault.Conflict},
		{"no disks", server, func(m *wire.Hello) { m.Disks = nil }, fault.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := h.dial(c.as)
			p.t = t
			p.hello(c.hello)
			err := p.refused()
			require.Equal(t, c.kind, fault.KindOf(err), err)
		})
	}
	t.Run("no hello", func(t *testing.T) {
		p := h.dial(server)
		p.t = t
		p.send(data(1, 1, 0, 0))
		require.Equal(t, fault.Invalid, fault.KindOf(p.refused()))
	})
	t.Run("certificate of another authority", func(t *testing.T) {
		other := *h
		other.ca = newAuthority(t)
		cert := other.ca.issue(server, x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
		c, err := tls.Dial("tcp", h.s.Address(), &tls.Config{RootCAs: h.ca.pool, Certificates: []tls.Certificate{cert}})
		if err == nil { // TLS 1.3 tells with the first read
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		require.ErrorContains(t, err, "certificate")
	})
	// None of them left a trace.
	p := h.dial(server)
	p.hello(nil)
	require.Zero(t, p.welcomed().Highest)
}

func TestBadFrames(t *testing.T) {
	flipped := data(1, 120, 0, 9)
	flipped[len(flipped)-1] ^= 1
	outside := data(1, 120, 1<<20, 9)
	other := data(1, 120, 0, 9)
	other[wire.HeaderSize+wire.ExtentSize] ^= 1 // of the sum that its source made
	seal := xxh3.New()
	_, _ = seal.Write(other[:wire.HeaderSize-8])
	_, _ = seal.Write(other[wire.HeaderSize:])
	binary.LittleEndian.PutUint64(other[wire.HeaderSize-8:], seal.Sum64())
	for _, c := range []struct {
		name string
		bad  []byte
		kind fault.Kind
	}{
		{"flipped bit", flipped, fault.Corruption},
		{"not what its source summed", other, fault.Corruption},
		{"not to be stored", wire.Control(wire.TypeAck, 1, 0, 0, 0), fault.Invalid},
		{"other epoch", data(2, 120, 0, 9), fault.Conflict},
		{"position again", data(1, 110, 0, 9), fault.Conflict},
		{"outside the disk", outside, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			p := h.dial(server)
			p.hello(nil)
			p.welcomed()
			p.send(openEpoch(t, 1, 100), data(1, 110, 0, 1), c.bad, data(1, 130, 0, 1))
			require.Equal(t, c.kind, fault.KindOf(p.refused()))
			require.Error(t, h.s.Status(server).Err)
			p = h.dial(server)
			p.hello(nil)
			require.EqualValues(t, 110, p.welcomed().Durable, "exactly the good frames before it")
			p.send(data(1, 120, 0, 9))
			require.EqualValues(t, 120, p.acked(1))
			require.NoError(t, h.s.Status(server).Err)
		})
	}
}

func TestOutOfSpaceAndBack(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(t, 1, 100), data(1, 110, 0, 1))
	p.acked(2)
	h.fs.SetCapacity(h.fs.Used() + 4096 + 3*5000)
	pos := uint64(110)
	for range 20 {
		pos += 10
		if p.conn.Send(data(1, pos, 0, byte(pos))) != nil {
			break
		}
	}
	err := p.refused()
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
	require.NotEmpty(t, fault.HintOf(err))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(h.s.Status(server).Err))
	free, freeErr := h.fs.Free("/")
	require.NoError(t, freeErr)
	require.GreaterOrEqual(t, free.Free, int64(4096), "the reserve was touched")

	h.fs.SetCapacity(1 << 30)
	p = h.dial(server)
	p.hello(nil)
	durable := p.welcomed().Durable
	require.Greater(t, durable, uint64(110))
	p.send(data(1, durable+10, 0, 1))
	require.Equal(t, durable+10, p.acked(1))
	require.NoError(t, h.s.Status(server).Err)
}

func TestNewerConnectionWins(t *testing.T) {
	h := newHouse(t)
	older := h.dial(server)
	older.hello(nil)
	first := older.welcomed()
	older.send(openEpoch(t, 1, 100), data(1, 110, 0, 1))
	older.acked(2)
	newer := h.dial(server)
	newer.hello(nil)
	second := newer.welcomed()
	require.Greater(t, second.Session, first.Session)
	require.EqualValues(t, 110, second.Durable)
	require.Equal(t, fault.Fenced, fault.KindOf(older.refused()))
	newer.send(data(1, 120, 0, 1))
	require.EqualValues(t, 120, newer.acked(1))
}

func TestRevokeAndDetach(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	require.NoError(t, h.s.Revoke(t.Context(), server))
	require.Equal(t, fault.Denied, fault.KindOf(p.refused()))
	p = h.dial(server)
	p.hello(nil)
	require.Equal(t, fault.Denied, fault.KindOf(p.refused()))
	require.NoError(t, h.s.Admit(t.Context(), server))
	p = h.dial(server)
	p.hello(nil)
	p.welcomed()
	require.NoError(t, h.s.DetachStaging(t.Context(), server))
	require.Equal(t, fault.Transient, fault.KindOf(p.refused()))
	require.False(t, h.s.Status(server).Attached)
	reused, err := h.s.CreateStaging(t.Context(), server, []StagingDisk{StagingDisk(disks[0])})
	require.NoError(t, err)
	require.True(t, reused)
	_, err = h.s.CreateStaging(t.Context(), server, []StagingDisk{{Bytes: 512}})
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NoError(t, h.s.DestroyStaging(t.Context(), server))
	require.NoError(t, h.s.DestroyStaging(t.Context(), server))
	_, err = h.s.AttachStaging(t.Context(), server)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

// Acknowledgements follow the sync that covers them: when one of n data frames leaves the server, n were synced.
func TestAckOnlyAfterSync(t *testing.T) {
	h := newHouse(t)
	var mu sync.Mutex
	appended, synced := 0, 0
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	var holding atomic.Bool
	h.fs.OnOp(func(op vfstest.Op) error {
		if !strings.HasSuffix(op.Name, ".usj") {
			return nil
		}
		if op.Kind == "sync" && holding.Load() {
			<-hold
		}
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == "write" && op.Off > 0 {
			appended++
		}
		if op.Kind == "sync" {
			synced = appended
		}
		return nil
	})
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(t, 1, 100))
	p.acked(1)
	holding.Store(true)
	p.send(data(1, 110, 0, 1), data(1, 120, 0, 1))
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, _, err := p.conn.Receive(nil)
	require.ErrorContains(t, err, "timeout", "acknowledged while the disk had not answered")
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	holding.Store(false)
	release()
	for pos, n := uint64(130), uint64(4); n < 40; pos, n = pos+10, n+1 {
		p.send(data(1, pos, 0, 1))
		p.acked(n)
		mu.Lock()
		require.GreaterOrEqual(t, uint64(synced), n)
		mu.Unlock()
	}
}

// A sync that fails is no acknowledgement, and the agent can go on.
func TestSyncFails(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(t, 1, 100), data(1, 110, 0, 1))
	p.acked(2)
	errIO := errors.New("i/o error")
	var fail atomic.Bool
	fail.Store(true)
	h.fs.OnOp(func(op vfstest.Op) error {
		if op.Kind == "sync" && fail.CompareAndSwap(true, false) {
			return errIO
		}
		return nil
	})
	p.send(data(1, 120, 0, 1))
	err := p.refused()
	require.Equal(t, fault.Transient, fault.KindOf(err), err)
	require.Error(t, h.s.Status(server).Err)
	p = h.dial(server)
	p.hello(nil)
	require.EqualValues(t, 110, p.welcomed().Durable)
	p.send(data(1, 120, 0, 1))
	require.EqualValues(t, 120, p.acked(1))
}

func TestOwnChecks(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, h.s.Boot(ctx))
	require.NoError(t, h.s.Authenticate(ctx))
	require.NoError(t, h.s.CheckSoftware(ctx, []uint32{9, wire.V1}))
	require.Equal(t, fault.Unsupported, fault.KindOf(h.s.CheckSoftware(ctx, []uint32{9})))
	reused, err := h.s.Launch(ctx)
	require.NoError(t, err)
	require.True(t, reused)
	h.s.tls.Certificates[0] = h.ca.issue("server", x509.ExtKeyUsageServerAuth, time.Now().Add(-time.Hour))
	require.Equal(t, fault.Denied, fault.KindOf(h.s.Authenticate(ctx)))
	require.Equal(t, fault.Conflict, fault.KindOf(h.s.Close()), "it runs")

	h.fs.SetCapacity(100)
	_, err = h.s.CreateStaging(ctx, "another", []StagingDisk{StagingDisk(disks[0])})
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
	_, err = h.s.CreateStaging(ctx, "../etc", []StagingDisk{StagingDisk(disks[0])})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}
