package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	dataPort     = "1500"
	portPatience = 10 * time.Second
	// Signatures are refused past maxSkew; recovery points are off by the difference, so small ones are told.
	maxSkew    = 5 * time.Minute
	smallSkew  = 2 * time.Second
	opensPorts = "is the server running, and do the firewalls in between let this machine through?"
)

// network examines both ports of the server, and the clocks.
func (d *Diagnosis) network(ctx context.Context, e Examination) {
	if err := checkEndpoint(e.Endpoint); err != nil {
		d.check("control port", "", err)
		return
	}
	tlsConfig, err := serverTLS(e.CACert)
	if err != nil {
		d.check("control port", "", err)
		return
	}
	ahead, exact, err := askClock(ctx, tlsConfig, e)
	d.check("control port", e.Endpoint, err)
	if err == nil && exact {
		d.clock(ahead)
	}
	address := e.DataAddress
	if u, err := url.Parse(e.Endpoint); address == "" && err == nil {
		address = net.JoinHostPort(u.Hostname(), dataPort)
	}
	err = dialData(ctx, tlsConfig, address)
	if errors.Is(err, syscall.ECONNREFUSED) { // the host answers: a server opens the port for its first agent
		d.add(Check{"data port", Warning, address + " is closed", "nothing if no agent has replicated to this server yet; else look at its log and at the firewalls"})
		return
	}
	d.check("data port", address, err)
}

func (d *Diagnosis) clock(ahead time.Duration) {
	found := fmt.Sprintf("%s apart from the server's", ahead.Abs().Round(100*time.Millisecond))
	const do = "set this machine's clock, or the server's; run NTP on both"
	switch {
	case ahead.Abs() > maxSkew:
		d.add(Check{"clock", Failed, found, do})
	case ahead.Abs() > smallSkew:
		d.add(Check{"clock", Warning, found, do})
	default:
		d.good("clock", found)
	}
}

// serverTLS trusts the server's own authority.
func serverTLS(caCert string) (*tls.Config, error) {
	ca, err := os.ReadFile(caCert)
	if err != nil {
		return nil, fault.New(fault.Invalid, "agent: --ca-cert", "%w", err).WithHint("copy DATA-DIR/pki/ca.pem from the server")
	}
	return pki.ClientTLS(ca, nil, nil)
}

// askClock asks the control port anything at all: every answer has a date. How far this machine's clock is ahead of it
// is known to half a second.
func askClock(ctx context.Context, c *tls.Config, e Examination) (ahead time.Duration, exact bool, err error) {
	proxy, err := proxyOf(e.ProxyAddress)
	if err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: c, Proxy: proxy}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, e.Endpoint, nil)
	if err != nil {
		return 0, false, fault.New(fault.Invalid, "agent: --endpoint", "%w", err)
	}
	began := time.Now()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, false, unreachable("control port", err)
	}
	resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	middle := began.Add(time.Since(began) / 2)
	return middle.Sub(date.Add(time.Second / 2)), err == nil, nil
}

// dialData connects to the data port and makes sure that it is the server's, and that nobody opens the TLS in between.
func dialData(ctx context.Context, c *tls.Config, address string) error {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	c = c.Clone()
	c.NextProtos = []string{wire.ALPN}
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return unreachable("data port", err)
	}
	conn.Close()
	return nil
}

func unreachable(what string, err error) error {
	hint := opensPorts
	if strings.Contains(err.Error(), "x509:") || strings.Contains(err.Error(), "certificate") {
		hint = "does --ca-cert name this server's DATA-DIR/pki/ca.pem, and does nothing in between open TLS connections?"
	}
	return fault.New(fault.Transient, "agent: "+what, "%w", err).WithHint(hint)
}

// proxyOf is the proxy to the control port: the one that was given, or the environment's. Data goes straight.
func proxyOf(address string) (func(*http.Request) (*url.URL, error), error) {
	if address == "" {
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "agent: --proxy-address", "%q is no proxy", address).WithHint("it looks like https://proxy:3128/")
	}
	return http.ProxyURL(u), nil
}
