package agentclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBackoff: waits have bounds that grow to a limit, and within them they are anything.
func TestBackoff(t *testing.T) {
	var longest [8]time.Duration
	for range 2000 {
		var b Backoff
		for n := range longest {
			longest[n] = max(longest[n], b.Next())
		}
		for range 100 {
			b.Next()
		}
		require.LessOrEqual(t, b.Next(), longestWait+time.Millisecond)
		b.Reset()
		require.LessOrEqual(t, b.Next(), firstWait+time.Millisecond)
	}
	for n, got := range longest {
		bound := min(firstWait<<n, longestWait)
		require.LessOrEqual(t, got, bound+time.Millisecond)
		require.Greater(t, got, bound*9/10, "of 2,000 agents one waits nearly %s after failure %d", bound, n+1)
	}
}

// TestSpread: agents that failed together do not come back together.
func TestSpread(t *testing.T) {
	var tenths [10]int
	for range 10_000 {
		var b Backoff
		tenths[int(b.Next()*10/(firstWait+2*time.Millisecond))]++
	}
	for _, n := range tenths {
		require.InDelta(t, 1000, n, 200)
	}
}

// TestInterval: agents that asked at one moment ask again spread over a tenth of the time that they wait, and none later than it
// was told.
func TestInterval(t *testing.T) {
	const every = 30 * time.Second
	var tenths [10]int
	for range 10_000 {
		sooner := every - Interval(every)
		require.GreaterOrEqual(t, sooner, time.Duration(0))
		require.LessOrEqual(t, sooner, every/10)
		tenths[min(9, int(sooner*100/every))]++
	}
	for _, n := range tenths {
		require.InDelta(t, 1000, n, 200)
	}
	require.LessOrEqual(t, Interval(time.Second), time.Second)
	require.Zero(t, Interval(0))
}

// counted counts the connections that come.
type counted struct {
	net.Listener
	n atomic.Int32
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// TestOneConnection: calls that are given up while the server is slow to let anybody in do not ask for more connections, and
// the one that was waited for serves those that follow.
func TestOneConnection(t *testing.T) {
	open := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		<-open
		return nil, nil
	}}
	l := &counted{Listener: server.Listener}
	server.Listener = l
	server.StartTLS()
	defer server.Close()
	transport := Transport(server.Client().Transport.(*http.Transport).TLSClientConfig, nil)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	get := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		require.Equal(t, 2, answer.ProtoMajor)
		return answer.Body.Close()
	}
	for range 5 {
		require.ErrorIs(t, get(50*time.Millisecond), context.DeadlineExceeded)
	}
	close(open)
	for range 5 {
		require.NoError(t, get(time.Minute))
	}
	require.EqualValues(t, 1, l.n.Load())
}
