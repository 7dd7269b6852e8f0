package pki

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ServerTLS is for the control port: API clients have no certificate, agents have one, and one that is
// shown must verify.
func (a *Authority) ServerTLS(cert tls.Certificate) *tls.Config {
	c := a.AgentsTLS(cert)
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c
}

// AgentsTLS is for the data port: only agents.
func (a *Authority) AgentsTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    a.Pool(),
	}
}

// ClientTLS trusts the authority in caPEM alone. certPEM and keyPEM are the agent's; both empty for
// a client without a certificate, as one that registers.
func ClientTLS(caPEM, certPEM, keyPEM []byte) (*tls.Config, error) {
	const op = "pki: client"
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(caPEM) {
		return nil, fault.New(fault.Invalid, op, "no CA certificate in the PEM data")
	}
	if len(certPEM) == 0 && len(keyPEM) == 0 {
		return c, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
