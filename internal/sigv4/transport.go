package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Transport signs every request that goes through it. It reads bodies into memory to hash them.
type Transport struct {
	Base        http.RoundTripper // http.DefaultTransport when nil
	Credentials aws.CredentialsProvider
	Service     string
	Region      string
	Now         func() time.Time // time.Now when nil
}

// RoundTrip signs a copy of r and sends it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := drain(r)
	if err != nil {
		return nil, fault.New(fault.Transient, "sigv4: read request body", "%w", err)
	}
	signed := r.Clone(r.Context())
	if body != nil {
		signed.Body = io.NopCloser(bytes.NewReader(body))
		signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		signed.ContentLength = int64(len(body))
	}
	creds, err := t.Credentials.Retrieve(r.Context())
	if err != nil {
		return nil, fault.New(fault.Denied, "sigv4: find credentials", "%w", err).
			WithHint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
	}
	now := time.Now
	if t.Now != nil {
		now = t.Now
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), creds, signed, hex.EncodeToString(sum[:]), t.Service, t.Region, now())
	if err != nil {
		return nil, fault.New(fault.Invalid, "sigv4: sign request", "%w", err)
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(signed)
}

// drain reads and closes a request's body, as a RoundTripper must whatever happens next.
func drain(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	if closeErr := r.Body.Close(); err == nil {
		err = closeErr
	}
	return body, err
}
