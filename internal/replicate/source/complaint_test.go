package source

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestComplaints(t *testing.T) {
	var c complaint
	now := time.Unix(1, 0)
	away, full := fault.New(fault.Transient, "", "away"), fault.New(fault.OutOfSpace, "", "full")
	says := func(err error, worked bool, after time.Duration, want bool, missed int) {
		t.Helper()
		now = now.Add(after)
		tell, untold := c.of(err, worked, now)
		require.Equal(t, want, tell)
		require.Equal(t, missed, untold)
	}
	says(away, false, 0, true, 0)
	says(away, false, time.Second, false, 0)
	says(away, false, time.Second, false, 0)
	says(full, false, time.Second, true, 2)
	says(full, false, time.Second, false, 0)
	says(full, false, complainEvery, true, 1)
	says(full, true, time.Second, true, 0)
	says(nil, false, time.Second, true, 0) // of no kind
	says(nil, false, time.Second, false, 0)
}

// A server that is away for an hour is told of once a minute, however often it is dialed.
func TestAnHourWithoutAServerIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bench(t, 1<<20, 1<<20)
		var mu sync.Mutex
		var log bytes.Buffer
		dials := 0
		cfg := m.config(func(context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			return nil, fault.New(fault.Transient, "dial", "connection refused")
		})
		cfg.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(b)
		}), nil))
		s, err := New(cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.NoError(t, s.Run(ctx))
		lines := strings.Count(log.String(), "replication interrupted")
		require.Greater(t, dials, 300)
		require.GreaterOrEqual(t, lines, 50)
		require.LessOrEqual(t, lines, 61)
		require.Contains(t, log.String(), "untold=")
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
