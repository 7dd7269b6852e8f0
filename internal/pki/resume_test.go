package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// port is one server's side of connections that come one after another.
type port struct {
	net.Listener
	config *tls.Config
}

func openPort(t *testing.T, c *tls.Config) *port {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return &port{l, c}
}

// connect is one connection: what the server saw of it, and what became of it at both ends.
func (p *port) connect(t *testing.T, client *tls.Config) (seen tls.ConnectionState, server, agent error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", p.Addr().String(), client)
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // the ticket comes with it
			c.Close()
		}
		done <- err
	}()
	raw, err := p.Accept()
	require.NoError(t, err)
	c := tls.Server(raw, p.config)
	if server = c.HandshakeContext(t.Context()); server == nil {
		_, server = c.Write([]byte("!"))
	}
	seen = c.ConnectionState()
	defer raw.Close()
	if server != nil {
		raw.Close()
	}
	return seen, server, <-done
}

func agentOf(t *testing.T, a *Authority) *tls.Config {
	t.Helper()
	key, csr, err := NewAgentKey()
	require.NoError(t, err)
	cert, err := a.SignAgent(csr, someone)
	require.NoError(t, err)
	c, err := ClientTLS(a.CertificatePEM(), cert, key)
	require.NoError(t, err)
	c.ServerName = "localhost"
	return c
}

// TestSessionsAreResumed: an agent that comes back is known without another signature, and known as who it was.
func TestSessionsAreResumed(t *testing.T) {
	a := authority(t)
	pair, err := a.Server()
	require.NoError(t, err)
	for name, config := range map[string]*tls.Config{"control port": a.ServerTLS(pair), "data port": a.AgentsTLS(pair)} {
		t.Run(name, func(t *testing.T) {
			p, agent := openPort(t, config), agentOf(t, a)
			for n := range 5 {
				seen, server, client := p.connect(t, agent)
				require.NoError(t, server)
				require.NoError(t, client)
				require.Equal(t, n > 0, seen.DidResume, "connection %d", n)
				id, err := PeerSourceServer(&seen)
				require.NoError(t, err)
				require.Equal(t, someone, id)
			}
			other := agentOf(t, a)
			seen, server, client := p.connect(t, other)
			require.NoError(t, server)
			require.NoError(t, client)
			require.False(t, seen.DidResume, "a session belongs to whoever began it")
		})
	}
}

// TestResumedSessionsAreJudgedAnew: a session does not outlive the certificate that it was founded on, nor the trust in who
// signed that; and no registration without a certificate is resumed as an agent.
func TestResumedSessionsAreJudgedAnew(t *testing.T) {
	a := authority(t)
	pair, err := a.Server()
	require.NoError(t, err)
	config := a.ServerTLS(pair)
	p, agent := openPort(t, config), agentOf(t, a)
	first := func() {
		_, server, client := p.connect(t, agent)
		require.NoError(t, server)
		require.NoError(t, client)
	}
	first()
	config.Time = func() time.Time { return time.Now().Add(AgentValidity + time.Hour) }
	seen, server, _ := p.connect(t, agent)
	require.ErrorContains(t, server, "expired")
	require.False(t, seen.DidResume)

	config.Time = nil
	agent.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	first()
	config.ClientCAs = authority(t).Pool() // this authority is trusted no more
	seen, _, _ = p.connect(t, agent)
	require.False(t, seen.DidResume)
	_, err = PeerSourceServer(&seen)
	require.True(t, fault.Is(err, fault.Denied), "%v", err)

	config.ClientCAs = a.Pool()
	stranger, err := ClientTLS(a.CertificatePEM(), nil, nil)
	require.NoError(t, err)
	stranger.ServerName = "localhost"
	for range 2 {
		seen, server, _ = p.connect(t, stranger)
		require.NoError(t, server)
	}
	require.True(t, seen.DidResume)
	_, err = PeerSourceServer(&seen)
	require.True(t, fault.Is(err, fault.Denied), "%v", err)
}

func TestCertificateExpiresOnAnOpenConnection(t *testing.T) {
	a := authority(t)
	leaf, err := x509.ParseCertificate(agentOf(t, a).Certificates[0].Certificate[0])
	require.NoError(t, err)
	c := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, a.cert}}}
	_, err = PeerSourceServer(c)
	require.NoError(t, err)
	leaf.NotAfter = time.Now().Add(-time.Second)
	_, err = PeerSourceServer(c)
	require.True(t, fault.Is(err, fault.Denied), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))
}
