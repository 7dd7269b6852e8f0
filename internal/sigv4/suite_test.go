package sigv4

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The public test cases of Signature Version 4, by fact: what was sent, and the signature that it has.

const exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

var exampleAt = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

const exampleToken = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/" +
	"qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

type exampleKey struct{ token string }

func (k exampleKey) Lookup(context.Context, string) (Secret, Identity, error) {
	return Secret{Key: exampleSecret, SessionToken: k.token}, Identity{}, nil
}

// arrived is a request as a server has it.
func arrived(t *testing.T, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))))
	require.NoError(t, err, text)
	return r
}

const letters = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var suite = []struct {
	name, line, headers, body string // headers beside Host and X-Amz-Date
	signed, signature         string
	token                     string
}{
	{"get-vanilla", "GET /", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""},
	{"get-vanilla-query-order-key-case", "GET /?Param2=value2&Param1=value1", "", "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500", ""},
	{"get-vanilla-query-order-value", "GET /?Param1=value2&Param1=value1", "", "", "host;x-amz-date", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694", ""},
	{"get-vanilla-empty-query-key", "GET /?Param1=value1", "", "", "host;x-amz-date", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb", ""},
	{"get-vanilla-query-unreserved", "GET /?" + letters + "=" + letters, "", "", "host;x-amz-date", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197", ""},
	{"get-vanilla-utf8-query", "GET /?\u1234=bar", "", "", "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04", ""},
	{"get-unreserved", "GET /" + letters, "", "", "host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f", ""},
	{"get-header-key-duplicate", "GET /", "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n", "", "host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea", ""},
	{"get-header-value-order", "GET /", "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\n", "", "host;my-header1;x-amz-date", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01", ""},
	{"get-header-value-trim", "GET /", "My-Header1: value1\nMy-Header2: \"a   b   c\"\n", "", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", ""},
	{"post-vanilla", "POST /", "", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", ""},
	{"post-vanilla-query", "POST /?Param1=value1", "", "", "host;x-amz-date", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11", ""},
	{"post-header-key-sort", "POST /", "My-Header1:value1\n", "", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c", ""},
	{"post-header-value-case", "POST /", "My-Header1:VALUE1\n", "", "host;my-header1;x-amz-date", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d", ""},
	{"post-sts-header-before", "POST /", "X-Amz-Security-Token:" + exampleToken + "\n", "", "host;x-amz-date;x-amz-security-token", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", exampleToken},
	{"post-sts-header-after", "POST /", "X-Amz-Security-Token:" + exampleToken + "\n", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", exampleToken},
	{"post-x-www-form-urlencoded", "POST /", "Content-Type:application/x-www-form-urlencoded\nContent-Length:13\n", "Param1=value1", "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a", ""},
	{"post-x-www-form-urlencoded-parameters", "POST /", "Content-Type:application/x-www-form-urlencoded; charset=utf8\nContent-Length:13\n", "Param1=value1", "content-type;host;x-amz-date", "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe", ""},
	{"get-relative", "GET /example/..", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""},
	{"get-relative-relative", "GET /example1/example2/../..", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""},
	{"get-slash", "GET //", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""},
	{"get-slash-dot-slash", "GET /./", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""},
	{"get-slash-pointless-dot", "GET /./example", "", "", "host;x-amz-date", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5", ""},
	{"get-slashes", "GET //example//", "", "", "host;x-amz-date", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84", ""},
}

func TestPublicCases(t *testing.T) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			text := func(signature string) string {
				return c.line + " HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n" + c.headers +
					"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + c.signed +
					", Signature=" + signature + "\n\n" + c.body
			}
			v := &Verifier{Keys: exampleKey{c.token}, Now: func() time.Time { return exampleAt }}
			caller, err := v.Verify(arrived(t, text(c.signature)))
			require.NoError(t, err)
			require.Equal(t, "service", caller.Service)
			_, err = v.Verify(arrived(t, text(strings.Repeat("0", 64))))
			require.Equal(t, "InvalidSignatureException", code(err))
		})
	}
}

// The case of the first test cases, whose requests are dated by Date alone.
func TestDateHeaderAlone(t *testing.T) {
	send := func(date, day, signed string) error {
		r := arrived(t, "GET / HTTP/1.1\nHost:host.foo.com\nDate:"+date+"\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"+day+
			"/us-east-1/host/aws4_request, SignedHeaders="+signed+", Signature=b27ccfbfa7df52a200ff74193ca6e32d4b48b8856fab7ebf1c595d0670a7e470\n\n")
		v := &Verifier{Keys: exampleKey{}, Now: func() time.Time { return time.Date(2011, 9, 9, 23, 36, 0, 0, time.UTC) }}
		_, err := v.Verify(r)
		return err
	}
	require.NoError(t, send("Mon, 09 Sep 2011 23:36:00 GMT", "20110909", "date;host"))
	require.Equal(t, "InvalidSignatureException", code(send("Mon, 09 Sep 2011 23:36:01 GMT", "20110909", "date;host")))
	require.Equal(t, "InvalidSignatureException", code(send("Mon, 09 Sep 2011 23:50:00 GMT", "20110909", "date;host")), "too far off")
	require.ErrorContains(t, send("Mon, 09 Sep 2011 23:36:00 GMT", "20110909", "host"), "'Date' must be a 'SignedHeader'")
	require.Equal(t, "IncompleteSignatureException", code(send("yesterday", "20110909", "date;host")))
	require.ErrorContains(t, send("Mon, 09 Sep 2011 23:36:00 GMT", "20110908", "date;host"), "does not match YYYYMMDD")
}

// The query form's public case: IAM's ListUsers, for a minute.
func TestPublicQueryCase(t *testing.T) {
	const line = "GET /?Action=ListUsers&Version=2010-05-08&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fiam%2Faws4_request" +
		"&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost&X-Amz-Signature=37ac2f4fde00b0ac9bd9eadeb459b1bbee224158d66e7ae5fcadb70b2d181d02"
	for late, want := range map[time.Duration]string{0: "", 60 * time.Second: "", 61 * time.Second: "InvalidSignatureException", -6 * time.Minute: "InvalidSignatureException"} {
		v := &Verifier{Keys: exampleKey{}, Now: func() time.Time { return exampleAt.Add(late) }}
		_, err := v.Verify(arrived(t, line+" HTTP/1.1\nHost: iam.amazonaws.com\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\n\n"))
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, want, code(err), late)
	}
	v := &Verifier{Keys: exampleKey{}, Now: func() time.Time { return exampleAt }}
	for _, change := range [][2]string{{"ListUsers", "ListRoles"}, {"Expires=60", "Expires=600"}, {"us-east-1", "us-east-2"}, {"%3Bhost", "%3Bhost%3Bx"}, {"GET", "PUT"}} {
		_, err := v.Verify(arrived(t, strings.Replace(line, change[0], change[1], 1)+" HTTP/1.1\nHost: iam.amazonaws.com\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\n\n"))
		require.Equal(t, "InvalidSignatureException", code(err), change)
	}
}

// Headers that the SDK's signer leaves out count when a client says it has signed them.
func TestHeadersThatTheSDKLeavesOut(t *testing.T) {
	sign := func(r *http.Request, signed ...string) {
		c := &claim{accessKeyID: "AKIDEXAMPLE", day: "20150830", region: "us-east-1", service: "service", signed: signed, date: exampleAt}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="+
			strings.Join(signed, ";")+", Signature="+signature(r, c, exampleSecret, hash("")))
	}
	v := &Verifier{Keys: exampleKey{}, Now: func() time.Time { return exampleAt }}
	r := arrived(t, "POST / HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\nContent-Length: 0\n\n")
	sign(r, "content-length", "host", "x-amz-date")
	_, err := v.Verify(r)
	require.NoError(t, err, "an empty body's length")
	for _, change := range []string{"", "curl/9"} {
		r := arrived(t, "GET / HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\nUser-Agent:  curl/8   x\nContent-Length: 0\n\n")
		sign(r, "content-length", "host", "user-agent", "x-amz-date")
		if change != "" {
			r.Header.Set("User-Agent", change)
		}
		_, err := v.Verify(r)
		require.Equal(t, change == "", err == nil, "%v", err)
	}
}

// What is written here by hand is what the SDK's signer writes.
func TestHandAgainstSDK(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("aZ09-._~ /%&=+*?:;,@\u00e9\u1234")), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		r := httptest.NewRequest(rapid.SampledFrom([]string{"GET", "POST", "DELETE"}).Draw(t, "method"), "http://example.test:8480/", nil)
		r.URL.Path = "/" + text.Draw(t, "path")
		q := r.URL.Query()
		for range rapid.IntRange(0, 4).Draw(t, "parameters") {
			q.Add(text.Draw(t, "key"), text.Draw(t, "value"))
		}
		r.URL.RawQuery = q.Encode()
		signed := []string{"host", "x-amz-date"}
		if rapid.Bool().Draw(t, "header") {
			for range rapid.IntRange(1, 3).Draw(t, "values") {
				r.Header.Add("My-Header", strings.TrimSpace(text.Draw(t, "header value")))
			}
			signed = []string{"host", "my-header", "x-amz-date"}
		}
		creds := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: exampleSecret}
		require.NoError(t, v4.NewSigner().SignHTTP(context.Background(), creds, r, hash(""), "drs", "us-east-1", exampleAt))
		sdk, err := parseAuthorization(r.Header.Get("Authorization"))
		require.NoError(t, err)
		require.Equal(t, signed, sdk.signed)
		sdk.date = exampleAt
		require.Equal(t, sdk.signature, signature(r, sdk, exampleSecret, hash("")))
	})
}

// Whatever arrives is refused in the words of the services, and never verified.
func FuzzVerify(f *testing.F) {
	for _, c := range suite {
		f.Add(c.line + " HTTP/1.1\nHost:a\nX-Amz-Date:20150830T123600Z\n" + c.headers +
			"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + c.signed + ", Signature=" + c.signature + "\n\n")
	}
	f.Add("GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20150830%2Fc%2Fd%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60" +
		"&X-Amz-SignedHeaders=host&X-Amz-Signature=" + strings.Repeat("a", 64) + " HTTP/1.1\nHost:a\n\n")
	f.Add("GET / HTTP/1.1\nHost:a\nDate:Mon, 09 Sep 2011 23:36:00 GMT\nAuthorization: AWS4-HMAC-SHA256 Credential=a/20110909/c/d/aws4_request, SignedHeaders=date;host, Signature=" + strings.Repeat("b", 64) + "\n\n")
	v := &Verifier{Keys: exampleKey{}, Now: func() time.Time { return exampleAt }}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil || r.Host == "example.amazonaws.com" {
			return // the host of the public cases, which do verify
		}
		_ = ClaimedService(r)
		_, err = v.Verify(r)
		require.ErrorAs(t, err, new(*Error))
	})
}
