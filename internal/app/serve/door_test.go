package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/pki"
)

// scarce is a listener that runs out of descriptors now and then.
type scarce struct {
	net.Listener
	calls atomic.Int32
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.calls.Add(1)%2 == 1 {
		return nil, errors.New("accept: too many open files")
	}
	return s.Listener.Accept()
}

func quietly(a admission) admission {
	a.log = slog.New(slog.DiscardHandler)
	return a
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func TestDoorOutlivesAFailedAccept(t *testing.T) {
	l := listen(t)
	d := openDoor(t.Context(), &scarce{Listener: l}, quietly(admission{plain: true, patience: 10 * time.Second}))
	for range 2 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		require.NoError(t, err)
		_, err = c.Write([]byte("G"))
		require.NoError(t, err)
		got, err := d.Accept()
		require.NoError(t, err)
		b, err := io.ReadAll(io.LimitReader(got, 1))
		require.NoError(t, err)
		require.Equal(t, "G", string(b), "nothing of what was looked at is lost")
		require.NoError(t, errors.Join(got.Close(), c.Close()))
	}
	require.NoError(t, d.Close())
	_, err := d.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// agents is what an authority, a server and its agents show each other.
func agents(t *testing.T) (server, agent *tls.Config) {
	t.Helper()
	a, err := pki.Open(t.TempDir())
	require.NoError(t, err)
	certificate, err := a.Server()
	require.NoError(t, err)
	key, csr, err := pki.NewAgentKey()
	require.NoError(t, err)
	signed, err := a.SignAgent(csr, pki.ID{Account: "111122223333", Service: "drs", Server: "s-0123456789abcdef0"})
	require.NoError(t, err)
	agent, err = pki.ClientTLS(a.CertificatePEM(), signed, key)
	require.NoError(t, err)
	agent.ServerName = "localhost"
	return a.ServerTLS(certificate), agent
}

// welcome takes everybody in, and tells each a word; it ends with the door.
func welcome(t *testing.T, d *door) (in *atomic.Int32) {
	t.Helper()
	in = &atomic.Int32{}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			in.Add(1)
			all.Go(func() {
				_, _ = c.Write([]byte("!"))
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, d.Close())
		all.Wait()
	})
	return in
}

// admitted dials, and waits for the word.
func admitted(ctx context.Context, address string, c *tls.Config) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return secured(ctx, conn, c)
}

func secured(ctx context.Context, conn net.Conn, c *tls.Config) (net.Conn, error) {
	secure := tls.Client(conn, c)
	err := secure.HandshakeContext(ctx)
	if err == nil {
		_, err = io.ReadFull(secure, make([]byte, 1))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// told is a connection that says when something was first written to it.
type told struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *told) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.once.Do(c.done)
	return n, err
}

// TestAllAgentsAtOnce: after an outage all agents come at once. All of their handshakes take many times as long as the
// server waits for a peer, and still nobody is sent away: a time-out counts from their turn.
func TestAllAgentsAtOnce(t *testing.T) {
	count, patience := 2000, time.Second
	if testing.Short() { // under the race detector it is about races
		count = 300
	}
	server, agent := agents(t)
	burden := make([]byte, 1<<20)
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		sha256.Sum256(burden) // a millisecond's work or so, on any machine
		return nil, nil
	}
	l := listen(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var all, hellos sync.WaitGroup
	failures := make(chan error, count)
	hellos.Add(count)
	for range count {
		conn, err := net.Dial("tcp", l.Addr().String()) // the kernel keeps them until the server accepts
		require.NoError(t, err)
		all.Go(func() {
			c, err := secured(ctx, &told{Conn: conn, done: hellos.Done}, agent)
			if err != nil {
				failures <- err
				return
			}
			c.Close()
		})
	}
	hellos.Wait()
	began := time.Now()
	in := welcome(t, openDoor(t.Context(), l, quietly(admission{tls: server, workers: 1, patience: patience})))
	all.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	require.EqualValues(t, count, in.Load())
	t.Logf("%d handshakes in a row took %s", count, time.Since(began).Round(time.Millisecond))
	require.True(t, testing.Short() || time.Since(began) > 2*patience, "too little to show anything")
}

// TestSilenceHoldsNobodyUp: peers that say nothing, or stop in the middle, take no turn, and are sent away.
func TestSilenceHoldsNobodyUp(t *testing.T) {
	server, agent := agents(t)
	l := listen(t)
	const patience = time.Second
	d := openDoor(t.Context(), l, quietly(admission{tls: server, workers: 1, patience: patience}))
	in := welcome(t, d)
	hello := helloOf(t, agent)
	var silent []net.Conn
	for n := range 100 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		if n%2 == 0 {
			_, err = c.Write(hello)
			require.NoError(t, err)
		}
		silent = append(silent, c)
	}
	began := time.Now()
	c, err := admitted(t.Context(), l.Addr().String(), agent)
	require.NoError(t, err)
	defer c.Close()
	t.Logf("let in after %s", time.Since(began))
	for _, c := range silent {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := io.Copy(io.Discard, c)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		if ne, ok := errors.AsType[net.Error](err); ok {
			require.False(t, ne.Timeout(), "the server waits for ever")
		}
	}
	require.EqualValues(t, 1, in.Load())
	require.Zero(t, d.turns.waiting())
	require.NoError(t, d.turns.take(t.Context(), false), "the turn was given back")
	d.turns.give()
}

// helloOf is what a client says first.
func helloOf(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(near, c).Handshake()
	}()
	r := bufio.NewReaderSize(far, 1<<16)
	head, err := r.Peek(5)
	require.NoError(t, err)
	b := make([]byte, 5+int(head[3])<<8+int(head[4]))
	_, err = io.ReadFull(r, b)
	require.NoError(t, err)
	require.NoError(t, far.Close())
	<-done
	return b
}

// TestNoWorkForThoseWhoLeft: a peer that gave up while it waited for its turn costs no handshake.
func TestNoWorkForThoseWhoLeft(t *testing.T) {
	server, agent := agents(t)
	var begun atomic.Int32
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		begun.Add(1)
		return nil, nil
	}
	l := listen(t)
	d := openDoor(t.Context(), l, quietly(admission{tls: server, workers: 1, patience: 10 * time.Second}))
	welcome(t, d)
	require.NoError(t, d.turns.take(t.Context(), false)) // somebody else's long turn
	hello := helloOf(t, agent)
	var leaving []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		_, err = c.Write(hello)
		require.NoError(t, err)
		leaving = append(leaving, c)
	}
	eventually(t, func() bool { return d.turns.waiting() == len(leaving) })
	stays := make(chan error, 1)
	go func() {
		c, err := admitted(t.Context(), l.Addr().String(), agent)
		if err == nil {
			c.Close()
		}
		stays <- err
	}()
	eventually(t, func() bool { return d.turns.waiting() == len(leaving)+1 })
	for _, c := range leaving {
		require.NoError(t, c.Close()) // over loopback the other end knows when this returns
	}
	d.turns.give()
	require.NoError(t, <-stays)
	require.EqualValues(t, 1, begun.Load())
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for tick := time.Tick(time.Millisecond); !is(); {
		select {
		case <-tick:
		case <-limit:
			require.Fail(t, "it does not come")
		}
	}
}

func TestPlainTextIsToldWhatIsWrong(t *testing.T) {
	server, _ := agents(t)
	l := listen(t)
	in := welcome(t, openDoor(t.Context(), l, quietly(admission{tls: server, patience: 10 * time.Second})))
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadBytes('\n')
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(answer, []byte("HTTP/1.0 400")), "%s", answer)
	require.Zero(t, in.Load())
}
