package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Launch binds the data port; Run serves it. It is idempotent.
func (s *Server) Launch(ctx context.Context) (reused bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return false, fault.New(fault.Conflict, "sink: launch", "the server has stopped")
	case s.listener != nil:
		return true, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.c.Listen)
	if err != nil {
		return false, fault.New(fault.Transient, "sink: launch", "%w", err).WithHint("see what else uses the data port")
	}
	s.listener = l
	close(s.launched)
	return false, nil
}

// Address is where agents dial; "" before Launch.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.listener == nil:
		return ""
	case s.c.Advertise != "":
		return s.c.Advertise
	}
	return s.listener.Addr().String()
}

// Run serves connections from Launch on until ctx ends; then it ends connections first, journals after.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	twice := s.running || s.stopped
	s.running = true
	s.mu.Unlock()
	if twice {
		return fault.New(fault.Bug, "sink: run", "it ran before")
	}
	ctx, cancel := context.WithCancel(ctx)
	var upkeep sync.WaitGroup
	upkeep.Go(func() { s.care.run(ctx) })
	err := s.serve(ctx)
	cancel()
	upkeep.Wait()
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	return errors.Join(err, s.Close())
}

func (s *Server) serve(ctx context.Context) error {
	select {
	case <-s.launched:
	case <-ctx.Done():
		return nil
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	unblock := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer unblock()
	for {
		c, err := s.listener.Accept()
		switch {
		case err == nil:
			conns.Go(func() { s.handle(ctx, c) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fault.New(fault.Bug, "sink: accept", "%w", err)
		default: // out of descriptors, most likely
			s.log.Warn("sink: accept", "err", err)
			pause(ctx, time.Second)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Close lets go of everything; Run does it too. It is idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return fault.New(fault.Conflict, "sink: close", "still running")
	}
	s.stopped = true
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fault.New(fault.Transient, "sink: close", "%w", err))
		}
	}
	replicas := make([]*replica, 0, len(s.replicas))
	for _, r := range s.replicas {
		replicas = append(replicas, r)
	}
	s.mu.Unlock()
	for _, r := range replicas {
		errs = append(errs, r.detach(errStopping))
	}
	return errors.Join(errs...)
}

var errStopping = fault.New(fault.Transient, "sink", "the replication server is stopping")

// Boot dials the data port and sees this server's certificate answer.
func (s *Server) Boot(ctx context.Context) error {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return fault.New(fault.Conflict, "sink: boot", "not launched")
	}
	own, err := s.certificate()
	if err != nil {
		return err
	}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{wire.ALPN},
		InsecureSkipVerify: true, // whether it verifies is Authenticate's question; here it must be ours
	}}
	c, err := d.DialContext(ctx, "tcp", dialable(l.Addr()))
	if err != nil {
		return fault.New(fault.Transient, "sink: boot", "the data port does not answer: %w", err)
	}
	defer func() { _ = c.Close() }()
	peer := c.(*tls.Conn).ConnectionState().PeerCertificates
	if len(peer) == 0 || !bytes.Equal(peer[0].Raw, own.Certificate[0]) {
		return fault.New(fault.Conflict, "sink: boot", "somebody else answers on the data port")
	}
	return nil
}

// dialable turns the wildcard address into one that reaches this host.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	local := *t
	local.IP = net.IPv4(127, 0, 0, 1)
	return local.String()
}

func (s *Server) certificate() (*tls.Certificate, error) {
	if len(s.tls.Certificates) > 0 {
		return &s.tls.Certificates[0], nil
	}
	if s.tls.GetCertificate != nil {
		c, err := s.tls.GetCertificate(&tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}})
		if err == nil && c != nil && len(c.Certificate) > 0 {
			return c, nil
		}
	}
	return nil, fault.New(fault.Denied, "sink: certificate", "there is none").WithHint("give the replication server a certificate")
}

// Authenticate verifies the server's own certificate.
func (s *Server) Authenticate(context.Context) error {
	own, err := s.certificate()
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		return fault.New(fault.Denied, "sink: certificate", "%w", err)
	}
	between := x509.NewCertPool()
	for _, der := range own.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: s.c.Roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fault.New(fault.Denied, "sink: certificate", "%w", err).WithHint("issue the replication server a new certificate")
	}
	return nil
}

// CheckSoftware tells whether an agent that speaks these wire versions can be served.
func (s *Server) CheckSoftware(_ context.Context, agentVersions []uint32) error {
	_, err := wire.Choose(agentVersions)
	return err
}
