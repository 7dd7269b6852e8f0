// Package agentclient is how an agent speaks to the control port: over one connection that is kept, and with patience that
// grows when nobody answers. The agent (internal/app/agent) and whoever stands for many of them (internal/app/simulate)
// import it.
package agentclient

import (
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	// queueing is how long a connection may wait for its turn at the server, which serves those first that came first: who
	// gives up early comes last again.
	queueing = 3 * time.Minute
	// A connection on which nothing came for quiet is asked whether it is alive, and given up when it does not say so.
	quiet, alive = time.Minute, time.Minute
)

// Transport is for all calls of one agent. It has one connection at a time: a call that is given up leaves the connection
// that it waited for to the next one, and does not queue for another.
func Transport(c *tls.Config, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		TLSClientConfig: c, Proxy: proxy, ForceAttemptHTTP2: true, MaxConnsPerHost: 1, TLSHandshakeTimeout: queueing,
		HTTP2: &http.HTTP2Config{SendPingTimeout: quiet, PingTimeout: alive},
	}
}

// Interval is when to ask again after an answer that wants it every so often: up to a tenth sooner, never later. Agents that
// asked at the same moment, as all do whose questions waited for one pause of the server, would else do so ever after.
func Interval(every time.Duration) time.Duration { return every - rand.N(every/10+1) }

const (
	firstWait   = 2 * time.Second
	longestWait = 20 * time.Second // an agent is missed after a minute
)

// Backoff is how long to wait between calls that fail. The zero value is one that has not failed yet.
type Backoff struct{ failures int }

// Next is how long to wait after one more failure: any time up to a bound that doubles. Those whom one outage hit
// come back spread over the whole of it, and not in waves.
func (b *Backoff) Next() time.Duration {
	bound := min(firstWait<<b.failures, longestWait)
	if bound < longestWait {
		b.failures++
	}
	return rand.N(bound) + time.Millisecond
}

// Reset is for when something has worked.
func (b *Backoff) Reset() { b.failures = 0 }
