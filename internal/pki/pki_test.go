package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

var someone = ID{Account: "111122223333", Service: "drs", Server: "s-0123456789abcdef0"}

func authority(t *testing.T) *Authority {
	a, err := Open(t.TempDir())
	require.NoError(t, err)
	return a
}

func TestAuthorityIsMadeOnceAndKeyIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	a, err := Open(dir)
	require.NoError(t, err)
	b, err := Open(dir)
	require.NoError(t, err)
	require.Equal(t, a.CertificatePEM(), b.CertificatePEM())
	_, err = a.Server()
	require.NoError(t, err)
	for _, f := range []string{"ca.key", "server.pem"} {
		info, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f)
	}
	require.NotContains(t, string(a.CertificatePEM()), "PRIVATE")
	require.NoError(t, os.Remove(filepath.Join(dir, "ca.key")))
	_, err = Open(dir)
	require.True(t, fault.Is(err, fault.Corruption), "a CA without its key must not be replaced: %v", err)
}

func TestCrashBetweenKeyAndCertificate(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "ca.pem")))
	b, err := Open(dir)
	require.NoError(t, err)
	require.True(t, a.key.Equal(b.key))
}

func TestServerCertificateIsKeptWhileItServes(t *testing.T) {
	a := authority(t)
	one, err := a.Server("0.0.0.0", "", "10.1.2.3")
	require.NoError(t, err)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "10.1.2.3"} {
		require.NoError(t, one.Leaf.VerifyHostname(name))
	}
	require.Error(t, one.Leaf.VerifyHostname("0.0.0.0"))
	again, err := a.Server("10.1.2.3")
	require.NoError(t, err)
	require.Equal(t, one.Leaf.SerialNumber, again.Leaf.SerialNumber)
	more, err := a.Server("dr.example.com")
	require.NoError(t, err)
	require.NotEqual(t, one.Leaf.SerialNumber, more.Leaf.SerialNumber)
	require.NoError(t, more.Leaf.VerifyHostname("dr.example.com"))
	require.NoError(t, os.Remove(filepath.Join(a.dir, "ca.pem")))
	require.NoError(t, os.Remove(filepath.Join(a.dir, "ca.key")))
	b, err := Open(a.dir)
	require.NoError(t, err)
	fresh, err := b.Server("dr.example.com")
	require.NoError(t, err)
	require.NoError(t, fresh.Leaf.CheckSignatureFrom(b.cert), "another authority needs another certificate")
}

// handshake runs TLS between the two configurations and returns what the server saw.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", l.Addr().String(), client)
		if err == nil {
			_, _ = c.Read(make([]byte, 1)) // TLS 1.3 clients learn of a refusal when they read
			err = c.Close()
		}
		done <- err
	}()
	c, err := l.Accept()
	require.NoError(t, err)
	tc := c.(*tls.Conn)
	err = tc.HandshakeContext(t.Context())
	s := tc.ConnectionState()
	_ = tc.Close()
	<-done
	return s, err
}

func TestPeerIdentity(t *testing.T) {
	a := authority(t)
	pair, err := a.Server()
	require.NoError(t, err)
	key, csr, err := NewAgentKey()
	require.NoError(t, err)
	cert, err := a.SignAgent(csr, someone)
	require.NoError(t, err)
	agent, err := ClientTLS(a.CertificatePEM(), cert, key)
	require.NoError(t, err)
	agent.ServerName = "localhost"
	for _, server := range []*tls.Config{a.ServerTLS(pair), a.AgentsTLS(pair)} {
		seen, err := handshake(t, server, agent)
		require.NoError(t, err)
		id, err := PeerSourceServer(&seen)
		require.NoError(t, err)
		require.Equal(t, someone, id)
	}

	stranger, err := ClientTLS(a.CertificatePEM(), nil, nil)
	require.NoError(t, err)
	stranger.ServerName = "localhost"
	seen, err := handshake(t, a.ServerTLS(pair), stranger)
	require.NoError(t, err, "the control port takes clients without a certificate")
	_, err = PeerSourceServer(&seen)
	require.True(t, fault.Is(err, fault.Denied))
	_, err = handshake(t, a.AgentsTLS(pair), stranger)
	require.Error(t, err, "the data port does not")

	foreign := authority(t)
	cert, err = foreign.SignAgent(csr, someone)
	require.NoError(t, err)
	impostor, err := ClientTLS(a.CertificatePEM(), cert, key)
	require.NoError(t, err)
	impostor.ServerName = "localhost"
	// A polite client would withhold a certificate that the server's list of authorities does not ask for.
	impostor.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &impostor.Certificates[0], nil }
	_, err = handshake(t, a.ServerTLS(pair), impostor)
	require.Error(t, err)

	old := agent.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, err = handshake(t, a.ServerTLS(pair), old)
	require.ErrorContains(t, err, "version")
}

func TestServersCertificateIsNoAgent(t *testing.T) {
	a := authority(t)
	pair, err := a.Server()
	require.NoError(t, err)
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{pair}}
	_, err = handshake(t, a.AgentsTLS(pair), client)
	require.ErrorContains(t, err, "usage")
}

func TestSignAgentTakesOnlyTheKey(t *testing.T) {
	a := authority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs: []*url.URL{{Scheme: uriScheme, Opaque: "source-server/999999999999/drs/s-00000000000000000"}},
	}, key)
	require.NoError(t, err)
	out, err := a.SignAgent(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), someone)
	require.NoError(t, err)
	block, _ := pem.Decode(out)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.Empty(t, c.DNSNames)
	require.Empty(t, c.IPAddresses)
	require.Len(t, c.URIs, 1)
	require.Equal(t, someone.URI(), c.URIs[0].String())
	require.False(t, c.IsCA)

	_, err = a.SignAgent([]byte("rubbish"), someone)
	require.True(t, fault.Is(err, fault.Invalid))
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	require.NoError(t, err)
	_, err = a.SignAgent(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), someone)
	require.True(t, fault.Is(err, fault.Invalid))
	_, err = a.SignAgent(out, ID{"1", "drs", "s-1"})
	require.Error(t, err)
}

func TestParseID(t *testing.T) {
	for _, s := range []string{
		"understudy:source-server/111122223333/ec2/s-0123456789abcdef0",
		"understudy:source-server/111122223333/drs/s-0123456789abcdef0/x",
		"understudy:source-server/111122223333/drs/s-0123456789abcdef0?x",
		"understudy:source-server/1111222233334/drs/s-0123456789abcdef0",
		"https:source-server/111122223333/drs/s-0123456789abcdef0",
		"understudy:source-server/111122223333/drs/../s-0123456789abcdef0",
	} {
		u, err := url.Parse(s)
		require.NoError(t, err)
		_, ok := parseID(u)
		require.False(t, ok, s)
	}
}
