package sink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

const patience = 120 * time.Second

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(name string, use x509.ExtKeyUsage, until time.Time) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{use},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// house is a running replication server on a file system in memory.
type house struct {
	t    *testing.T
	ca   *authority
	fs   *vfstest.MemFS
	keys encryption.Provider
	s    *Server
	stop func() error

	change func(*Config) // before it starts
}

var disks = []wire.Disk{{Index: 0, Device: "/dev/sda", Bytes: 1 << 20}}

const server = "s-0123456789abcdef0"

func newHouse(t *testing.T) *house {
	return newHouseWith(t, nil)
}

func newHouseWith(t *testing.T, change func(*Config)) *house {
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys"))
	require.NoError(t, err)
	h := &house{t: t, ca: newAuthority(t), fs: vfstest.New(), keys: keys, change: change}
	h.start()
	_, err = h.s.CreateStaging(t.Context(), server, []StagingDisk{StagingDisk(disks[0])})
	require.NoError(t, err)
	h.admit()
	return h
}

func (h *house) start() {
	c := Config{
		Journal: journal.Options{Keys: h.keys}, FS: h.fs, Dir: "/staging", Listen: "127.0.0.1:0", ReserveBytes: 4096, SlowBytes: 4096, Log: slog.New(slog.DiscardHandler), Roots: h.ca.pool,
		TLS: &tls.Config{
			Certificates: []tls.Certificate{h.ca.issue("server", x509.ExtKeyUsageServerAuth, time.Now().Add(time.Hour))},
			ClientCAs:    h.ca.pool,
		},
		Identify: func(c *tls.ConnectionState) (string, error) {
			if n := c.PeerCertificates[0].Subject.CommonName; n != "stranger" {
				return n, nil
			}
			return "", fault.New(fault.Denied, "test", "who is this")
		},
	}
	if h.change != nil {
		h.change(&c)
	}
	var err error
	h.s, err = New(c)
	require.NoError(h.t, err)
	_, err = h.s.Launch(h.t.Context())
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.s.Run(ctx) }()
	stopped := false
	h.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	stop := h.stop
	h.t.Cleanup(func() { _ = stop() })
}

func (h *house) admit() {
	require.NoError(h.t, h.s.Admit(h.t.Context(), server))
	_, err := h.s.AttachStaging(h.t.Context(), server)
	require.NoError(h.t, err)
}

// peer is a scripted agent.
type peer struct {
	t    *testing.T
	conn *wire.Conn
	buf  []byte
}

func (h *house) dial(name string) *peer {
	cert := h.ca.issue(name, x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
	c, err := tls.Dial("tcp", h.s.Address(), &tls.Config{
		RootCAs: h.ca.pool, Certificates: []tls.Certificate{cert}, NextProtos: []string{wire.ALPN}, MinVersion: tls.VersionTLS13,
	})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { _ = c.Close() })
	require.NoError(h.t, c.SetDeadline(time.Now().Add(patience)))
	return &peer{t: h.t, conn: wire.NewConn(c)}
}

func (p *peer) send(frames ...[]byte) {
	for _, f := range frames {
		require.NoError(p.t, p.conn.Send(f))
	}
}

func (p *peer) hello(change func(*wire.Hello)) {
	m := wire.Hello{Versions: wire.Versions, Agent: "test", Disks: disks}
	if change != nil {
		change(&m)
	}
	b, err := wire.Message(wire.TypeHello, 0, 0, 0, 0, m)
	require.NoError(p.t, err)
	p.send(b)
}

func (p *peer) receive() wire.Frame {
	f, buf, err := p.conn.Receive(p.buf)
	require.NoError(p.t, err)
	p.buf = buf
	return f
}

func (p *peer) welcomed() wire.Welcome {
	var w wire.Welcome
	f := p.receive()
	require.Equal(p.t, wire.TypeWelcome, f.Type, "%s", f.Bytes[wire.HeaderSize:])
	require.NoError(p.t, f.Unmarshal(&w))
	return w
}

// refused skips acknowledgements.
func (p *peer) refused() error {
	for {
		f := p.receive()
		if f.Type == wire.TypeAck {
			continue
		}
		var r wire.Refusal
		require.Equal(p.t, wire.TypeRefuse, f.Type)
		require.NoError(p.t, f.Unmarshal(&r))
		_, _, err := p.conn.Receive(nil)
		require.Error(p.t, err, "the connection stays open after a refusal")
		_ = p.conn.Close()
		return r.Err()
	}
}

// acked reads until n frames of this connection are acknowledged, and returns the durable position.
func (p *peer) acked(n uint64) uint64 {
	for {
		f := p.receive()
		require.Equal(p.t, wire.TypeAck, f.Type)
		require.LessOrEqual(p.t, f.First, n, "more was acknowledged than sent")
		if f.First == n {
			return f.Last
		}
	}
}

func openEpoch(t *testing.T, epoch, first uint64) []byte {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, 1, wire.EpochOpen{Capture: "cafe", Disks: disks})
	require.NoError(t, err)
	return b
}

func data(epoch, pos, sector uint64, fill byte) []byte {
	var b wire.Builder
	b.Reset(wire.TypeData, epoch)
	content := make([]byte, 4096)
	for i := range content {
		content[i] = fill ^ byte(i*i>>3)
	}
	b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: pos, Sector: sector, Bytes: 4096, Time: int64(pos)}, content)
	return b.Finish(nil)
}

func baselineDone(epoch, pos uint64) []byte {
	return wire.Control(wire.TypeBaselineDone, epoch, pos, pos, int64(pos))
}
