package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// TestSessionsOutliveTheServer: who was connected before the server was killed resumes its session with the one that comes
// after it, as long as that has the keys.
func TestSessionsOutliveTheServer(t *testing.T) {
	t.Parallel()
	server := harness.NewServer(t, filepath.Join(t.TempDir(), "server"))
	pem, err := os.ReadFile(server.CA())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1)}}}
	resumed := func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.Endpoint, nil)
		require.NoError(t, err)
		answer, err := client.Do(r) // reading the answer, it gets its ticket
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.TLS.DidResume
	}
	restart := func() {
		server.Kill()
		server.Start(t)
	}
	require.False(t, resumed())
	require.True(t, resumed(), "by the same process")
	restart()
	require.True(t, resumed(), "by the next process")
	require.NoError(t, os.Remove(filepath.Join(server.Dir, "session-tickets.json")))
	restart()
	require.False(t, resumed(), "without the keys")
	require.True(t, resumed())
}
