package backup

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/app/operator"
	"github.com/understudy-dr/understudy/internal/app/serve"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// run serves an installation until the returned function is called.
func run(t *testing.T, dir string) (address string, stop func()) {
	address = free(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Config{DataDir: dir, Listen: address, DataListen: free(t), Region: "us-east-1", AccountID: scope.Account,
			Log: slog.New(slog.DiscardHandler)})
	}()
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		if c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}); err == nil {
			require.NoError(t, c.Close())
			break
		}
		require.Empty(t, ended, "the server ended")
	}
	return address, func() { cancel(); require.NoError(t, <-ended) }
}

// TestARestoredInstallationServes: the same credentials and the same authority work at a restored server, whose records have
// moved to the other database.
func TestARestoredInstallationServes(t *testing.T) {
	old, restored := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "restored")
	_, stop := run(t, old)
	file := filepath.Join(t.TempDir(), "backup")
	r, err := Save(t.Context(), Config{DataDir: old}, file, nil)
	stop()
	require.NoError(t, err)
	require.Subset(t, []string{"audit", "journals"}, r.LeftOut, "whatever else there is may be needed")
	url := statetest.StartPostgres(t).Database(t.Name())
	_, err = Restore(t.Context(), Config{DataDir: restored, StateURL: url}, file, nil)
	require.NoError(t, err)
	address, stop := run(t, restored)
	defer stop()
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(old, "credentials"))
	c, err := operator.NewClient(t.Context(), operator.Options{Endpoint: "https://" + address, CACert: filepath.Join(old, "pki", "ca.pem"),
		Region: "us-east-1", Profile: access.Profile})
	require.NoError(t, err)
	_, err = c.LastEvent(t.Context())
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(restored, "state.db"))
}
