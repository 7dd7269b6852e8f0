// Package simulate makes many agents of one process: each registers as a machine of its own, gets its own
// certificate and handshakes over its own connection, as an agent does, but has no disks. It shows how a
// server carries a fleet before there is one. Only cmd/understudy imports it.
package simulate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// Config of a run.
type Config struct {
	Endpoint string // these four as for any AWS client, where they are empty
	CACert   string // PEM file
	Region   string
	Profile  string

	Count     int
	Service   string        // drs or mgn
	Name      string        // begins the machines' identities: the same name is the same fleet
	Replicate bool          // register to replicate; else STOPPED
	Register  float64       // registrations a second
	Every     time.Duration // between two handshakes of an agent; 0 is what the server tells it
	Settle    time.Duration // how long they handshake before anything is measured: each connects, at its first
	For       time.Duration // how long they handshake then
	Probe     time.Duration // between two pages of source servers asked for meanwhile; 0 asks for none
	Progress  time.Duration // between two lines of progress; 0 prints none
	Log       *slog.Logger
}

func (c Config) check() error {
	switch {
	case c.Count < 1 || c.Count > 1_000_000:
		return fault.New(fault.Invalid, "--count", "%d is no number of agents", c.Count)
	case c.Register <= 0:
		return fault.New(fault.Invalid, "--register-rate", "%v is no rate", c.Register)
	case c.For <= 0 || c.Every < 0 || c.Settle < 0:
		return fault.New(fault.Invalid, "--for", "a run takes some time, and handshakes come after one another")
	}
	return nil
}

// complete takes what is not given from the environment and the shared configuration files.
func (c *Config) complete(ctx context.Context) (aws.CredentialsProvider, error) {
	var load []func(*config.LoadOptions) error
	if c.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(c.Profile))
	}
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	found, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration", "%w", err)
	}
	c.Endpoint, c.Region = cmp.Or(c.Endpoint, aws.ToString(found.BaseEndpoint)), found.Region
	c.CACert = cmp.Or(c.CACert, os.Getenv("AWS_CA_BUNDLE"))
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "--endpoint", "%q is no https:// address", c.Endpoint).WithHint("agents always speak TLS; it looks like https://server:8480")
	}
	if c.Region == "" {
		return nil, fault.New(fault.Invalid, "configuration", "no region").WithHint("give --region or set AWS_REGION")
	}
	return found.Credentials, nil
}

// Report is what a run came to. Latencies are of answers, errors apart.
type Report struct {
	Agents        int               `json:"agents"`
	Seconds       float64           `json:"seconds"` // of handshaking
	Registration  Summary           `json:"registration"`
	PerSecond     float64           `json:"handshakesPerSecond"`
	Handshake     Summary           `json:"handshake"`
	Probe         *Summary          `json:"describeSourceServers,omitempty"`
	FirstFailures map[string]string `json:"firstFailures,omitempty"` // of each kind, by what failed
}

// Run registers the fleet, lets it handshake for a while and reports. When ctx ends early, so does the run,
// with a report of what was until then.
func Run(ctx context.Context, c Config) (Report, error) {
	if err := c.check(); err != nil {
		return Report{}, err
	}
	credentials, err := c.complete(ctx)
	if err != nil {
		return Report{}, err
	}
	ca, err := os.ReadFile(c.CACert)
	if err != nil {
		return Report{}, fault.New(fault.Invalid, "--ca-cert", "%w", err).WithHint("it is DATA-DIR/pki/ca.pem of the server")
	}
	f := &fleet{cfg: c, ca: ca, failures: map[string]string{}}
	if f.signed, err = f.signer(credentials); err != nil {
		return Report{}, err
	}
	agents, err := f.register(ctx)
	if err != nil {
		return Report{}, err
	}
	return f.report(f.handshake(ctx, agents)), nil
}

// fleet is a run under way.
type fleet struct {
	cfg    Config
	ca     []byte
	signed *http.Client // with the operator's credentials

	registered, handshakes, probes histogram

	mu       sync.Mutex
	failures map[string]string
}

// signer is a client for what access keys sign: registrations and the probe.
func (f *fleet) signer(credentials aws.CredentialsProvider) (*http.Client, error) {
	tlsConfig, err := pki.ClientTLS(f.ca, nil, nil)
	if err != nil {
		return nil, err
	}
	base := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}
	return &http.Client{Transport: &sigv4.Transport{Base: base, Credentials: credentials, Service: schema.Service, Region: f.cfg.Region}}, nil
}

const registering = 8 // at a time

// register enrols all agents. One that cannot be enrolled ends the run: a smaller fleet proves nothing.
func (f *fleet) register(ctx context.Context) ([]*agent, error) {
	agents := make([]*agent, f.cfg.Count)
	client := agentpbconnect.NewAgentServiceClient(f.signed, f.cfg.Endpoint)
	limit := rate.NewLimiter(rate.Limit(f.cfg.Register), registering)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(registering)
	stop := f.every(inner, f.cfg.Progress, func() {
		f.cfg.Log.Info("registering", "agents", f.registered.count(), "of", f.cfg.Count)
	})
	for i := range agents {
		if limit.Wait(inner) != nil {
			break
		}
		group.Go(func() (err error) {
			agents[i], err = f.enrol(inner, client, i)
			return err
		})
	}
	err := group.Wait()
	stop()
	if err == nil {
		err = ctx.Err()
	}
	return agents, err
}

// handshake lets all agents handshake, and probes the API meanwhile. It tells how long it measured.
func (f *fleet) handshake(ctx context.Context, agents []*agent) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Settle+f.cfg.For)
	defer cancel()
	began := time.Now()
	var all sync.WaitGroup
	for i, a := range agents {
		all.Go(func() { a.run(ctx, f.spread(i)) })
	}
	if f.cfg.Settle > 0 {
		all.Go(func() {
			if pause(ctx, f.cfg.Settle) == nil {
				began = time.Now()
				f.measure()
			}
		})
	}
	stopProbe := f.every(ctx, f.cfg.Probe, func() { f.probe(ctx) })
	stop := f.every(ctx, f.cfg.Progress, func() {
		s := f.handshakes.summary()
		f.cfg.Log.Info("handshaking", "handshakes", s.Count, "errors", s.Errors, "p50_ms", s.P50, "p99_ms", s.P99)
	})
	all.Wait()
	took := time.Since(began)
	stopProbe()
	stop()
	for _, a := range agents {
		a.transport.CloseIdleConnections()
	}
	return took
}

// measure forgets what was until now.
func (f *fleet) measure() {
	f.handshakes.reset()
	f.probes.reset()
	f.mu.Lock()
	clear(f.failures)
	f.mu.Unlock()
	f.cfg.Log.Info("measuring")
}

// spread is when an agent handshakes first: a fleet that was installed over time does not come all at once. While it settles
// it takes that time to connect, with a quarter to spare.
func (f *fleet) spread(i int) time.Duration {
	over := f.cfg.Every
	if over == 0 {
		over = defaultEvery
	}
	return max(over, f.cfg.Settle/4*3) * time.Duration(i) / time.Duration(f.cfg.Count)
}

// every calls fn at intervals, in a goroutine that the returned function ends and waits for.
func (f *fleet) every(ctx context.Context, interval time.Duration, fn func()) (stop func()) {
	if interval <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				fn()
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// failed counts a failure, and keeps the first of its kind. What ends with the run is none.
func (f *fleet) failed(ctx context.Context, h *histogram, what string, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	h.fail()
	f.mu.Lock()
	defer f.mu.Unlock()
	key := what + ": " + fault.KindOf(err).String()
	if _, ok := f.failures[key]; !ok {
		f.failures[key] = err.Error()
	}
}

func (f *fleet) report(took time.Duration) Report {
	r := Report{Agents: f.cfg.Count, Seconds: took.Seconds(), Registration: f.registered.summary(), Handshake: f.handshakes.summary(),
		FirstFailures: f.failures}
	r.PerSecond = float64(r.Handshake.Count) / took.Seconds()
	if f.cfg.Probe > 0 {
		s := f.probes.summary()
		r.Probe = &s
	}
	return r
}
