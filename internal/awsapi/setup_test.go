package awsapi_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	sdkmgn "github.com/aws/aws-sdk-go-v2/service/mgn"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const (
	region  = "us-east-1"
	account = "000000000001"
)

// world is the endpoint with everything behind it, served over TLS.
type world struct {
	*fleet
	endpoint *awsapi.Handler
	server   *httptest.Server
	admin    control.AccessKey
	user     control.AccessKey // of the same account, no administrator
	stranger control.AccessKey // of another account
	log      *logBuffer
	trail    *trail
}

// logBuffer collects log lines from several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	store, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	keys, err := access.Open(store, dir)
	require.NoError(t, err)

	w := &world{fleet: newFleet(), log: &logBuffer{}, trail: &trail{}}
	for _, k := range []struct {
		key           *control.AccessKey
		account, user string
		admin         bool
	}{{&w.admin, account, "op", true}, {&w.user, account, "reader", false}, {&w.stranger, "000000000002", "op", true}} {
		*k.key, err = keys.Create(ctx, k.account, k.user, k.admin)
		require.NoError(t, err)
	}
	acc, rct := accounts.New(store), templates.New(store)
	w.endpoint = awsapi.New(awsapi.Config{
		Region: region, Access: keys, Accounts: acc, Log: slog.New(slog.NewTextHandler(w.log, nil)), Audit: w.trail,
		Undeclared: func(op *rest.Operation, code string) {
			t.Errorf("%s answered %s, which it does not declare", op.Name, code)
		},
	})
	now := func() time.Time { return addedAt.Add(49*time.Hour + 3*time.Second) }
	w.endpoint.Serve(drs.New(drsapi.New(onlyDRS(store, drsapi.Domain{
		Servers: w.fleet, Replication: w.fleet, Templates: rct, Points: snapshots{w.fleet}, Accounts: acc, Region: region, Now: now}))))
	w.endpoint.Serve(mgn.New(mgnapi.New(onlyMGN(store, mgnapi.Domain{
		Servers: w.fleet, Replication: w.fleet, Templates: rct, Accounts: acc, Region: region, Now: now}))))
	w.server = httptest.NewTLSServer(w.endpoint)
	t.Cleanup(w.server.Close)
	return w
}

func static(k control.AccessKey) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, "")
}

func (w *world) drs(k control.AccessKey, opts ...func(*sdkdrs.Options)) *sdkdrs.Client {
	return sdkdrs.New(sdkdrs.Options{
		Region: region, BaseEndpoint: &w.server.URL, HTTPClient: conformance.Client(w.server.Client()), Credentials: static(k), RetryMaxAttempts: 1,
	}, opts...)
}

func (w *world) mgn(k control.AccessKey, opts ...func(*sdkmgn.Options)) *sdkmgn.Client {
	return sdkmgn.New(sdkmgn.Options{
		Region: region, BaseEndpoint: &w.server.URL, HTTPClient: conformance.Client(w.server.Client()), Credentials: static(k), RetryMaxAttempts: 1,
	}, opts...)
}

// initialized is a world whose account is ready in both services.
func initialized(t *testing.T) (*world, context.Context) {
	t.Helper()
	w := newWorld(t)
	_, err := w.drs(w.admin).InitializeService(t.Context(), &sdkdrs.InitializeServiceInput{})
	require.NoError(t, err)
	_, err = w.mgn(w.admin).InitializeService(t.Context(), &sdkmgn.InitializeServiceInput{})
	require.NoError(t, err)
	return w, t.Context()
}
