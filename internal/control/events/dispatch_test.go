package events

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// receiver is the other end of a webhook, reached without a network so that its time is the test's.
type receiver struct {
	mu     sync.Mutex
	answer func(host string) int // status; 0 is a broken connection
	header http.Header
	got    []cloudEvent // those answered with success
	tries  []time.Time
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries = append(r.tries, time.Now())
	status := http.StatusNoContent
	if r.answer != nil {
		status = r.answer(req.URL.Host)
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	var e cloudEvent
	if err := json.NewDecoder(req.Body).Decode(&e); err != nil {
		return nil, err
	}
	if status/100 == 2 {
		r.got = append(r.got, e)
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: r.header, Body: http.NoBody, Request: req}, nil
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

var quiet = slog.New(slog.DiscardHandler)

func openWebhooks(t *testing.T, r *Recorder) *Webhooks {
	w, err := OpenWebhooks(r, t.TempDir())
	require.NoError(t, err)
	return w
}

func hook(t *testing.T, w *Webhooks, host string) state.Webhook {
	h, err := w.Create(t.Context(), account, "https://"+host+"/events", false)
	require.NoError(t, err)
	return h
}

// dispatch runs a dispatcher until stop is called.
func dispatch(t *testing.T, w *Webhooks, client *http.Client) (stop func()) {
	return start(t, NewDispatcher(w, client, quiet))
}

func start(t *testing.T, d *Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() { cancel(); require.NoError(t, <-done) }
}

// until waits, in the test's time, until a condition holds.
func until(t *testing.T, limit time.Duration, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !holds(); <-tick.C {
		require.True(t, time.Now().Before(end), "not within %s", limit)
	}
}

// TestDeliveryIsInOrderAndAtLeastOnce has a receiver fail at random and the dispatcher die at random, two of them running at
// once now and then.
func TestDeliveryIsInOrderAndAtLeastOnce(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("UNDERSTUDY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		servers := []string{"d-1", "d-2", "d-3", "m-1"}
		r := open(t, servers...)
		w := openWebhooks(t, r)
		hook(t, w, "receiver")
		whims := rand.New(rand.NewPCG(seed, 1)) // the receiver's own: deliveries run beside the test
		far := &receiver{answer: func(string) int { return []int{204, 200, 500, 0, 404}[whims.IntN(5)] }}
		client := &http.Client{Transport: far}
		for range 12 {
			stop := dispatch(t, w, client)
			stopOther := func() {}
			if rng.IntN(3) == 0 {
				stopOther = dispatch(t, w, client)
			}
			for range 5 {
				replicate(t, r, servers[rng.IntN(len(servers))], []state.ReplicationState{state.Stalled, state.Continuous}[rng.IntN(2)])
			}
			<-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond)
			stop()
			stopOther()
		}
		far.mu.Lock()
		far.answer = nil
		far.mu.Unlock()
		stop := dispatch(t, w, client)
		all := recorded(t, r)
		require.NotEmpty(t, all)
		until(t, time.Hour, func() bool {
			n, _, err := w.Pending(t.Context(), hookID(t, w))
			require.NoError(t, err)
			return n == 0
		})
		stop()
		requireInOrder(t, all, far.got)
	})
}

func hookID(t *testing.T, w *Webhooks) string {
	all, err := w.List(t.Context(), account)
	require.NoError(t, err)
	return all[0].ID
}

// requireInOrder: every event came, and none for the first time before an older one of its server.
func requireInOrder(t *testing.T, sent []state.Event, got []cloudEvent) {
	first := map[string][]string{} // ids by server, in the order of their first delivery
	seen := map[string]bool{}
	for _, e := range got {
		if !seen[e.ID] {
			seen[e.ID] = true
			first[e.PartitionKey] = append(first[e.PartitionKey], e.ID)
		}
	}
	want := map[string][]string{}
	for _, e := range sent {
		want[e.Subject] = append(want[e.Subject], e.ID)
	}
	require.Equal(t, want, first)
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, "d-1")
		w := openWebhooks(t, r)
		hook(t, w, "receiver")
		far := &receiver{answer: func(string) int { return 503 }}
		replicate(t, r, "d-1", state.Stalled)
		stop := dispatch(t, w, &http.Client{Transport: far})
		<-time.After(2 * time.Hour)
		stop()
		var last time.Duration
		for i := 1; i < len(far.tries); i++ {
			gap := far.tries[i].Sub(far.tries[i-1])
			require.Greater(t, gap, last/2)
			require.Less(t, gap, laneBackoff*13/10)
			last = gap
		}
		require.Greater(t, last, laneBackoff/2)
		require.Less(t, len(far.tries), 40)
	})
}

func TestRetryAfterIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, "d-1")
		w := openWebhooks(t, r)
		hook(t, w, "receiver")
		far := &receiver{answer: func(string) int { return 429 }, header: http.Header{"Retry-After": {"1800"}}}
		replicate(t, r, "d-1", state.Stalled)
		stop := dispatch(t, w, &http.Client{Transport: far})
		<-time.After(65 * time.Minute)
		stop()
		require.Len(t, far.tries, 3)
	})
}

// TestAnEventIsGivenUp: when it has become too old, the next one has its turn.
func TestAnEventIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, "d-1")
		w := openWebhooks(t, r)
		hook(t, w, "receiver")
		const maxAge = 2 * time.Hour
		begun := time.Now()
		far := &receiver{answer: func(string) int {
			if time.Since(begun) < maxAge {
				return 400
			}
			return 204
		}}
		replicate(t, r, "d-1", state.Stalled)
		d := NewDispatcher(w, &http.Client{Transport: far}, quiet)
		d.maxAge = maxAge
		stop := start(t, d)
		<-time.After(maxAge - time.Hour)
		replicate(t, r, "d-1", state.Continuous)
		until(t, 2*time.Hour, func() bool { return far.count() == 1 })
		stop()
		require.Equal(t, "NOT_STALLED", far.got[0].Data.Detail["state"])
	})
}

func TestADeadReceiverHoldsNobodyElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []string
		for n := range 100 {
			servers = append(servers, "d-"+strconv.Itoa(n))
		}
		r := open(t, servers...)
		w := openWebhooks(t, r)
		dead := hook(t, w, "dead")
		hook(t, w, "alive")
		far := &receiver{answer: func(host string) int {
			if host == "dead" {
				return 0
			}
			return 204
		}}
		defer dispatch(t, w, &http.Client{Transport: far})()
		for _, s := range servers {
			replicate(t, r, s, state.Stalled)
		}
		until(t, 10*time.Second, func() bool { return far.count() == len(servers) })
		n, attempts, err := w.Pending(t.Context(), dead.ID)
		require.NoError(t, err)
		require.Equal(t, len(servers), n)
		require.Positive(t, attempts)
		require.NoError(t, w.Delete(t.Context(), account, dead.ID))
		err = w.Delete(t.Context(), account, dead.ID)
		require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	})
}

// TestOverTheNetwork delivers to a real server that checks what the specifications of CloudEvents over HTTP and of Standard Webhooks
// say.
func TestOverTheNetwork(t *testing.T) {
	type delivery struct {
		header http.Header
		body   []byte
	}
	got := make(chan delivery, 10)
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			got <- delivery{r.Header, body}
		}
	}))
	defer far.Close()
	r := open(t, "d-1")
	w := openWebhooks(t, r)
	for _, binary := range []bool{true, false} {
		h, err := w.Create(t.Context(), account, far.URL+"/hook", binary)
		require.NoError(t, err)
		stop := dispatch(t, w, Client())
		replicate(t, r, "d-1", state.Stalled, state.Continuous)
		for _, want := range []string{"STALLED", "NOT_STALLED"} {
			d := <-got
			requireSigned(t, w.Secret(h.ID), d.header, d.body)
			var e Envelope
			if binary {
				require.Equal(t, "application/json", d.header.Get("Content-Type"))
				require.Equal(t, "1.0", d.header.Get("ce-specversion"))
				require.Equal(t, "aws.drs.source-server-data-replication-stalled-change", d.header.Get("ce-type"))
				require.NoError(t, json.Unmarshal(d.body, &e))
				require.Equal(t, e.ID, d.header.Get("ce-id"))
			} else {
				require.Equal(t, "application/cloudevents+json; charset=utf-8", d.header.Get("Content-Type"))
				var c cloudEvent
				require.NoError(t, json.Unmarshal(d.body, &c))
				e = c.Data
			}
			require.Equal(t, want, e.Detail["state"])
			require.Equal(t, "DRS Source Server Data Replication Stalled Change", e.DetailType)
		}
		stop()
		require.NoError(t, w.Delete(t.Context(), account, h.ID))
	}
}

// requireSigned does what a receiver has to do.
func requireSigned(t *testing.T, secret string, h http.Header, body []byte) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)), h.Get("webhook-signature"))
	at, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(at, 0), time.Minute)
}

func TestWebhooksAreChecked(t *testing.T) {
	r := open(t)
	dir := t.TempDir()
	w, err := OpenWebhooks(r, dir)
	require.NoError(t, err)
	for _, bad := range []string{"", "host", "ftp://host/", "https:///path", "https://host/#fragment", "https://ho st/"} {
		_, err := w.Create(t.Context(), account, bad, false)
		require.True(t, fault.Is(err, fault.Invalid), "%q: %v", bad, err)
	}
	for range MaxWebhooks {
		hook(t, w, "receiver")
	}
	_, err = w.Create(t.Context(), account, "https://receiver", false)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	again, err := OpenWebhooks(r, dir)
	require.NoError(t, err)
	require.Equal(t, w.Secret("wh-1"), again.Secret("wh-1"))
	require.NotEqual(t, w.Secret("wh-1"), w.Secret("wh-2"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "webhooks.key"), []byte("short"), 0o600))
	_, err = OpenWebhooks(r, dir)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}
