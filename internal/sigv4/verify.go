package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	// DefaultSkew is how far a client's clock may be off.
	DefaultSkew = 5 * time.Minute
	// DefaultMaxBody is the largest body that is read.
	DefaultMaxBody = 1 << 20

	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// Verifier checks the signatures of requests.
type Verifier struct {
	Keys    Keys
	Now     func() time.Time // time.Now when nil
	Skew    time.Duration    // DefaultSkew when 0
	MaxBody int64            // DefaultMaxBody when 0
}

// Verify says who sent r. It reads the body, to check its hash, and leaves r.Body as new. A refusal is an
// *Error; any other error means that the key could not be looked up.
func (v *Verifier) Verify(r *http.Request) (Caller, error) {
	c, err := readClaim(r)
	if err != nil {
		return Caller{}, err
	}
	if err := v.checkTime(c); err != nil {
		return Caller{}, err
	}
	secret, id, err := v.Keys.Lookup(r.Context(), c.accessKeyID)
	switch {
	case fault.Is(err, fault.Denied):
		return Caller{}, unrecognized()
	case err != nil:
		return Caller{}, fault.Wrap("sigv4: look up access key", err)
	}
	payload, err := v.payloadHash(r, c)
	if err != nil {
		return Caller{}, err
	}
	if err := checkSignature(r, c, secret, payload); err != nil {
		return Caller{}, err
	}
	if err := v.checkToken(c, secret); err != nil {
		return Caller{}, err
	}
	id.AccessKeyID = c.accessKeyID
	return Caller{Identity: id, Region: c.region, Service: c.service}, nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now().UTC()
	}
	return time.Now().UTC()
}

// checkTime refuses what was signed too long ago or too far ahead.
func (v *Verifier) checkTime(c *claim) error {
	skew := v.Skew
	if skew == 0 {
		skew = DefaultSkew
	}
	now := v.now()
	if latest := now.Add(skew); c.date.After(latest) {
		return notYet(c.date, latest, now)
	}
	life := skew
	if c.presigned {
		life = c.expires
	}
	if earliest := now.Add(-life); c.date.Before(earliest) {
		return expired(c.date, earliest, now)
	}
	return nil
}

// checkToken holds the session token against the key's. It is looked at after the signature, so that only
// the holder of the secret learns about the token.
func (v *Verifier) checkToken(c *claim, s Secret) error {
	if subtle.ConstantTimeCompare([]byte(c.token), []byte(s.SessionToken)) != 1 {
		return unrecognized()
	}
	if !s.Expires.IsZero() && !v.now().Before(s.Expires) {
		return expiredToken()
	}
	return nil
}

// payloadHash is the hash that the signature covers. The body is read in every case, so that what is
// handed on is what was checked.
func (v *Verifier) payloadHash(r *http.Request, c *claim) (string, error) {
	limit := v.MaxBody
	if limit == 0 {
		limit = DefaultMaxBody
	}
	body, err := readBody(r, limit)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if c.payload == unsignedPayload {
		if r.TLS == nil {
			return "", invalid("An unsigned payload is accepted over TLS only.")
		}
		return unsignedPayload, nil
	}
	sum := sha256.Sum256(body)
	have := hex.EncodeToString(sum[:])
	if c.payload != "" && subtle.ConstantTimeCompare([]byte(have), []byte(c.payload)) != 1 {
		return "", invalid("The value of 'x-amz-content-sha256' does not match the body.")
	}
	return have, nil
}

func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if closeErr := r.Body.Close(); err == nil {
		err = closeErr
	}
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig) || int64(len(body)) > limit:
		return nil, tooLarge()
	case err != nil:
		return nil, incomplete("Request body could not be read.")
	}
	return body, nil
}

// checkSignature holds the signature against the request as it came, and, if its path has dots or empty
// segments, as others write it.
func checkSignature(r *http.Request, c *claim, s Secret, payload string) error {
	for _, form := range []*http.Request{r, normalised(r)} {
		if form == nil {
			continue
		}
		want, err := recompute(form, c, s, payload)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) == 1 {
			return nil
		}
	}
	return mismatch()
}

// recompute signs a copy of r, reduced to what the client says it signed, with the SDK's signer. The signer
// is made anew each time: it keeps derived keys by access key id, and would outlive a changed secret.
func recompute(r *http.Request, c *claim, s Secret, payload string) (string, error) {
	if err := allThere(r, c); err != nil {
		return "", err
	}
	if !c.presigned && c.byHand(r) {
		return signature(r, c, s.Key, payload), nil
	}
	bare := reduced(r, c)
	creds := aws.Credentials{AccessKeyID: c.accessKeyID, SecretAccessKey: s.Key}
	options := func(o *v4.SignerOptions) {
		o.DisableHeaderHoisting = true
		o.DisableSessionToken = true // the token is signed where the client put it
	}
	if c.presigned {
		return presign(r.Context(), bare, c, creds, payload, options)
	}
	if err := v4.NewSigner().SignHTTP(r.Context(), creds, bare, payload, c.service, c.region, c.date, options); err != nil {
		return "", fault.New(fault.Bug, "sigv4: recompute", "%w", err)
	}
	again, err := parseAuthorization(bare.Header.Get("Authorization"))
	if err != nil {
		return "", fault.New(fault.Bug, "sigv4: recompute", "%w", err)
	}
	return again.signature, nil
}

func presign(ctx context.Context, bare *http.Request, c *claim, creds aws.Credentials, payload string, options func(*v4.SignerOptions)) (string, error) {
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, bare, payload, c.service, c.region, c.date, options)
	if err != nil {
		return "", fault.New(fault.Bug, "sigv4: recompute", "%w", err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		return "", fault.New(fault.Bug, "sigv4: recompute", "%w", err)
	}
	return u.Query().Get("X-Amz-Signature"), nil
}

// reduced is r with only its signed headers and without its signature.
func reduced(r *http.Request, c *claim) *http.Request {
	bare := &http.Request{
		Method: r.Method,
		Host:   r.Host,
		Header: http.Header{},
		URL:    &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	if r.TLS != nil {
		bare.URL.Scheme = "https" // the signer leaves the scheme's own port out of the host
	}
	for _, name := range c.signed {
		switch name {
		case "host":
		case "content-length":
			bare.ContentLength = r.ContentLength
		default:
			bare.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	if c.presigned {
		q := r.URL.Query()
		q.Del("X-Amz-Signature")
		bare.URL.RawQuery = q.Encode()
	}
	return bare
}

// allThere refuses a request that lacks a header that it says is signed: an intermediary removed it.
func allThere(r *http.Request, c *claim) error {
	for _, name := range c.signed {
		switch name {
		case "host", "content-length", "transfer-encoding": // kept elsewhere by the HTTP server
		default:
			if len(r.Header.Values(name)) == 0 {
				return mismatch()
			}
		}
	}
	return nil
}
