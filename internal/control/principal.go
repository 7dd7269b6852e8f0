package control

import (
	"context"

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
}

// Authorize decides whether the caller in ctx may do action, as "drs:StartRecovery", to all of the
// resources; none stand for an action that names no resource. A refusal is a fault.Denied error in the
// words of the AWS services.
type Authorize func(ctx context.Context, action string, resources ...string) error
