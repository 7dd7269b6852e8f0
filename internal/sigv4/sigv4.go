// Package sigv4 verifies AWS Signature Version 4 requests and signs our own.
//
// Verification recomputes the signature with the SDK's own signer wherever that can write what the client
// signed, so that there is no second opinion of what a canonical request is. The API edges use Verifier; the command line and the agent use Transport.
package sigv4

import (
	"context"
	"log/slog"
	"time"
)

// Identity is who signed a request.
type Identity struct {
	AccessKeyID string
	AccountID   string
	ARN         string
	Admin       bool // may set an account up
}

// Secret is what an access key is verified with. It never shows its content in logs.
type Secret struct {
	Key          string
	SessionToken string    // of temporary credentials, else ""
	Expires      time.Time // of temporary credentials, else zero
}

// LogValue keeps the key out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

func (Secret) String() string { return "[secret]" }

// GoString keeps the key out of %#v too.
func (Secret) GoString() string { return "[secret]" }

// Keys finds access keys. An unknown key is an error of kind fault.Denied.
type Keys interface {
	Lookup(ctx context.Context, accessKeyID string) (Secret, Identity, error)
}

// Caller is the outcome of a verification: who, and what the credential was scoped to.
type Caller struct {
	Identity
	Region  string
	Service string
}

type callerKey struct{}

// WithCaller returns a context that carries the verified caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom is the verified caller of a request's context.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
