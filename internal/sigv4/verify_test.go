package sigv4

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

var signedAt = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// keyring is a Keys over a map.
type keyring map[string]Secret

func (k keyring) Lookup(_ context.Context, id string) (Secret, Identity, error) {
	s, ok := k[id]
	if !ok {
		return Secret{}, Identity{}, fault.New(fault.Denied, "keyring", "no key %s", id)
	}
	return s, Identity{AccountID: "000000000001", ARN: "arn:aws:iam::000000000001:user/op"}, nil
}

var keys = keyring{
	"AKIDPLAIN":  {Key: "plain-secret"},
	"AKIDTOKEN":  {Key: "token-secret", SessionToken: "session/1+2="},
	"AKIDEXPIRE": {Key: "old-secret", SessionToken: "gone", Expires: signedAt.Add(-time.Second)},
}

func verifier() *Verifier {
	return &Verifier{Keys: keys, Now: func() time.Time { return signedAt }}
}

func hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed is a request as it arrives at a server, signed by the SDK.
func signed(t *testing.T, keyID, body string, prepare func(*http.Request)) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://control.test:8443/tags/arn%3Aaws%3Adrs%2Fs-1?b=2&a=x+y&a=%2F", strings.NewReader(body))
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("Content-Type", "application/json")
	if prepare != nil {
		prepare(r)
	}
	s := keys[keyID]
	creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: s.Key, SessionToken: s.SessionToken}
	payload := hash(body)
	if p := r.Header.Get("X-Amz-Content-Sha256"); p != "" {
		payload = p
	}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), creds, r, payload, "drs", "us-east-1", signedAt))
	r.Header.Set("User-Agent", "added after signing")
	return r
}

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestVerifyAcceptsWhatTheSDKSigns(t *testing.T) {
	for _, keyID := range []string{"AKIDPLAIN", "AKIDTOKEN"} {
		for _, body := range []string{"", `{"x":1}`} {
			r := signed(t, keyID, body, nil)
			c, err := verifier().Verify(r)
			require.NoError(t, err)
			require.Equal(t, Caller{
				Identity: Identity{AccessKeyID: keyID, AccountID: "000000000001", ARN: "arn:aws:iam::000000000001:user/op"},
				Region:   "us-east-1", Service: "drs",
			}, c)
			rest, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.Equal(t, body, string(rest), "the body is readable again")
		}
	}
}

func TestVerifyNoticesEveryChange(t *testing.T) {
	changes := map[string]func(*http.Request){
		"method":        func(r *http.Request) { r.Method = http.MethodPut },
		"path":          func(r *http.Request) { r.URL.Path += "x"; r.URL.RawPath += "x" },
		"path encoding": func(r *http.Request) { r.URL.RawPath = "" },
		"query":         func(r *http.Request) { r.URL.RawQuery = "b=3&a=x+y&a=%2F" },
		"query grown":   func(r *http.Request) { r.URL.RawQuery = "b=2&a=x+y&a=%2F&c=" },
		"host":          func(r *http.Request) { r.Host = "other.test" },
		"signed header": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"header gone":   func(r *http.Request) { r.Header.Del("Content-Type") },
		"date":          func(r *http.Request) { r.Header.Set("X-Amz-Date", signedAt.Add(time.Second).Format(dateFormat)) },
		"body":          func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"x":2}`)) },
		"length":        func(r *http.Request) { r.ContentLength = 6 },
		"signature":     replace("Authorization", "Signature=", "Signature=0"),
		"region":        replace("Authorization", "us-east-1", "us-east-2"),
		"service":       replace("Authorization", "/drs/", "/mgn/"),
		"header list":   replace("Authorization", "content-type;", ""),
		"other key":     replace("Authorization", "AKIDPLAIN", "AKIDTOKEN"),
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			r := signed(t, "AKIDPLAIN", `{"x":1}`, nil)
			change(r)
			_, err := verifier().Verify(r)
			require.Equal(t, "InvalidSignatureException", code(err))
		})
	}
}

func replace(header, old, with string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(header, strings.Replace(r.Header.Get(header), old, with, 1)) }
}

func TestVerifyRefusals(t *testing.T) {
	cases := []struct {
		name, key, code string
		change          func(*http.Request)
	}{
		{"no signature", "AKIDPLAIN", "MissingAuthenticationTokenException", func(r *http.Request) { r.Header.Del("Authorization") }},
		{"unknown key", "AKIDPLAIN", "UnrecognizedClientException", replace("Authorization", "AKIDPLAIN", "AKIDNOBODY")},
		{"two signatures", "AKIDPLAIN", "IncompleteSignatureException", func(r *http.Request) { r.Header.Add("Authorization", "x") }},
		{"header and query", "AKIDPLAIN", "IncompleteSignatureException", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=1" }},
		{"algorithm", "AKIDPLAIN", "IncompleteSignatureException", replace("Authorization", algorithm, "AWS4-ECDSA-P256-SHA256")},
		{"no credential", "AKIDPLAIN", "IncompleteSignatureException", replace("Authorization", "Credential=", "Cred=")},
		{"short credential", "AKIDPLAIN", "IncompleteSignatureException", replace("Authorization", "/us-east-1", "")},
		{"terminator", "AKIDPLAIN", "IncompleteSignatureException", replace("Authorization", terminator, "aws5")},
		{"no date", "AKIDPLAIN", "IncompleteSignatureException", func(r *http.Request) { r.Header.Del("X-Amz-Date") }},
		{"bad date", "AKIDPLAIN", "IncompleteSignatureException", func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }},
		{"scope of another day", "AKIDPLAIN", "InvalidSignatureException", replace("Authorization", "20261122", "20261121")},
		{"host not signed", "AKIDPLAIN", "InvalidSignatureException", replace("Authorization", "host;", "")},
		{"unsorted headers", "AKIDPLAIN", "IncompleteSignatureException", replace("Authorization", "content-length;content-type", "content-type;content-length")},
		{"token missing", "AKIDTOKEN", "InvalidSignatureException", func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }},
		{"expired token", "AKIDEXPIRE", "ExpiredTokenException", func(*http.Request) {}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := signed(t, c.key, `{}`, nil)
			c.change(r)
			_, err := verifier().Verify(r)
			require.Equal(t, c.code, code(err))
		})
	}
}

func TestVerifyUnsignedTokenDoesNotHelp(t *testing.T) {
	r := signed(t, "AKIDPLAIN", "", nil)
	r.Header.Set("X-Amz-Security-Token", "made up")
	_, err := verifier().Verify(r)
	require.Equal(t, "UnrecognizedClientException", code(err))
}

func TestVerifyWindow(t *testing.T) {
	for _, c := range []struct {
		late time.Duration
		want string
	}{
		{0, ""}, {5 * time.Minute, ""}, {-5 * time.Minute, ""},
		{5*time.Minute + time.Second, "Signature expired: 20261122T100000Z is now earlier than 20261122T100001Z (20261122T100501Z - 5 min.)"},
		{-5*time.Minute - time.Second, "Signature not yet current"},
	} {
		v := verifier()
		v.Now = func() time.Time { return signedAt.Add(c.late) }
		_, err := v.Verify(signed(t, "AKIDPLAIN", "", nil))
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, "InvalidSignatureException", code(err))
		require.ErrorContains(t, err, c.want)
	}
}

func TestVerifyDeclaredPayload(t *testing.T) {
	declare := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", v) }
	}
	_, err := verifier().Verify(signed(t, "AKIDPLAIN", "{}", declare(hash("{}"))))
	require.NoError(t, err)
	_, err = verifier().Verify(signed(t, "AKIDPLAIN", "{}", declare(hash("{ }"))))
	require.ErrorContains(t, err, "'x-amz-content-sha256' does not match the body")
	_, err = verifier().Verify(signed(t, "AKIDPLAIN", "{}", declare("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")))
	require.Equal(t, "InvalidSignatureException", code(err))

	r := signed(t, "AKIDPLAIN", "{}", declare(unsignedPayload))
	_, err = verifier().Verify(r)
	require.NoError(t, err)
	r = signed(t, "AKIDPLAIN", "{}", declare(unsignedPayload))
	r.TLS = nil
	_, err = verifier().Verify(r)
	require.Equal(t, "InvalidSignatureException", code(err), "without TLS the body must be signed")
}

func TestVerifyBoundsTheBody(t *testing.T) {
	v := verifier()
	v.MaxBody = 10
	_, err := v.Verify(signed(t, "AKIDPLAIN", "0123456789", nil))
	require.NoError(t, err)
	for _, length := range []int64{11, -1} {
		r := signed(t, "AKIDPLAIN", "01234567890", nil)
		r.ContentLength = length
		_, err = v.Verify(r)
		require.Equal(t, "RequestEntityTooLargeException", code(err))
	}
}

func TestVerifyPresigned(t *testing.T) {
	presigned := func(t *testing.T, keyID string, expires string) *http.Request {
		u := "https://control.test/ListStagingAccounts?maxResults=5"
		if expires != "" {
			u += "&X-Amz-Expires=" + expires
		}
		r, err := http.NewRequest(http.MethodGet, u, nil)
		require.NoError(t, err)
		s := keys[keyID]
		creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: s.Key, SessionToken: s.SessionToken}
		signedURL, _, err := v4.NewSigner().PresignHTTP(t.Context(), creds, r, hash(""), "drs", "us-east-1", signedAt)
		require.NoError(t, err)
		arrived := httptest.NewRequest(http.MethodGet, signedURL, nil)
		arrived.TLS = &tls.ConnectionState{}
		return arrived
	}
	late := func(d time.Duration) *Verifier {
		v := verifier()
		v.Now = func() time.Time { return signedAt.Add(d) }
		return v
	}
	for _, keyID := range []string{"AKIDPLAIN", "AKIDTOKEN"} {
		c, err := late(59 * time.Minute).Verify(presigned(t, keyID, "3600"))
		require.NoError(t, err)
		require.Equal(t, keyID, c.AccessKeyID)
	}
	_, err := late(61 * time.Minute).Verify(presigned(t, "AKIDPLAIN", "3600"))
	require.ErrorContains(t, err, "Signature expired")
	for _, expires := range []string{"", "0", "604801", "x", "-1"} {
		_, err = verifier().Verify(presigned(t, "AKIDPLAIN", expires))
		require.Equal(t, "IncompleteSignatureException", code(err), expires)
	}
	for _, key := range []string{"maxResults", "X-Amz-Expires", "X-Amz-Signature"} {
		r := presigned(t, "AKIDPLAIN", "3600")
		q := r.URL.Query()
		q.Set(key, "6")
		r.URL.RawQuery = q.Encode()
		_, err = verifier().Verify(r)
		require.Equal(t, "InvalidSignatureException", code(err), key)
	}
}

func TestLookupFailureIsNoRefusal(t *testing.T) {
	v := verifier()
	v.Keys = brokenKeys{}
	_, err := v.Verify(signed(t, "AKIDPLAIN", "", nil))
	require.True(t, fault.Is(err, fault.Transient))
	require.NotErrorAs(t, err, new(*Error))
}

type brokenKeys struct{}

func (brokenKeys) Lookup(context.Context, string) (Secret, Identity, error) {
	return Secret{}, Identity{}, fault.New(fault.Transient, "keys", "store is away")
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := Secret{Key: "hush"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, s), "hush")
	}
	require.NotContains(t, s.LogValue().String(), "hush")
}

// Over a real connection: what Transport signs, Verify accepts, body, query and all.
func TestTransport(t *testing.T) {
	v := &Verifier{Keys: keys}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := v.Verify(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", c.AccessKeyID, c.Service, c.Region, body)
	}))
	defer srv.Close()
	client := srv.Client()
	client.Transport = &Transport{
		Base: client.Transport, Service: "understudy", Region: "home-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDTOKEN", SecretAccessKey: "token-secret", SessionToken: "session/1+2="}, nil
		}),
	}
	for _, body := range []string{"", "hello"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/a%2Fb/~c d?"+url.Values{"k": {"v w", "+"}}.Encode(), strings.NewReader(body))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "AKIDTOKEN understudy home-1 "+body, string(answer))
	}
}

func TestTransportWithoutCredentials(t *testing.T) {
	closed := false
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://nowhere.test", closer{strings.NewReader("x"), &closed})
	require.NoError(t, err)
	_, err = (&Transport{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("none")
	})}).RoundTrip(req)
	require.True(t, fault.Is(err, fault.Denied))
	require.True(t, closed)
}

type closer struct {
	io.Reader
	closed *bool
}

func (c closer) Close() error { *c.closed = true; return nil }

func FuzzParseAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/drs/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64))
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;,Signature==")
	f.Add("AWS4-HMAC-SHA256 ,=,")
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseAuthorization(header)
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			return
		}
		require.NotEmpty(t, c.accessKeyID)
		require.NotEmpty(t, c.region)
		require.NotEmpty(t, c.service)
		require.NotContains(t, c.accessKeyID+c.region+c.service, "/")
		require.NotContains(t, c.signed, "")
		require.NotEmpty(t, c.signature)
	})
}
