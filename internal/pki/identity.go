package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ID is who an agent's certificate says it is. It travels as the URI
// understudy:source-server/<account>/<service>/<server>.
type ID struct {
	Account, Service, Server string
}

const uriScheme = "understudy"

var uriOpaque = regexp.MustCompile(`^source-server/([0-9]{12})/(drs|mgn)/(s-[0-9a-f]{17})$`)

func (id ID) opaque() string {
	return strings.Join([]string{"source-server", id.Account, id.Service, id.Server}, "/")
}

// URI is the identity as a certificate carries it.
func (id ID) URI() string { return uriScheme + ":" + id.opaque() }

func parseID(u *url.URL) (ID, bool) {
	m := uriOpaque.FindStringSubmatch(u.Opaque)
	if u.Scheme != uriScheme || m == nil || u.RawQuery != "" || u.Fragment != "" {
		return ID{}, false
	}
	return ID{m[1], m[2], m[3]}, true
}

// SignAgent signs an agent's certificate request for id. Nothing but the public key is taken from the
// request.
func (a *Authority) SignAgent(csrPEM []byte, id ID) ([]byte, error) {
	const op = "pki: sign agent"
	if _, ok := parseID(&url.URL{Scheme: uriScheme, Opaque: id.opaque()}); !ok {
		return nil, fault.New(fault.Bug, op, "identity %q", id.URI())
	}
	key, err := parseRequest(csrPEM)
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: id.Server, Organization: []string{"Understudy"}},
		URIs:         []*url.URL{{Scheme: uriScheme, Opaque: id.opaque()}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(AgentValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key, a.key)
	if err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	return certPEM(der), nil
}

// CheckRequest tells whether SignAgent would sign a request.
func CheckRequest(csrPEM []byte) error {
	_, err := parseRequest(csrPEM)
	return err
}

func parseRequest(csrPEM []byte) (*ecdsa.PublicKey, error) {
	const op = "pki: certificate request"
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fault.New(fault.Invalid, op, "no certificate request in the PEM data")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fault.New(fault.Invalid, op, "the key must be ECDSA P-256")
	}
	return key, nil
}

// PeerSourceServer is the source server at the other end of a connection whose client certificate TLS
// has verified (ServerTLS, AgentsTLS). fault.Denied when there is none, or when it has expired since: connections may
// last longer than certificates.
func PeerSourceServer(c *tls.ConnectionState) (ID, error) {
	const op = "pki: peer"
	if c == nil || len(c.VerifiedChains) == 0 || len(c.VerifiedChains[0]) == 0 {
		return ID{}, fault.New(fault.Denied, op, "no verified client certificate").
			WithHint("the agent must present the certificate it got at registration")
	}
	leaf := c.VerifiedChains[0][0]
	if time.Now().After(leaf.NotAfter) {
		return ID{}, fault.New(fault.Denied, op, "the client certificate of %q has expired at %s", leaf.Subject, leaf.NotAfter.UTC().Format(time.RFC3339)).
			WithHint("register the agent again: that gives it a new one")
	}
	if len(leaf.URIs) == 1 {
		if id, ok := parseID(leaf.URIs[0]); ok {
			return id, nil
		}
	}
	return ID{}, fault.New(fault.Denied, op, "the client certificate %q names no source server", leaf.Subject)
}

// NewAgentKey makes an agent's key and the request for its certificate, both PEM.
func NewAgentKey() (key, csr []byte, err error) {
	const op = "pki: new agent key"
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fault.New(fault.Unknown, op, "%w", err)
	}
	if key, err = keyPEM(private); err != nil {
		return nil, nil, fault.Wrap(op, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
	if err != nil {
		return nil, nil, fault.New(fault.Unknown, op, "%w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
