package simulate

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	sdkmgn "github.com/aws/aws-sdk-go-v2/service/mgn"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/app/serve"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/fault"
)

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// server runs a whole server for a test, and tells its address and data directory.
func server(t *testing.T, quotas map[string]int64) (address, dir string) {
	t.Helper()
	dir = t.TempDir()
	address = free(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Config{DataDir: dir, Listen: address, DataListen: free(t), Region: "us-east-1", AccountID: "111122223333",
			Quotas: quotas, Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			require.NoError(t, c.Close())
			return address, dir
		}
		require.Empty(t, ended, "the server ended")
	}
}

func initialize(t *testing.T, address, dir string) {
	t.Helper()
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(dir, "pki", "ca.pem"))
	t.Setenv("AWS_PROFILE", access.Profile)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL", "https://"+address)
	c, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	_, err = sdkmgn.NewFromConfig(c).InitializeService(t.Context(), &sdkmgn.InitializeServiceInput{})
	require.NoError(t, err)
}

func fleetConfig() Config {
	return Config{Count: 20, Service: "mgn", Name: "test", Register: 1000, Every: 200 * time.Millisecond, For: 2 * time.Second,
		Probe: 200 * time.Millisecond, Progress: 500 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
}

func TestFleet(t *testing.T) {
	address, dir := server(t, nil)
	initialize(t, address, dir)
	for range 2 { // the same name is the same fleet
		r, err := Run(t.Context(), fleetConfig())
		require.NoError(t, err)
		require.Equal(t, int64(20), r.Registration.Count)
		require.Empty(t, r.FirstFailures)
		require.Zero(t, r.Handshake.Errors)
		require.GreaterOrEqual(t, r.Handshake.Count, int64(20*2), "more than once each, however slow the machine")
		require.Positive(t, r.Probe.Count)
		require.LessOrEqual(t, r.Handshake.P50, r.Handshake.P99)
	}
	c, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	out, err := sdkmgn.NewFromConfig(c).DescribeSourceServers(t.Context(), &sdkmgn.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Len(t, out.Items, 20)
	require.Equal(t, "test", out.Items[0].Tags["simulated"])
}

// What comes before the measuring does not count, an error least of all.
func TestSettlingIsNotMeasured(t *testing.T) {
	f := &fleet{cfg: Config{Log: slog.New(slog.DiscardHandler)}, failures: map[string]string{}}
	f.handshakes.add(time.Hour)
	f.probes.add(time.Hour)
	f.failed(t.Context(), &f.handshakes, "handshake", fault.New(fault.Transient, "test", "refused"))
	require.Len(t, f.failures, 1)
	f.measure()
	require.Empty(t, f.failures)
	require.Zero(t, f.handshakes.summary())
	require.Zero(t, f.probes.summary())

	address, dir := server(t, nil)
	initialize(t, address, dir)
	c := fleetConfig()
	c.Settle = time.Second
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.InDelta(t, c.For.Seconds(), r.Seconds, 1)
	require.LessOrEqual(t, r.Handshake.Count, int64(20*(2000/200+1)))
	require.Positive(t, r.Handshake.Count)
}

func TestFleetBeyondTheQuota(t *testing.T) {
	address, dir := server(t, map[string]int64{"mgn-servers": 5})
	initialize(t, address, dir)
	_, err := Run(t.Context(), fleetConfig())
	require.Equal(t, fault.Conflict, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "at most 5 source servers")
}

func TestRefusedConfigurations(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_REGION", "us-east-1")
	good := fleetConfig()
	for _, change := range []func(*Config){
		func(c *Config) { c.Count = 0 },
		func(c *Config) { c.Register = 0 },
		func(c *Config) { c.For = 0 },
		func(c *Config) { c.Settle = -1 },
		func(c *Config) { c.Endpoint = "http://127.0.0.1:1" },
		func(c *Config) { c.Endpoint, c.CACert = "https://127.0.0.1:1", "/none" },
	} {
		c := good
		change(&c)
		_, err := Run(t.Context(), c)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	require.Zero(t, h.summary())
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	h.fail()
	s := h.summary()
	require.Equal(t, int64(1000), s.Count)
	require.Equal(t, int64(1), s.Errors)
	require.InEpsilon(t, 500, s.P50, 0.025)
	require.InEpsilon(t, 990, s.P99, 0.025)
	require.InDelta(t, 1000, s.Max, 0.001)
	h.add(100 * time.Hour)
	h.add(0)
	require.Equal(t, int64(1002), h.summary().Count)
}
