// Package operator is the command line's side of Understudy's own operations: what may be recovered, and the disks
// of a source server at a chosen instant, as NBD or as an image file. Only cmd/understudy imports it.
package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/nbd"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// Options say where the server is and who is asking. What is empty comes from the AWS environment variables and the
// shared configuration files, as with any AWS client.
type Options struct {
	Endpoint string // https://host:port; AWS_ENDPOINT_URL when empty
	CACert   string // PEM file; AWS_CA_BUNDLE when empty
	Region   string
	Profile  string
}

// Client calls one Understudy server.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient resolves credentials, region and endpoint. It does not connect yet.
func NewClient(ctx context.Context, o Options) (*Client, error) {
	roots, err := trustedRoots(o.CACert) // before the SDK meets a bad AWS_CA_BUNDLE and says less
	if err != nil {
		return nil, err
	}
	var load []func(*config.LoadOptions) error
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration", "%w", err).WithHint("check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE")
	}
	base, err := endpoint(o, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, fault.New(fault.Invalid, "configuration", "no region").WithHint("give --region or set AWS_REGION")
	}
	// HTTP/2 has no Upgrade, so volumes need HTTP/1.1; nothing else here would gain from HTTP/2.
	plain := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
	signed := &sigv4.Transport{Base: plain, Credentials: cfg.Credentials, Service: schema.Service, Region: cfg.Region}
	return &Client{base: base, http: &http.Client{Transport: signed}}, nil
}

func endpoint(o Options, cfg aws.Config) (*url.URL, error) {
	raw := o.Endpoint
	if raw == "" {
		raw = aws.ToString(cfg.BaseEndpoint)
	}
	if raw == "" {
		return nil, fault.New(fault.Invalid, "configuration", "no endpoint").WithHint("give --endpoint https://host:8480 or set AWS_ENDPOINT_URL")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fault.New(fault.Invalid, "configuration", "%q is no endpoint", raw).WithHint("it looks like https://host:8480")
	}
	return u, nil
}

func trustedRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		file = os.Getenv("AWS_CA_BUNDLE")
	}
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration", "%w", err).WithHint("--ca-cert (or AWS_CA_BUNDLE) names the server's DATA-DIR/pki/ca.pem")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "configuration", "no certificate in %s", file)
	}
	return pool, nil
}

// Choice names an instant; exactly one member is set.
type Choice struct {
	At       time.Time
	Point    string
	Position uint64
	Latest   bool
}

func (c Choice) query() (url.Values, error) {
	q := url.Values{}
	if !c.At.IsZero() {
		q.Set(schema.ParamAt, c.At.UTC().Format(time.RFC3339Nano))
	}
	if c.Point != "" {
		q.Set(schema.ParamPoint, c.Point)
	}
	if c.Position != 0 {
		q.Set(schema.ParamPosition, strconv.FormatUint(c.Position, 10))
	}
	if c.Latest {
		q.Set(schema.ParamLatest, "true")
	}
	if len(q) != 1 {
		return nil, fault.New(fault.Invalid, "choice of an instant", "exactly one of --at, --point, --position and --latest is needed")
	}
	return q, nil
}

// Points lists what may be recovered.
func (c *Client) Points(ctx context.Context, server string) (schema.Points, error) {
	var out schema.Points
	return out, c.get(ctx, schema.PathPoints, server, nil, &out)
}

// Resolve makes a choice exact, so that several disks are read at the same position.
func (c *Client) Resolve(ctx context.Context, server string, choice Choice) (schema.Resolved, error) {
	var out schema.Resolved
	q, err := choice.query()
	if err != nil {
		return out, err
	}
	return out, c.get(ctx, schema.PathResolve, server, q, &out)
}

// DialVolume opens a connection that speaks NBD for one disk at a position.
func (c *Client) DialVolume(ctx context.Context, server, device string, position uint64) (net.Conn, error) {
	q := url.Values{schema.ParamDevice: {device}, schema.ParamPosition: {strconv.FormatUint(position, 10)}}
	req, err := c.request(ctx, schema.PathVolume, server, q)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", schema.UpgradeNBD)
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	stream, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		resp.Body.Close()
		return nil, fault.New(fault.Unsupported, "open volume", "the endpoint answered %s instead of switching to NBD", resp.Status).
			WithHint("a proxy in between may not pass Upgrade; connect to the server itself")
	}
	return streamConn{stream}, nil
}

// OpenVolume is DialVolume with the NBD handshake done.
func (c *Client) OpenVolume(ctx context.Context, server, device string, position uint64) (*nbd.Client, error) {
	conn, err := c.DialVolume(ctx, server, device, position)
	if err != nil {
		return nil, err
	}
	client, err := nbd.NewClient(ctx, conn, nbd.ClientConfig{})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return client, nil
}

func (c *Client) request(ctx context.Context, path, server string, q url.Values) (*http.Request, error) {
	u := c.base.JoinPath(strings.Replace(path, "{server}", url.PathEscape(server), 1))
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "request", "%w", err)
	}
	return req, nil
}

func (c *Client) get(ctx context.Context, path, server string, q url.Values, out any) error {
	req, err := c.request(ctx, path, server, q)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fault.New(fault.Transient, "read the answer of "+c.base.Host, "%w", err)
	}
	return nil
}

// do sends and turns an error answer into a fault.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return nil, f // it was never sent
	}
	if err != nil {
		return nil, fault.New(fault.Transient, "connect to "+c.base.Host, "%w", err).
			WithHint("is the server running, and does --ca-cert (or AWS_CA_BUNDLE) name its DATA-DIR/pki/ca.pem?")
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fault.New(fault.Transient, "read the answer of "+c.base.Host, "%w", err)
	}
	return nil, refusal(c.base.Host, resp, body)
}

// refusal is an error answer as a fault. The endpoint answers in AWS's form, which names no kind, when it has not got
// to know who asks.
func refusal(host string, resp *http.Response, body []byte) error {
	var e schema.Error
	if json.Unmarshal(body, &e) != nil || e.Message == "" {
		return fault.New(kindOf(resp.StatusCode), host+" answered "+resp.Status, "%s", strings.TrimSpace(string(body)))
	}
	if e.Kind == "" {
		return fault.New(kindOf(resp.StatusCode), "", "%s", e.Message)
	}
	return fault.New(fault.ParseKind(e.Kind), "", "%s", e.Message)
}

func kindOf(status int) fault.Kind {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fault.Denied
	case status == http.StatusNotFound:
		return fault.NotFound
	case status < 500:
		return fault.Invalid
	}
	return fault.Transient
}

// streamConn makes the body of a 101 answer a net.Conn. It has no deadlines: closing it ends whatever waits on it.
type streamConn struct{ io.ReadWriteCloser }

func (streamConn) LocalAddr() net.Addr              { return streamAddr{} }
func (streamConn) RemoteAddr() net.Addr             { return streamAddr{} }
func (streamConn) SetDeadline(time.Time) error      { return nil }
func (streamConn) SetReadDeadline(time.Time) error  { return nil }
func (streamConn) SetWriteDeadline(time.Time) error { return nil }

type streamAddr struct{}

func (streamAddr) Network() string { return "http" }
func (streamAddr) String() string  { return "upgraded connection" }
