package control

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/control/access/policy"
)

// Principal is who acts, and what that principal may do.
type Principal struct {
	Account string
	ARN     string // as GetCallerIdentity tells it
	Role    string // ARN of the role that a session has taken on, else ""
	ID      string // unique, never used again
	User    string // name of the user, "" of a role's session
	// Session tells temporary credentials from a user's own key.
	Session  bool
	Policies policy.Set
	Quotas   map[string]int64 // of the account, by code, where it has its own
}

type principalKey struct{}

// WithPrincipal returns a context that carries who acts.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom is who acts in a request's context; nobody, who may do nothing, when it was not verified.
func PrincipalFrom(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// Authorize decides whether the caller in ctx may do action, as "drs:StartRecovery", to all of the
// resources; none stand for an action that names no resource. A refusal is a fault.Denied error in the
// words of the AWS services.
type Authorize func(ctx context.Context, action string, resources ...string) error

// QuotaError says which quota is full; ErrQuota is in its chain.
type QuotaError struct {
	Value int64
	What  string // as "replicating source servers"
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: at most %d %s", ErrQuota, e.Value, e.What)
}
func (e *QuotaError) Unwrap() error { return ErrQuota }

// ThrottleError says that an account sends requests faster than it may; it is in the chain of a
// fault.Transient error.
type ThrottleError struct {
	Quota string // code of the rate
	Wait  time.Duration
}

func (e *ThrottleError) Error() string { return "Rate exceeded" }
