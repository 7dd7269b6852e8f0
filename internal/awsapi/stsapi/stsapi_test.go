package stsapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/stsapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

type world struct {
	keys   *access.Keys
	server *httptest.Server
}

func setup(t *testing.T, rates awsapi.Rates) *world {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	w := &world{}
	w.keys, err = access.Open(store, dir)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	h := awsapi.New(awsapi.Config{Region: region, Access: w.keys, Accounts: accounts.New(store), Log: log, Rates: rates})
	h.Mount(stsapi.Name, &stsapi.API{Credentials: w.keys, Authorize: h.Authorize, Log: log})
	w.server = httptest.NewTLSServer(h)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) client(p aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: region, BaseEndpoint: &w.server.URL, HTTPClient: conformance.Client(w.server.Client()), Credentials: p, RetryMaxAttempts: 1})
}

func static(k control.AccessKey) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.Token)
}

func code(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return e.ErrorCode()
	}
	return ""
}

func identity(t *testing.T, c *sts.Client) *sts.GetCallerIdentityOutput {
	t.Helper()
	out, err := c.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	return out
}

func TestGetCallerIdentity(t *testing.T) {
	w := setup(t, nil)
	key, err := w.keys.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	_, err = w.keys.PutPolicy(t.Context(), account, "nothing", `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	require.NoError(t, err)
	u, err := w.keys.SetUserPolicies(t.Context(), account, "ann", []string{"nothing"})
	require.NoError(t, err)
	out := identity(t, w.client(static(key)))
	require.Equal(t, []string{account, "arn:aws:iam::" + account + ":user/ann", u.ID}, []string{*out.Account, *out.Arn, *out.UserId})
}

// As programs do it: a provider that assumes the role, and what is called with it.
func TestAssumeRole(t *testing.T) {
	w := setup(t, nil)
	ctx := t.Context()
	ann, err := w.keys.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	role, err := w.keys.PutRole(ctx, state.Role{Account: account, Name: "drill", Policies: []string{access.Operator}, Trust: []string{account}})
	require.NoError(t, err)
	arn := access.RoleARN(account, "drill")
	provider := stscreds.NewAssumeRoleProvider(w.client(static(ann)), arn, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "nightly" })
	c := w.client(provider)
	out := identity(t, c)
	require.Equal(t, "arn:aws:sts::"+account+":assumed-role/drill/nightly", *out.Arn)
	require.Equal(t, role.ID+":nightly", *out.UserId)
	got, err := provider.Retrieve(ctx)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(15*time.Minute), got.Expires, time.Minute, "the provider's own length")

	full, err := w.client(static(ann)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("nightly"),
		Policy: new(`{"Statement":{"Effect":"Allow","Action":"drs:*","Resource":"*"}}`)})
	require.NoError(t, err)
	require.Equal(t, "arn:aws:sts::"+account+":assumed-role/drill/nightly", *full.AssumedRoleUser.Arn)
	narrow := w.client(credentials.NewStaticCredentialsProvider(*full.Credentials.AccessKeyId, *full.Credentials.SecretAccessKey, *full.Credentials.SessionToken))
	_, err = narrow.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("nightly")})
	require.Equal(t, "AccessDenied", code(err), "the session's policy does not allow it")
	identity(t, narrow)

	_, err = w.keys.SetUserPolicies(ctx, account, "ann", []string{access.ReadOnly})
	require.NoError(t, err)
	_, err = w.client(static(ann)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("nightly")})
	require.Equal(t, "AccessDenied", code(err))
	require.ErrorContains(t, err, "User: arn:aws:iam::"+account+":user/ann is not authorized to perform: sts:AssumeRole on resource: "+arn)
}

func TestGetSessionToken(t *testing.T) {
	w := setup(t, nil)
	ann, err := w.keys.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	out, err := w.client(static(ann)).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(900)})
	require.NoError(t, err)
	session := w.client(credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken))
	require.Equal(t, "arn:aws:iam::"+account+":user/ann", *identity(t, session).Arn)
	_, err = session.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	require.Equal(t, "AccessDenied", code(err))
}

func TestRefusals(t *testing.T) {
	w := setup(t, awsapi.Rates{quotas.LaunchRate: 1})
	ctx := t.Context()
	ann, err := w.keys.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	c := w.client(static(ann))
	arn := access.RoleARN(account, "none")
	for want, in := range map[string]*sts.AssumeRoleInput{
		"AccessDenied":    {RoleArn: &arn, RoleSessionName: new("nightly")},
		"ValidationError": {RoleArn: new("arn:aws:iam::1:role/too-short"), RoleSessionName: new("nightly")},
	} {
		_, err = c.AssumeRole(ctx, in)
		require.Equal(t, want, code(err), "%v", err)
	}
	_, err = c.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("nightly"), ExternalId: new("xx")})
	require.Equal(t, "ValidationError", code(err), "a rule that would not be applied is refused")
	_, err = c.GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: new("bob")})
	require.Equal(t, "InvalidAction", code(err))

	call := func(p aws.CredentialsProvider) string {
		_, err := w.client(p).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return code(err)
	}
	require.Equal(t, "InvalidClientTokenId", call(credentials.NewStaticCredentialsProvider("AKIANOBODYNOBODYNOBO", "x", "")))
	require.Equal(t, "SignatureDoesNotMatch", call(credentials.NewStaticCredentialsProvider(ann.ID, "x", "")))
}

func TestThrottling(t *testing.T) {
	w := setup(t, awsapi.Rates{quotas.WriteRate: 1})
	ann, err := w.keys.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	var last error
	for range 11 {
		_, last = w.client(static(ann)).GetSessionToken(context.Background(), &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(1)})
	}
	require.Equal(t, "ValidationError", code(last), "it is a read")
	for range 11 {
		_, last = w.client(static(ann)).AssumeRole(context.Background(), &sts.AssumeRoleInput{RoleArn: new(access.RoleARN(account, "none")), RoleSessionName: new("nightly")})
	}
	require.Equal(t, "Throttling", code(last))
}
