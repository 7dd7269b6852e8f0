package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counting counts the writes that reach the network, and fails them on demand.
type counting struct {
	net.Conn
	writes atomic.Int64
	broken atomic.Bool
}

var errBroken = errors.New("the link is cut")

func (c *counting) Write(p []byte) (int, error) {
	c.writes.Add(1)
	if c.broken.Load() {
		return 0, errBroken
	}
	return c.Conn.Write(p)
}

// overTLS is a client whose writes are counted and its server.
func overTLS(t *testing.T, gather bool) (client, server *Conn, count *counting) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"here"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })

	count = &counting{Conn: a}
	var below net.Conn = count
	if gather {
		below = Gather(count)
	}
	out := tls.Client(below, &tls.Config{RootCAs: pool, ServerName: "here", MinVersion: tls.VersionTLS13})
	in := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() { done <- in.Handshake() }()
	require.NoError(t, out.Handshake(), "nothing is held back outside of a frame")
	require.NoError(t, <-done)
	return NewConn(out), NewConn(in), count
}

// bigFrame is what nothing compresses, larger than is gathered at once.
func bigFrame(t *testing.T, bytes int) []byte {
	t.Helper()
	var b Builder
	b.Reset(TypeBaseline, 1)
	data := make([]byte, bytes)
	_, _ = rand.Read(data)
	b.Add(Extent{Kind: KindData, Position: 1, Bytes: uint64(bytes)}, data)
	return b.Finish(nil)
}

// TestGather sends frames over TLS: they arrive as they were, in far fewer writes than they have records.
func TestGather(t *testing.T) {
	frames := [][]byte{bigFrame(t, 1<<20), Control(TypeMark, 1, 2, 3, 4), bigFrame(t, 200<<10), bigFrame(t, 4096)}
	sent := map[bool]int64{}
	for _, gather := range []bool{false, true} {
		client, server, count := overTLS(t, gather)
		before := count.writes.Load()
		failed := make(chan error, 1)
		go func() {
			var err error
			for _, f := range frames {
				err = errors.Join(err, client.Send(f))
			}
			failed <- err
		}()
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Minute)))
		for i, want := range frames {
			f, _, err := server.Receive(nil)
			require.NoError(t, err, "frame %d", i)
			require.Equal(t, want, f.Bytes, "frame %d", i)
		}
		require.NoError(t, <-failed)
		sent[gather] = count.writes.Load() - before
	}
	require.LessOrEqual(t, sent[true], int64(5+1+1+1), "1 MiB in pieces of 256 KiB, the others in one each")
	require.Greater(t, sent[false], 5*sent[true])
}

// A write that fails when what was gathered goes on is the sender's to know.
func TestGatherTellsOfAFailure(t *testing.T) {
	client, _, count := overTLS(t, true)
	require.NoError(t, client.Send(Control(TypeMark, 1, 2, 3, 4)))
	count.broken.Store(true)
	require.ErrorIs(t, client.Send(Control(TypeMark, 1, 2, 3, 4)), errBroken)
}
