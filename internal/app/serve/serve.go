// Package serve assembles "understudy serve": control plane, replication server and journals in one process, everything
// it keeps under one directory. It is one of the few places that know everything, and does nothing else. Only
// cmd/understudy imports it.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Config of a server.
type Config struct {
	DataDir      string
	StateURL     string // postgres://...; empty: what the data directory was used with before, else SQLite in it
	Listen       string // control port
	DataListen   string // data port
	Advertise    string // what agents dial for the data port; DataListen when empty
	Region       string
	AccountID    string
	InsecureHTTP bool
	Quotas       map[string]int64 // by code, where they differ from the defaults
	Sizes        string           // file with sizes of one's own
	Networks     string           // file with the launch hosts' networks

	Buckets           string // where users' files are: a directory or s3://?...; empty: buckets in the data directory
	ManagementAccount string // may act for the other accounts in MGN; empty: none may

	MetricsListen   string        // where /metrics and /healthz are; "" for nowhere
	Window          time.Duration // in which every second of a source server is recoverable, unless it has its own
	Reserve         int64         // bytes of the journals' file system that stay free
	SlowBelow       int64         // agents are slowed down with less free than this
	MaintenanceRate int64         // bytes a second that maintenance reads and writes
	ScrubPeriod     time.Duration // in which everything stored is read again
	FlushAfter      time.Duration // what arrives is in layers at the latest after it; 0: a minute with ObjectStore, else ten
	ObjectStore     string        // s3://BUCKET/PREFIX?...: where layers go; empty: the data directory
	ObjectCache     int64         // bytes of what was read from there that are kept in the data directory
	Log             *slog.Logger
}

const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = time.Minute // of a whole request, a megabyte at most
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 10 * time.Second
)

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

func (c Config) check() error {
	if !accountPattern.MatchString(c.AccountID) {
		return fault.New(fault.Invalid, "--account-id", "%q is not twelve digits", c.AccountID)
	}
	if !regionPattern.MatchString(c.Region) {
		return fault.New(fault.Invalid, "--region", "%q is no region name", c.Region)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fault.New(fault.Invalid, "--listen", "%w", err)
	}
	if err := c.checkData(); err != nil {
		return err
	}
	if c.InsecureHTTP {
		return checkInsecure(c.Listen)
	}
	return nil
}

// checkData sees that agents can be told an address to dial.
func (c Config) checkData() error {
	host, _, err := net.SplitHostPort(c.DataListen)
	if err != nil {
		return fault.New(fault.Invalid, "--data-listen", "%w", err)
	}
	if c.Advertise == "" {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return fault.New(fault.Invalid, "--data-listen", "%s is every address of this machine, and none that agents could dial", c.DataListen).
				WithHint("give --advertise HOST:PORT too")
		}
		return nil
	}
	if host, port, err := net.SplitHostPort(c.Advertise); err != nil || host == "" || port == "" {
		return fault.New(fault.Invalid, "--advertise", "%q is not HOST:PORT", c.Advertise)
	}
	return nil
}

// Run serves until ctx ends. Everything it started has ended when it returns.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fault.New(fault.Invalid, "--data-dir", "%w", err)
	}
	lock, err := vfs.OS.Lock(filepath.Join(c.DataDir, "lock"))
	if fault.Is(err, fault.Conflict) {
		return fault.New(fault.Conflict, "--data-dir", "%s is in use by another process", c.DataDir).WithHint("one server runs per data directory")
	}
	if err != nil {
		return fault.New(fault.Invalid, "--data-dir", "%w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	s, err := assemble(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.run(ctx)
}

// run starts what works, waits for ctx or the first failure, and ends the edges before what they use.
func (s *server) run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fault.New(fault.Invalid, "--listen", "%w", err)
	}
	var scraped net.Listener
	if s.cfg.MetricsListen != "" {
		if scraped, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.MetricsListen); err != nil {
			return errors.Join(fault.New(fault.Invalid, "--metrics-listen", "%w", err), listener.Close())
		}
	}
	s.cfg.Log.Info("serving", "version", buildinfo.Version, "control", listener.Addr().String(), "data", s.cfg.DataListen, "metrics", s.cfg.MetricsListen,
		"data-dir", s.cfg.DataDir, "credentials", s.credentials)
	return runStages(ctx,
		s.audit.Run,
		s.tickets.Run,
		events.NewDispatcher(s.webhooks, events.Client(), s.cfg.Log).Run,
		s.sink.Run,
		func(ctx context.Context) error { return s.engine.Run(ctx, s.points) },
		s.retention.Run,
		s.points.Run,
		s.transfers.Run,
		func(ctx context.Context) error { return s.serveHTTP(ctx, listener) },
		func(ctx context.Context) error { return s.serveMetrics(ctx, scraped) },
	)
}

func (s *server) serveHTTP(ctx context.Context, l net.Listener) error {
	config := s.tls.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	h := &http.Server{Handler: s.handler(ctx), TLSConfig: config, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		IdleTimeout: idleTimeout, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// The caller's context has ended; finishing what is under way has a limit of its own.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := h.Shutdown(end)
		if errors.Is(err, context.DeadlineExceeded) {
			err = h.Close()
		}
		done <- err
	}()
	// It is closed by the server's shutting down.
	err := h.Serve(openDoor(context.WithoutCancel(ctx), l, admission{tls: config, plain: s.cfg.InsecureHTTP, patience: readHeaderTimeout, log: s.cfg.Log}))
	if !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Unknown, "serve the control port", "%w", err)
	}
	err = <-done
	s.operator.Wait()
	return err
}

// hosts are the names that the server's certificate is good for, besides those that every one has.
func (c Config) hosts() []string {
	var out []string
	for _, addr := range []string{c.Listen, c.DataListen, c.Advertise} {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			out = append(out, host)
		}
	}
	return out
}
