package agent

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What an operator must not miss is said, and nothing that is not so.
func TestStatusForPeople(t *testing.T) {
	print := func(s Status) string {
		var out bytes.Buffer
		s.Print(&out)
		return out.String()
	}
	s := Status{ServerID: "s-1", Updated: time.Now(), Phase: "continuous", Connected: true, RawBytes: 14 << 10, WireBytes: 64 << 20}
	text := print(s)
	require.Contains(t, text, "14 KiB as 64 MiB on the wire")
	require.Contains(t, text, "no write was acknowledged yet")
	for _, absent := range []string{"NOT RUNNING", "control plane", "oldest write"} {
		require.NotContains(t, text, absent)
	}
	s.LagSamples, s.LagP50, s.Oldest, s.Updated = 3, 1.5, 42, time.Now().Add(-time.Minute)
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var away *Away
	away = away.still(errors.New("first"), began)
	s.Away = away.still(errors.New("connection refused"), began.Add(time.Hour))
	text = print(s)
	require.True(t, strings.HasPrefix(text, "NOT RUNNING"), text)
	require.Contains(t, text, "p50 1.5 ms")
	require.Contains(t, text, "not durable on the server is 42s old")
	require.Contains(t, text, "does not answer since 2026-01-02T03:04:05Z, replication goes on: connection refused")
}
