package awsapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

// permissive does every operation it has, for whoever gets as far as here.
type permissive struct {
	drs.Unavailable
	accounts *accounts.Accounts
}

func (p permissive) InitializeService(ctx context.Context, _ *drs.InitializeServiceInput) (*drs.InitializeServiceOutput, error) {
	caller, _ := sigv4.CallerFrom(ctx)
	if !caller.Admin {
		return nil, fault.New(fault.Denied, "", "Must be admin user")
	}
	return &drs.InitializeServiceOutput{}, p.accounts.Initialize(ctx, state.Scope{Account: caller.AccountID, Service: state.DRS})
}

func (permissive) DescribeSourceServers(context.Context, *drs.DescribeSourceServersInput) (*drs.DescribeSourceServersOutput, error) {
	return &drs.DescribeSourceServersOutput{}, nil
}

func (permissive) StartRecovery(context.Context, *drs.StartRecoveryInput) (*drs.StartRecoveryOutput, error) {
	return &drs.StartRecoveryOutput{}, nil
}

func (permissive) StopReplication(context.Context, *drs.StopReplicationInput) (*drs.StopReplicationOutput, error) {
	return &drs.StopReplicationOutput{}, nil
}

func (permissive) TagResource(context.Context, *drs.TagResourceInput) (*drs.TagResourceOutput, error) {
	return &drs.TagResourceOutput{}, nil
}

func (permissive) UntagResource(context.Context, *drs.UntagResourceInput) (*drs.UntagResourceOutput, error) {
	return &drs.UntagResourceOutput{}, nil
}

func (permissive) DeleteSourceServer(context.Context, *drs.DeleteSourceServerInput) (*drs.DeleteSourceServerOutput, error) {
	return nil, control.Full("", control.SourceServer, "s-1", 300, "replicating source servers")
}

// prodServer has a tag; other servers have none, and unknownServer does not exist.
const prodServer, devServer = "s-00000000000000001", "s-00000000000000002"

func (permissive) ListTagsForResource(_ context.Context, in *drs.ListTagsForResourceInput) (*drs.ListTagsForResourceOutput, error) {
	switch {
	case strings.HasSuffix(in.ResourceArn, prodServer):
		return &drs.ListTagsForResourceOutput{Tags: map[string]string{"Env": "prod"}}, nil
	case strings.HasSuffix(in.ResourceArn, devServer):
		return &drs.ListTagsForResourceOutput{}, nil
	}
	return nil, control.Missing("", control.SourceServer, in.ResourceArn)
}

type accessWorld struct {
	keys   *access.Keys
	server *httptest.Server
	now    atomic.Pointer[time.Time]
}

func newAccessWorld(t *testing.T, rates awsapi.Rates) *accessWorld {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	w := &accessWorld{}
	w.now.Store(new(time.Now()))
	w.keys, err = access.Open(store, dir)
	require.NoError(t, err)
	acc := accounts.New(store)
	for _, id := range []string{account, "000000000002"} {
		require.NoError(t, acc.Initialize(t.Context(), state.Scope{Account: id, Service: state.DRS}))
	}
	h := awsapi.New(awsapi.Config{Region: region, Access: w.keys, Accounts: acc, Log: slog.New(slog.DiscardHandler), Rates: rates,
		Now: func() time.Time { return *w.now.Load() }})
	h.Serve(drs.New(permissive{accounts: acc}))
	w.server = httptest.NewTLSServer(h)
	t.Cleanup(w.server.Close)
	return w
}

// user makes a user with policies: names of built-in ones, or documents.
func (w *accessWorld) user(t *testing.T, name string, policies ...string) control.AccessKey {
	t.Helper()
	key, err := w.keys.Create(t.Context(), account, name, false)
	require.NoError(t, err)
	for i, p := range policies {
		if strings.HasPrefix(p, "{") {
			policies[i] = name + "-own"
			_, err = w.keys.PutPolicy(t.Context(), account, policies[i], p)
			require.NoError(t, err)
		}
	}
	_, err = w.keys.SetUserPolicies(t.Context(), account, name, policies)
	require.NoError(t, err)
	return key
}

func (w *accessWorld) client(k control.AccessKey) *sdkdrs.Client {
	return sdkdrs.New(sdkdrs.Options{Region: region, BaseEndpoint: &w.server.URL, HTTPClient: conformance.Client(w.server.Client()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.Token)})
}

func describe(t *testing.T, c *sdkdrs.Client) error {
	_, err := c.DescribeSourceServers(t.Context(), &sdkdrs.DescribeSourceServersInput{})
	return err
}

func stop(t *testing.T, c *sdkdrs.Client, server string) error {
	_, err := c.StopReplication(t.Context(), &sdkdrs.StopReplicationInput{SourceServerID: &server})
	return err
}

func serverARN(id string) string {
	return "arn:aws:drs:" + region + ":" + account + ":source-server/" + id
}

func requireDenied(t *testing.T, want string, err error) {
	t.Helper()
	require.Equal(t, "AccessDeniedException", code(err))
	require.Equal(t, want, message(err))
}

func TestBuiltInRoles(t *testing.T) {
	w := newAccessWorld(t, nil)
	operator, reader, installer := w.user(t, "olga", access.Operator), w.user(t, "rita", access.ReadOnly), w.user(t, "ines", access.AgentInstaller)
	require.NoError(t, describe(t, w.client(operator)))
	require.NoError(t, describe(t, w.client(reader)))
	requireDenied(t, "User: arn:aws:iam::000000000001:user/ines is not authorized to perform: drs:DescribeSourceServers on resource: * "+
		"because no identity-based policy allows the drs:DescribeSourceServers action", describe(t, w.client(installer)))
	require.NoError(t, stop(t, w.client(operator), devServer))
	requireDenied(t, "User: arn:aws:iam::000000000001:user/rita is not authorized to perform: drs:StopReplication on resource: "+
		"arn:aws:drs:us-east-1:000000000001:source-server/"+devServer+" because no identity-based policy allows the drs:StopReplication action",
		stop(t, w.client(reader), devServer))
}

func TestSettingUpNeedsLeave(t *testing.T) {
	w := newAccessWorld(t, nil)
	initialize := func(k control.AccessKey) error {
		_, err := w.client(k).InitializeService(t.Context(), &sdkdrs.InitializeServiceInput{})
		return err
	}
	requireDenied(t, "Must be admin user", initialize(w.user(t, "olga", access.Operator)))
	require.NoError(t, initialize(w.user(t, "ada", access.Administrator)))
	require.NoError(t, initialize(w.user(t, "ivan", `{"Statement":{"Effect":"Allow","Action":"drs:InitializeService","Resource":"*"}}`)))
}

func TestPolicyOnResources(t *testing.T) {
	w := newAccessWorld(t, nil)
	c := w.client(w.user(t, "ann", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["drs:StopReplication","drs:StartRecovery","drs:TagResource"],"Resource":"arn:aws:drs:*:*:source-server/*"},
		{"Effect":"Deny","Action":"drs:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/Env":"prod"}}},
		{"Effect":"Deny","Action":"drs:TagResource","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"Env"}}},
		{"Effect":"Allow","Action":"drs:UntagResource","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"Team"}}}]}`))
	require.NoError(t, stop(t, c, devServer))
	require.NoError(t, stop(t, c, unknownServer), "that it does not exist is for the operation to say")
	requireDenied(t, "User: arn:aws:iam::000000000001:user/ann is not authorized to perform: drs:StopReplication on resource: "+serverARN(prodServer)+
		" with an explicit deny in an identity-based policy", stop(t, c, prodServer))
	recover := func(ids ...string) error {
		var list []drstypes.StartRecoveryRequestSourceServer
		for _, id := range ids {
			list = append(list, drstypes.StartRecoveryRequestSourceServer{SourceServerID: &id})
		}
		_, err := c.StartRecovery(t.Context(), &sdkdrs.StartRecoveryInput{SourceServers: list})
		return err
	}
	require.NoError(t, recover(devServer))
	require.Equal(t, "AccessDeniedException", code(recover(devServer, prodServer)), "one of several is enough")
	tag := func(key string) error {
		_, err := c.TagResource(t.Context(), &sdkdrs.TagResourceInput{ResourceArn: new(serverARN(devServer)), Tags: map[string]string{key: "x"}})
		return err
	}
	require.NoError(t, tag("Team"))
	require.Equal(t, "AccessDeniedException", code(tag("Env")))
	untag := func(keys ...string) error {
		_, err := c.UntagResource(t.Context(), &sdkdrs.UntagResourceInput{ResourceArn: new(serverARN(devServer)), TagKeys: keys})
		return err
	}
	require.NoError(t, untag("Team"))
	require.Equal(t, "AccessDeniedException", code(untag("Team", "Env")))
}

func TestPolicyOnTheRequest(t *testing.T) {
	w := newAccessWorld(t, nil)
	on := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + condition + `}}`
	}
	for i, c := range []struct {
		condition string
		allowed   bool
	}{
		{`{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, true},
		{`{"NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, false},
		{`{"Bool":{"aws:SecureTransport":"true"}}`, true},
		{`{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`, false},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`, true},
		{`{"StringEquals":{"aws:PrincipalAccount":"` + account + `"}}`, true},
		{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/u*"}}`, true},
		{`{"StringEquals":{"aws:username":"somebody"}}`, false},
	} {
		err := describe(t, w.client(w.user(t, "u"+string(rune('a'+i)), on(c.condition))))
		require.Equal(t, c.allowed, err == nil, "%s: %v", c.condition, err)
	}
}

// Who may not use an operation is told that, whatever the request looks like; who may is told what is wrong.
func TestRefusalComesBeforeValidation(t *testing.T) {
	w := newAccessWorld(t, nil)
	reader := w.client(w.user(t, "rita", access.ReadOnly))
	own := w.client(w.user(t, "ann", `{"Statement":{"Effect":"Allow","Action":"drs:StopReplication","Resource":"`+serverARN(devServer)+`"}}`))
	require.Equal(t, "AccessDeniedException", code(stop(t, reader, "nonsense")))
	require.Equal(t, "ValidationException", code(stop(t, own, "nonsense")))
	require.Equal(t, "AccessDeniedException", code(stop(t, own, prodServer)))
}

func TestTemporaryCredentials(t *testing.T) {
	w := newAccessWorld(t, nil)
	ctx := t.Context()
	ann := w.user(t, "ann", access.Operator)
	caller, err := w.keys.Lookup(ctx, ann.ID)
	require.NoError(t, err)
	_, err = w.keys.PutRole(ctx, state.Role{Account: account, Name: "drill", Policies: []string{access.Operator}, Trust: []string{account}})
	require.NoError(t, err)
	assume := func(policy string) control.AccessKey {
		key, err := w.keys.AssumeRole(ctx, caller.Principal, access.Assume{RoleARN: access.RoleARN(account, "drill"), Name: "nightly", Policy: policy})
		require.NoError(t, err)
		return key
	}
	key := assume("")
	require.NoError(t, stop(t, w.client(key), devServer))
	narrow := assume(`{"Statement":{"Effect":"Allow","Action":"drs:Describe*","Resource":"*"}}`)
	require.NoError(t, describe(t, w.client(narrow)))
	requireDenied(t, "User: arn:aws:sts::000000000001:assumed-role/drill/nightly is not authorized to perform: drs:StopReplication on resource: "+
		serverARN(devServer)+" because no session policy allows the drs:StopReplication action", stop(t, w.client(narrow), devServer))

	stolen := key
	stolen.Token = ""
	require.Equal(t, "UnrecognizedClientException", code(describe(t, w.client(stolen))))
	stolen.Token = narrow.Token
	require.Equal(t, "UnrecognizedClientException", code(describe(t, w.client(stolen))), "another session's token")
	require.NoError(t, w.keys.RevokeSession(ctx, account, narrow.ID))
	require.Equal(t, "UnrecognizedClientException", code(describe(t, w.client(narrow))))

	later := time.Now().Add(time.Hour + time.Second)
	w.now.Store(&later)
	skewed := &http.Client{Transport: &sigv4.Transport{Base: w.server.Client().Transport, Service: "drs", Region: region, Now: func() time.Time { return later },
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, key.Token)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.server.URL+"/DescribeSourceServers", strings.NewReader("{}"))
	require.NoError(t, err)
	resp, err := skewed.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "ExpiredTokenException", resp.Header.Get("x-amzn-ErrorType"))
}

func TestInactiveKey(t *testing.T) {
	w := newAccessWorld(t, nil)
	key := w.user(t, "ann", access.Operator)
	require.NoError(t, describe(t, w.client(key)))
	all, err := w.keys.List(t.Context(), account, "ann")
	require.NoError(t, err)
	require.Equal(t, "drs", all[0].LastUsedService)
	require.WithinDuration(t, time.Now(), all[0].LastUsedAt, time.Minute)
	require.NoError(t, w.keys.SetKeyActive(t.Context(), account, key.ID, false))
	require.Equal(t, "UnrecognizedClientException", code(describe(t, w.client(key))))
}

func TestThrottling(t *testing.T) {
	w := newAccessWorld(t, awsapi.Rates{quotas.ReadRate: 1, quotas.WriteRate: 2})
	ann, bob := w.client(w.user(t, "ann", access.Operator)), w.client(w.user(t, "bob", access.Operator))
	stranger, err := w.keys.Create(t.Context(), "000000000002", "eve", false)
	require.NoError(t, err)
	for range 5 { // ten seconds' worth, shared by the account's users
		require.NoError(t, describe(t, ann))
		require.NoError(t, describe(t, bob))
	}
	err = describe(t, ann)
	slow, ok := errors.AsType[*drstypes.ThrottlingException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "Rate exceeded", message(err))
	require.Equal(t, "drs", aws.ToString(slow.ServiceCode))
	require.Equal(t, string(quotas.ReadRate), aws.ToString(slow.QuotaCode))
	require.Equal(t, "1", aws.ToString(slow.RetryAfterSeconds))
	require.NoError(t, stop(t, ann, devServer), "another class has its own bucket")
	require.NoError(t, describe(t, w.client(stranger)), "and so has another account")

	later := time.Now().Add(time.Second)
	w.now.Store(&later)
	require.NoError(t, describe(t, ann), "a token comes every second")
	require.Equal(t, "ThrottlingException", code(describe(t, ann)))
}

func TestQuotaMembers(t *testing.T) {
	w := newAccessWorld(t, nil)
	c := w.client(w.user(t, "ann", access.Operator))
	_, err := c.DeleteSourceServer(t.Context(), &sdkdrs.DeleteSourceServerInput{SourceServerID: new(devServer)})
	full, ok := errors.AsType[*drstypes.ConflictException](err) // the operation does not declare the quota's error
	require.True(t, ok, "%v", err)
	require.Contains(t, full.ErrorMessage(), "at most 300 replicating source servers")
}
