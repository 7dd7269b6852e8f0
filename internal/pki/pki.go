// Package pki is the deployment's own certificate authority: it makes the servers' certificates, signs
// agents' requests and says which source server a TLS peer is. internal/app, internal/agentapi and
// internal/replicate/sink import it.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Validity of what the authority signs. Certificates begin a little in the past, for clocks that are behind.
const (
	caValidity     = 20 * 365 * 24 * time.Hour
	serverValidity = 365 * 24 * time.Hour
	// AgentValidity is how long an agent's certificate is good.
	AgentValidity = 365 * 24 * time.Hour
	backdate      = time.Hour
	// renewBefore: a server certificate with less time left is made anew.
	renewBefore = 30 * 24 * time.Hour
)

// Authority is a certificate authority. It may be used by many goroutines.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	dir  string
}

// Open loads the authority under dir, making it the first time: the certificate in ca.pem, which clients
// need, and the key in ca.key, which only its owner can read.
func Open(dir string) (*Authority, error) {
	const op = "pki: open"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	certPath, keyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	haveCert, haveKey := exists(certPath), exists(keyPath)
	if haveCert && !haveKey {
		return nil, fault.New(fault.Corruption, op, "%s is there but %s is not", certPath, keyPath).
			WithHint("restore the key from a backup; without it no agent's certificate can be renewed")
	}
	if !haveKey {
		if err := createKey(keyPath); err != nil {
			return nil, fault.Wrap(op, err)
		}
	}
	if !haveCert { // a crash may have come between the two
		if err := createCertificate(certPath, keyPath); err != nil {
			return nil, fault.Wrap(op, err)
		}
	}
	pair, bundle, err := load(certPath, keyPath)
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	a := &Authority{cert: pair.Leaf, pem: bundle, dir: dir}
	var ok bool
	if a.key, ok = pair.PrivateKey.(*ecdsa.PrivateKey); !ok || !a.cert.IsCA {
		return nil, fault.New(fault.Corruption, op, "%s does not hold an ECDSA certificate authority", certPath)
	}
	return a, nil
}

// exists is true in doubt: what cannot be looked at must not be made anew.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func createKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // P-256: every TLS client there is knows it
	if err != nil {
		return fault.New(fault.Unknown, "pki: create key", "%w", err)
	}
	block, err := keyPEM(key)
	if err != nil {
		return err
	}
	return replace(path, block, 0o600)
}

func createCertificate(path, keyPath string) error {
	const op = "pki: create certificate"
	key, err := loadKey(keyPath)
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Understudy CA", Organization: []string{"Understudy"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	return replace(path, certPEM(der), 0o644)
}

// CertificatePEM is the authority's certificate, for clients to trust.
func (a *Authority) CertificatePEM() []byte { return slices.Clone(a.pem) }

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Server is the certificate for serving under the given hosts (names or addresses) besides localhost
// and the machine's own name. It is kept under the authority's directory and made anew when it is about
// to expire, lacks a host or was signed by another authority.
func (a *Authority) Server(hosts ...string) (tls.Certificate, error) {
	const op = "pki: server certificate"
	path := filepath.Join(a.dir, "server.pem")
	names := serverNames(hosts)
	if pair, _, err := load(path, path); err == nil && a.serves(pair.Leaf, names) {
		return pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fault.New(fault.Unknown, op, "%w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "Understudy", Organization: []string{"Understudy"}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(serverValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, fault.New(fault.Unknown, op, "%w", err)
	}
	block, err := keyPEM(key)
	if err != nil {
		return tls.Certificate{}, fault.Wrap(op, err)
	}
	// One file for both, so that they cannot part in a crash.
	if err := replace(path, append(block, certPEM(der)...), 0o600); err != nil {
		return tls.Certificate{}, fault.Wrap(op, err)
	}
	pair, _, err := load(path, path)
	return pair, fault.Wrap(op, err)
}

func (a *Authority) serves(c *x509.Certificate, names []string) bool {
	if time.Until(c.NotAfter) < renewBefore || c.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return c.VerifyHostname(n) != nil })
}

// serverNames adds what every server is reached by. Wildcard listen addresses are no names.
func serverNames(hosts []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && h != "" {
		names = append(names, h)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); h == "" || ip != nil && ip.IsUnspecified() {
			continue
		}
		names = append(names, h)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[0] &= 0x7f           // positive
	b[0] |= 0x40           // and of full length
	return new(big.Int).SetBytes(b[:])
}
