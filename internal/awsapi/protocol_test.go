package awsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	sdkmgn "github.com/aws/aws-sdk-go-v2/service/mgn"
	mgntypes "github.com/aws/aws-sdk-go-v2/service/mgn/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/api/rest/sample"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// apiError is what every client makes of an exception.
type apiError interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

func code(err error) string {
	if e, ok := errors.AsType[apiError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func message(err error) string {
	if e, ok := errors.AsType[apiError](err); ok {
		return e.ErrorMessage()
	}
	return fmt.Sprint(err)
}

// Every operation of both SDK clients reaches its handler: it gets a result, a modelled error or the
// answer that this version does not offer it.
func TestEveryOperationIsRouted(t *testing.T) {
	w, ctx := initialized(t)
	tried := 0
	for _, c := range []struct {
		client  any
		service *rest.Service
	}{{w.drs(w.admin), drs.New(drs.Unavailable{})}, {w.mgn(w.admin), mgn.New(mgn.Unavailable{})}} {
		for _, ep := range c.service.Endpoints {
			tried++
			t.Run(c.service.Name+"/"+ep.Name, func(t *testing.T) {
				err := callSDK(t, ctx, c.client, ep)
				if err == nil {
					return
				}
				allowed := append([]string{"NotImplementedException"}, ep.Errors...)
				require.Contains(t, allowed, code(err))
				if code(err) == "NotImplementedException" {
					require.Contains(t, message(err), ep.Name+" is not available in this version")
				}
			})
		}
	}
	require.Equal(t, 145, tried)
}

// callSDK calls the client's method of the operation with the least input that fits.
func callSDK(t *testing.T, ctx context.Context, client any, ep rest.Endpoint) error {
	t.Helper()
	method := reflect.ValueOf(client).MethodByName(ep.Name)
	require.True(t, method.IsValid(), "the SDK has no %s", ep.Name)
	in := reflect.New(method.Type().In(1).Elem())
	raw, err := json.Marshal(sample.Maker{Seed: 1}.Value(ep.Input))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, in.Interface()))
	results := method.Call([]reflect.Value{reflect.ValueOf(ctx), in})
	err, _ = results[1].Interface().(error)
	return err
}

// do sends a request signed by hand and returns the answer with its body.
func (w *world) do(t *testing.T, service, method, path, body string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.server.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	client := &http.Client{Transport: &sigv4.Transport{
		Base: tamper{w.server.Client().Transport, change}, Credentials: static(w.admin), Service: service, Region: region}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NotEmpty(t, resp.Header.Get("x-amzn-RequestId"), "every answer has a request id")
	if resp.StatusCode >= 400 {
		require.NotEmpty(t, resp.Header.Get("x-amzn-ErrorType"))
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	}
	return resp, string(answer)
}

// tamper changes requests after they were signed.
type tamper struct {
	base   http.RoundTripper
	change func(*http.Request)
}

func (t tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.change != nil {
		t.change(r)
	}
	return t.base.RoundTrip(r)
}

func TestRefusalsBeforeAnyService(t *testing.T) {
	w, _ := initialized(t)
	post := func(service, path, body string, change func(*http.Request)) (int, string) {
		resp, _ := w.do(t, service, http.MethodPost, path, body, change)
		return resp.StatusCode, resp.Header.Get("x-amzn-ErrorType")
	}
	for _, c := range []struct {
		name, service, path string
		change              func(*http.Request)
		status              int
		code                string
	}{
		{"no signature", "drs", "/DescribeJobs", func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationTokenException"},
		{"signature", "drs", "/DescribeJobs", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{ }")); r.ContentLength = 3 }, 403, "InvalidSignatureException"},
		{"nonsense", "drs", "/DescribeJobs", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 ") }, 400, "IncompleteSignatureException"},
		{"service", "ec2", "/DescribeJobs", nil, 403, "InvalidSignatureException"},
		{"operation", "drs", "/DescribeEverything", nil, 404, "UnknownOperationException"},
		{"other service's operation", "drs", "/StartTest", nil, 404, "UnknownOperationException"},
		{"root", "mgn", "/", nil, 404, "UnknownOperationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, code := post(c.service, c.path, "{}", c.change)
			require.Equal(t, c.status, status)
			require.Equal(t, c.code, code)
		})
	}
	resp, _ := w.do(t, "drs", http.MethodPut, "/DescribeJobs", "", nil)
	require.Equal(t, "UnknownOperationException", resp.Header.Get("x-amzn-ErrorType"))
	resp, _ = w.do(t, "drs", http.MethodPost, "/DescribeJobs", strings.Repeat(" ", 1<<20+1), nil)
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
}

func TestCredentialsOfTheSDK(t *testing.T) {
	w, ctx := initialized(t)
	describe := func(change func(*sdkdrs.Options)) error {
		_, err := w.drs(w.admin, change).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
		return err
	}
	require.NoError(t, describe(func(*sdkdrs.Options) {}))
	require.Equal(t, "UnrecognizedClientException", code(describe(func(o *sdkdrs.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("AKIAUNKNOWNUNKNOWN12", "x", "")
	})))
	require.Equal(t, "InvalidSignatureException", code(describe(func(o *sdkdrs.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(w.admin.ID, w.admin.Secret+"x", "")
	})))
	require.Equal(t, "UnrecognizedClientException", code(describe(func(o *sdkdrs.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(w.admin.ID, w.admin.Secret, "a session")
	})))
	err := describe(func(o *sdkdrs.Options) { o.Region = "eu-west-1" })
	require.Equal(t, "InvalidSignatureException", code(err))
	require.Contains(t, message(err), "Credential should be scoped to a valid region")
}

func TestExpiredSignature(t *testing.T) {
	w, _ := initialized(t)
	client := &http.Client{Transport: &sigv4.Transport{
		Base: w.server.Client().Transport, Credentials: static(w.admin), Service: "drs", Region: region,
		Now: func() time.Time { return time.Now().Add(-6 * time.Minute) }}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+"/DescribeJobs", strings.NewReader("{}"))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "InvalidSignatureException", resp.Header.Get("x-amzn-ErrorType"))
	require.Contains(t, string(body), "Signature expired: ")
}

func TestUninitializedAccount(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.drs(w.admin).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
	require.ErrorAs(t, err, new(*drstypes.UninitializedAccountException))
	require.Equal(t, "Account not initialized", message(err))
	_, err = w.mgn(w.admin).StartTest(ctx, &sdkmgn.StartTestInput{SourceServerIDs: []string{"s-00000000000000001"}})
	require.ErrorAs(t, err, new(*mgntypes.UninitializedAccountException), "also for operations that are not offered")

	_, err = w.drs(w.user).InitializeService(ctx, &sdkdrs.InitializeServiceInput{})
	require.ErrorAs(t, err, new(*drstypes.AccessDeniedException))
	require.Equal(t, "Must be admin user", message(err))
	for range 2 {
		_, err = w.drs(w.admin).InitializeService(ctx, &sdkdrs.InitializeServiceInput{})
		require.NoError(t, err)
	}
	_, err = w.drs(w.user).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
	require.NoError(t, err)
	_, err = w.mgn(w.admin).DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{})
	require.Equal(t, "UninitializedAccountException", code(err), "each service by itself")
	_, err = w.drs(w.stranger).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
	require.Equal(t, "UninitializedAccountException", code(err), "each account by itself")
}

func TestMalformedInput(t *testing.T) {
	w, ctx := initialized(t)
	for _, body := range []string{`{"maxResults":`, `[]`, `{"maxResults":"ten"}`} {
		resp, answer := w.do(t, "drs", http.MethodPost, "/DescribeSourceServers", body, nil)
		require.Equal(t, 400, resp.StatusCode)
		require.Equal(t, "ValidationException", resp.Header.Get("x-amzn-ErrorType"))
		require.Contains(t, answer, `"reason":"cannotParse"`)
	}
	_, err := w.mgn(w.admin).DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{
		MaxResults: aws.Int32(1001), Filters: &mgntypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{"s-1"}}})
	bad, ok := errors.AsType[*mgntypes.ValidationException](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, mgntypes.ValidationExceptionReasonFieldValidationFailed, bad.Reason)
	var names []string
	for _, f := range bad.FieldList {
		names = append(names, *f.Name)
	}
	require.Equal(t, []string{"filters.sourceServerIDs.1.member", "filters.sourceServerIDs.1.member", "maxResults"}, names)
}

func TestPanicIsAnAnswer(t *testing.T) {
	w, ctx := initialized(t)
	id := w.add(state.DRS, account, 1)
	w.explode = true
	_, err := w.drs(w.admin).GetReplicationConfiguration(ctx, &sdkdrs.GetReplicationConfigurationInput{SourceServerID: &id})
	require.ErrorAs(t, err, new(*drstypes.InternalServerException))
	require.NotContains(t, message(err), "exploded")
	require.Contains(t, w.log.String(), "fleet exploded")
}

func TestInternalErrorsStayInside(t *testing.T) {
	w, ctx := initialized(t)
	w.broken = errors.New("the database sits in /secret/place")
	_, err := w.mgn(w.admin).DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{})
	require.Equal(t, "InternalServerException", code(err))
	require.NotContains(t, message(err), "secret")
	require.Contains(t, w.log.String(), "/secret/place")
}

func TestMountedServiceKnowsItsCaller(t *testing.T) {
	w, _ := initialized(t)
	w.endpoint.Mount("understudy", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		caller, ok := sigv4.CallerFrom(r.Context())
		body := &bytes.Buffer{}
		_, err := body.ReadFrom(r.Body)
		fmt.Fprintf(rw, "%v %s %s %s %v", ok, caller.AccountID, caller.AccessKeyID, body, err)
	}))
	_, answer := w.do(t, "understudy", http.MethodPost, "/anything?x=1", "payload", nil)
	require.Equal(t, "true "+account+" "+w.admin.ID+" payload <nil>", answer)
}

// The paths of the two services overlap; only the scope of the signature tells them apart.
func TestServicesShareOneEndpoint(t *testing.T) {
	w, ctx := initialized(t)
	d, m := w.add(state.DRS, account, 1), w.add(state.MGN, account, 2)
	fromDRS, err := w.drs(w.user).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Len(t, fromDRS.Items, 1)
	require.Equal(t, d, *fromDRS.Items[0].SourceServerID)
	fromMGN, err := w.mgn(w.user).DescribeSourceServers(ctx, &sdkmgn.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Len(t, fromMGN.Items, 1)
	require.Equal(t, m, *fromMGN.Items[0].SourceServerID)
}

func TestArnWithAnUnescapedSlash(t *testing.T) {
	w, _ := initialized(t)
	id := w.add(state.DRS, account, 1)
	arn := "arn:aws:drs:" + region + ":" + account + ":source-server/" + id
	for _, path := range []string{arn, url.PathEscape(arn)} {
		resp, answer := w.do(t, "drs", http.MethodGet, "/tags/"+path, "", nil)
		require.Equal(t, 200, resp.StatusCode, answer)
		require.JSONEq(t, `{"tags":{}}`, answer)
	}
}

var _ control.Points = snapshots{}
