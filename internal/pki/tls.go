package pki

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ServerTLS is for the control port: API clients have no certificate, agents have one, and one that is
// shown must verify. Whoever resumes a session brings the certificate of its first handshake along, in a ticket
// that only this process can read, and it is judged anew: a session ends with what it was founded on.
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

// sessions is how many sessions a client remembers, one for each address that it speaks to. Resuming one costs neither side a
// signature, which counts when thousands come back at once.
const sessions = 4

// ClientTLS trusts the authority in caPEM alone. certPEM and keyPEM are the agent's; both empty for
// a client without a certificate, as one that registers.
func ClientTLS(caPEM, certPEM, keyPEM []byte) (*tls.Config, error) {
	const op = "pki: client"
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool(), ClientSessionCache: tls.NewLRUClientSessionCache(sessions)}
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
